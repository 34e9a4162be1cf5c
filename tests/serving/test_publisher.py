"""What a publication leaves in the store, and how it is asked for again; without Ray."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from t3d_server.errors import (
    ImportFailedError,
    InvalidPackageError,
    LoadFailedError,
    MissingBlobsError,
    StoreUnavailableError,
    T3dError,
    VersionConflictError,
)
from t3d_server.models import AlgorithmVersion, Device, LogLine, Manifest, PublishRequest
from t3d_server.packages.builder import build, store_package
from t3d_server.packages.folder import materialise
from t3d_server.packages.registry import Registry
from t3d_server.serving import publishing
from t3d_server.serving.publishing import Publisher
from t3d_server.storage.memory import MemoryObjectStore

RUNNER = b"from t3d_server.algorithm_utils import BaseRunner\nclass Runner(BaseRunner):\n    pass\n"
MANIFEST = b'[project]\nname = "foo"\nversion = "1.0.0"\n[tool.t3dserver]\ncheck_importable = true\n'


class Store(MemoryObjectStore):
    """A store that refuses some keys.

    Attributes:
        broken: beginning of the keys that cannot be written.
    """

    broken: str | None = None

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> None:
        if self.broken is not None and key.startswith(self.broken):
            raise StoreUnavailableError(f"{key} cannot be stored")
        super().put(key, data, if_absent=if_absent)

    def keys(self, prefix: str = "") -> list[str]:
        return [stat.key for stat in self.list(prefix)]


class Site:
    """A publisher whose builds are done in this process, and whose replicas the test plays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store()
        self.registry = Registry(self.store)
        self.builds = 0
        self.building = asyncio.Event()
        self.building.set()
        self.import_error: T3dError | None = None
        self.load_error: T3dError | None = None
        self.removal_error: T3dError | None = None
        self.served: set[str] = set()
        self.publisher = Publisher(self.store, self, self.registry, self, lambda: ["cpu"], self.changed)

    def upload(self, manifest: bytes = MANIFEST, weights: bytes = b"weights") -> PublishRequest:
        """Uploads a folder as a client does, and gives the request to publish it."""
        files = {}
        for path, content in {"Runner.py": RUNNER, "pyproject.toml": manifest, "files/w.pt": weights}.items():
            files[path] = hashlib.sha256(content).hexdigest()
            self.store.put(f"blobs/{files[path]}", content)
        return PublishRequest(files=files)

    async def publish(self, request: PublishRequest) -> AlgorithmVersion:
        publication = await self.publisher.publish(request, 10)
        assert publication.version is not None
        return publication.version

    async def build(self, request: PublishRequest) -> AlgorithmVersion:
        self.builds += 1
        await self.building.wait()
        folder = self.folder / str(self.builds)
        materialise(self.store, request.files, folder)
        return store_package(self.store, build(folder, tags={}))

    async def check_import(self, version: AlgorithmVersion) -> AlgorithmVersion:
        if self.import_error is not None:
            raise self.import_error
        return version

    async def require_gpu_memory(self, manifest: Manifest) -> None:
        raise AssertionError("there is no GPU")

    async def deploy(self, version: AlgorithmVersion, devices: list[Device]) -> None:
        self.served.add(f"{version.manifest.name}-{version.manifest.version}")

    async def prove(self, manifest: Manifest, device: Device) -> tuple[Manifest, list[LogLine]]:
        if self.load_error is not None:
            raise self.load_error
        return manifest, []

    async def remove(self, application: str) -> None:
        self.served.discard(application)
        if self.removal_error is not None:
            raise self.removal_error

    async def changed(self) -> None:
        pass


def at_a_site(test: Callable[[Site], Awaitable[None]]) -> Callable[[Path], None]:
    """Runs an async test in an event loop of its own, and not for ever."""

    @functools.wraps(test)
    def wrapper(tmp_path: Path) -> None:
        async def play() -> None:
            await asyncio.wait_for(test(Site(tmp_path)), 100)

        asyncio.run(play())

    del wrapper.__wrapped__  # pytest would look for the test's own arguments
    return wrapper


@at_a_site
async def test_a_published_version_is_given_again_without_its_blobs(site: Site) -> None:
    """As after an answer that was lost; it becomes current again."""
    request = site.upload()
    first = await site.publish(request)
    await site.publish(site.upload(MANIFEST.replace(b"1.0.0", b"2.0.0")))
    assert site.store.keys("blobs/") == []
    assert await site.publish(request) == first
    assert site.registry.info("foo").current == "1.0.0"
    assert site.builds == 2


@at_a_site
async def test_a_version_that_cannot_load_is_told_with_its_doubts(site: Site) -> None:
    """One of them may be the cause."""
    site.load_error = LoadFailedError("mouldy")
    with pytest.raises(LoadFailedError) as raised:
        await site.publish(site.upload(MANIFEST + b"obfuscat = true\n"))
    doubt = "warning: tool.t3dserver.obfuscat: unknown and ignored; did you mean 'obfuscate'?"
    assert doubt in map(str, raised.value.problems)


@at_a_site
async def test_a_success_that_nobody_heard_of_is_no_answer_once_the_version_is_removed(site: Site) -> None:
    request = site.upload()
    assert (await site.publisher.publish(request, 0)).version is None
    async with site.publisher.lock:
        site.registry.remove("foo", "1.0.0")
    with pytest.raises(MissingBlobsError):
        await site.publish(request)
    assert (await site.publish(site.upload())).published_at is not None


@at_a_site
async def test_other_content_than_that_of_a_removed_version_is_refused_before_it_is_loaded(site: Site) -> None:
    """It leaves nothing; what the version was can be published again."""
    await site.publish(site.upload())
    site.registry.remove("foo", "1.0.0")
    before = site.store.keys()
    site.load_error = LoadFailedError("x")
    with pytest.raises(VersionConflictError, match=r"raise it to 1\.0\.1"):
        await site.publish(site.upload(weights=b"others"))
    assert site.store.keys() == before
    site.load_error = None
    assert (await site.publish(site.upload())).published_at is not None


@at_a_site
async def test_a_failure_that_nobody_heard_of_is_told_for_a_while(site: Site) -> None:
    request = site.upload(b"[project]\n")
    await site.publisher.publish(request, 0)
    async with site.publisher.lock:
        pass
    with pytest.raises(InvalidPackageError, match="breaks the rules"):
        await site.publish(request)
    assert site.builds == 1


def test_a_failure_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "FAILURE_REMEMBERED_S", 0.01)

    @at_a_site
    async def play(site: Site) -> None:
        site.load_error = LoadFailedError("no room")
        await site.publisher.publish(site.upload(), 0)
        while site.publisher._publications:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0.01)
        site.load_error = None
        assert await site.publish(site.upload())

    play(tmp_path)


@at_a_site
async def test_a_publication_under_way_is_joined_however_many_there_are(site: Site) -> None:
    site.building.clear()
    requests = [site.upload(weights=str(number).encode()) for number in range(150)]
    waiting = [asyncio.create_task(site.publish(request)) for request in [*requests, requests[0]]]
    await asyncio.sleep(0)
    site.building.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert answers[0] is answers[-1]
    assert site.builds == 150


@pytest.mark.parametrize("fails", ["import", "load", "record", "pointer", "conflict"])
def test_a_failure_leaves_nothing(tmp_path: Path, fails: str) -> None:
    """The content of versions that are there stays, and what fails while tidying up does not hide the reason."""

    @at_a_site
    async def play(site: Site) -> None:
        await site.publish(site.upload(MANIFEST.replace(b"foo", b"bar")))
        error: T3dError = StoreUnavailableError("x")
        if fails == "import":
            error = site.import_error = ImportFailedError("x")
        elif fails == "load":
            error = site.load_error = LoadFailedError("x")
            site.removal_error = StoreUnavailableError("the application cannot be removed")
        elif fails == "conflict":
            error = VersionConflictError("x")
            await site.publish(site.upload())
        else:
            site.store.broken = "algorithms/foo/" if fails == "record" else "algorithms/foo/current"
        before, served = site.store.keys(), set(site.served)
        with pytest.raises(type(error)):
            await site.publish(site.upload(MANIFEST + b"# other\n", weights=b"others"))
        assert site.store.keys() == before
        assert site.served == served

    play(tmp_path)


@at_a_site
async def test_blobs_wait_for_those_that_are_missing(site: Site) -> None:
    request = site.upload()
    site.store.delete(f"blobs/{request.files['Runner.py']}")
    with pytest.raises(MissingBlobsError):
        await site.publish(request)
    assert len(site.store.keys("blobs/")) == 2


@at_a_site
async def test_only_blobs_are_deleted(site: Site) -> None:
    """Whatever a client calls a hash."""
    site.store.put("blobs/../datasets/x.h5", b"")
    with pytest.raises(InvalidPackageError):
        await site.publish(PublishRequest(files={"Runner.py": "../datasets/x.h5"}))
    assert site.store.keys() == ["blobs/../datasets/x.h5"]

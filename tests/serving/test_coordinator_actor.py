"""What the coordinator promises while versions, the store or the cluster fail; without a cluster."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from t3d_server.datasets.store import DatasetStore
from t3d_server.errors import AlgorithmNotFoundError, LoadFailedError, StoreUnavailableError
from t3d_server.ids import new_id
from t3d_server.models import AlgorithmVersion, Device, Manifest
from t3d_server.packages.registry import Registry
from t3d_server.run_store.history import RunHistory
from t3d_server.runs.acceptance import RunLimits
from t3d_server.serving import coordinator_actor
from t3d_server.serving.catalog import Catalog
from t3d_server.serving.coordinator_actor import CoordinatorActor
from t3d_server.serving.resources import PlacementDefaults, Resources
from t3d_server.storage.base import ObjectStat
from t3d_server.storage.memory import MemoryObjectStore


def version(name: str) -> AlgorithmVersion:
    return AlgorithmVersion(
        manifest=Manifest(name=name, version="1.0.0"), source_sha256=name, module_sha256=name, assets={}
    )


class Applications:
    """Serves in name; some cannot be."""

    cannot: frozenset[str] = frozenset()
    served: set[str]

    def __init__(self, *_: object) -> None:
        type(self).served = set()

    async def deploy(self, version: AlgorithmVersion, devices: list[Device]) -> None:
        if version.manifest.name in self.cannot:
            raise LoadFailedError("it cannot be served")
        self.served.add(f"{version.manifest.name}-{version.manifest.version}")

    async def remove(self, application: str) -> None:
        self.served.discard(application)

    async def remove_others(self, names: set[str]) -> None:
        pass


class Store(MemoryObjectStore):
    """A store that cannot delete some keys, as often as it is told."""

    refusals: list[str]

    def delete(self, *keys: str) -> None:
        if self.refusals and any(key.startswith(self.refusals[0]) for key in keys):
            raise StoreUnavailableError(self.refusals.pop(0))
        super().delete(*keys)


@pytest.fixture
def store() -> Store:
    store = Store()
    store.refusals = []
    for name in ("blur", "sharpen"):
        store.put(f"modules/{name}.zip", b"")
        Registry(store).publish(version(name))
    return store


@pytest.fixture
def resources(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resources:
    """Of a coordinator whose cluster has a CPU."""
    monkeypatch.setattr(coordinator_actor, "Applications", Applications)
    monkeypatch.setattr(coordinator_actor, "cluster_devices", lambda: ["cpu"])
    monkeypatch.setattr(coordinator_actor, "serve_instance", lambda: "the only one")
    for name in ("log_to_stderr", "log_with_serve"):  # which are for good, in this process
        monkeypatch.setattr(coordinator_actor, name, lambda: None)
    return Resources(
        store=store,
        datasets=DatasetStore(store, scratch=tmp_path, max_dataset_bytes=0),
        history=RunHistory(store),
        cache=tmp_path,
        scratch=tmp_path,
        placement=PlacementDefaults(
            num_cpus=1, num_gpus=1, gpu_memory_bytes=None, max_replicas=1, idle_s=1, longest_run_s=1
        ),
        run_limits=RunLimits(max_run_s=1, cancel_grace_s=1, max_queued=1, max_queued_per_algorithm=1),
        keep_keys_s=1,
        tokens=None,
        tags={},
        max_dataset_bytes=0,
        max_package_bytes=0,
        max_package_files=0,
    )


async def started(resources: Resources) -> CoordinatorActor:
    actor = object.__new__(CoordinatorActor)
    await actor.__init__(lambda: resources, new_id())  # type: ignore[misc]  # as Ray does
    await actor.ready()
    return actor


def test_versions_that_cannot_be_served_or_read_leave_the_others_alone(
    resources: Resources, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Applications, "cannot", frozenset(["blur"]))
    store.put("algorithms/other/1.0.0.json", b"{}")

    asyncio.run(started(resources))
    assert Applications.served == {"sharpen-1.0.0"}


def test_what_has_expired_is_removed(resources: Resources, store: Store, tmp_path: Path) -> None:
    """From the start on, without being asked."""
    datasets = DatasetStore(store, scratch=tmp_path, max_dataset_bytes=0, keep_s=3600)
    store.put("datasets/019012d5-0000-7000-8000-000000000000.h5", b"")  # of 2024

    async def play() -> None:
        await started(dataclasses.replace(resources, datasets=datasets))
        while list(store.list("datasets/")):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(play(), 60))


@pytest.mark.parametrize("refused", ["algorithms/blur/1.0.0.json", "algorithms/blur/current.json", "modules/"])
def test_a_removal_that_the_store_interrupts_can_be_repeated(resources: Resources, store: Store, refused: str) -> None:
    """It ends with nothing of the version left but its tombstone, and only then it is not found."""

    async def play() -> None:
        actor = await started(resources)
        store.refusals = [refused]
        with pytest.raises(StoreUnavailableError):
            await actor.remove("blur", "1.0.0", False)
        await actor.remove("blur", "1.0.0", False)
        assert [stat.key for stat in store.list("") if "blur" in stat.key] == ["algorithms/blur/1.0.0.removed"]
        assert Applications.served == {"sharpen-1.0.0"}
        with pytest.raises(AlgorithmNotFoundError):
            await actor.remove("blur", "1.0.0", False)

    asyncio.run(play())


def test_devices_are_asked_for_again_after_an_error(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator_actor, "REFRESH_S", 0.01)
    told: list[Any] = [["cpu"], ConnectionError("no GCS"), ["cpu", "gpu"]]

    def devices() -> list[Device]:
        answer = told.pop(0) if len(told) > 1 else told[0]
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    async def play() -> None:
        monkeypatch.setattr(coordinator_actor, "cluster_devices", devices)
        actor = await started(resources)
        async with asyncio.timeout(60):
            while "gpu" not in await actor.devices():  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0.01)

    asyncio.run(play())


def test_the_catalog_keeps_the_newer_of_two_readings() -> None:
    listed, go_on = threading.Event(), threading.Event()

    class SlowOnce(MemoryObjectStore):
        def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectStat]:
            found = super().list(prefix, start_after=start_after)
            if not listed.is_set():
                listed.set()
                go_on.wait(60)
            return found

    async def play() -> None:
        store = SlowOnce()
        catalog = Catalog(Registry(store), store)
        older = asyncio.create_task(catalog.refresh())
        await asyncio.to_thread(listed.wait, 60)
        Registry(store).publish(version("blur"))
        newer = asyncio.create_task(catalog.refresh())
        await asyncio.wait({newer}, timeout=0.2)  # the time that it would need if it did not wait for its turn
        go_on.set()
        await asyncio.gather(older, newer)
        assert catalog.find("blur")

    asyncio.run(play())

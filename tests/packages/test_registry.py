"""Published versions: names, versions, the current one, and what goes with them."""

from __future__ import annotations

import pytest

from t3d_server.errors import AlgorithmNotFoundError, InvalidPackageError, VersionConflictError, VersionNotFoundError
from t3d_server.models import AlgorithmVersion, Manifest
from t3d_server.packages.registry import Registry
from t3d_server.storage.memory import MemoryObjectStore


def record(name: str, version: str, source: str = "s", module: str = "m", **assets: str) -> AlgorithmVersion:
    manifest = Manifest(name=name, version=version)
    return AlgorithmVersion(manifest=manifest, source_sha256=source, module_sha256=module, assets=assets)


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def registry(store: MemoryObjectStore) -> Registry:
    return Registry(store)


def test_a_published_version_is_found_and_current(registry: Registry) -> None:
    published = registry.publish(record("foo", "1.0.0"))
    assert published.published_at is not None
    assert registry.find("foo") == registry.find("foo", "1.0.0") == published


def test_versions_are_ordered_by_number(registry: Registry) -> None:
    for version in ("1.9.0", "1.10.0", "0.99.99"):
        registry.publish(record("foo", version))
    info = registry.info("foo")
    assert info.versions == ["1.10.0", "1.9.0", "0.99.99"]
    assert info.current == info.version.manifest.version == "0.99.99"


def test_publishing_the_same_content_again_changes_nothing_but_current(registry: Registry) -> None:
    first = registry.publish(record("foo", "1.0.0"))
    registry.publish(record("foo", "2.0.0"))
    assert registry.existing(record("foo", "1.0.0", module="printed by another interpreter")) == first
    assert registry.publish(record("foo", "1.0.0", module="printed by another interpreter")) == first
    assert registry.find("foo") == first


def test_a_version_with_other_content_is_a_conflict_that_says_what_to_do(registry: Registry) -> None:
    registry.publish(record("foo", "1.0.0"))
    with pytest.raises(VersionConflictError, match=r"1\.0\.1, .* `t3d deploy --bump patch`"):
        registry.publish(record("foo", "1.0.0", source="other"))


def test_names_differ_by_more_than_case(registry: Registry) -> None:
    registry.publish(record("Foo", "1.0.0"))
    with pytest.raises(VersionConflictError, match="'Foo' by case alone"):
        registry.publish(record("foo", "2.0.0"))


def test_an_unknown_name_or_version_is_answered_with_what_there_is(registry: Registry) -> None:
    with pytest.raises(AlgorithmNotFoundError, match="none is published"):
        registry.find("foo")
    registry.publish(record("denoise", "1.0.0"))
    with pytest.raises(AlgorithmNotFoundError, match=r"published are: denoise; did you mean 'denoise'\?"):
        registry.find("denoize")
    with pytest.raises(VersionNotFoundError, match=r"it has 1\.0\.0"):
        registry.find("denoise", "1.0.1")
    with pytest.raises(VersionNotFoundError):
        registry.find("denoise", "current")
    with pytest.raises(AlgorithmNotFoundError):
        registry.find("../denoise", "1.0.0")


def test_current_can_be_moved_to_what_exists(registry: Registry) -> None:
    registry.publish(record("foo", "1.0.0"))
    registry.publish(record("foo", "1.1.0"))
    registry.set_current("foo", "1.0.0")
    assert registry.find("foo").manifest.version == "1.0.0"
    with pytest.raises(VersionNotFoundError):
        registry.set_current("foo", "3.0.0")
    with pytest.raises(AlgorithmNotFoundError):
        registry.set_current("bar", "1.0.0")


def test_a_record_that_cannot_be_read_hides_no_other(registry: Registry, store: MemoryObjectStore) -> None:
    """It is named to who asks for it; and while what it uses is unknown, no content is deleted."""
    store.put("modules/m.zip", b"")
    registry.publish(record("foo", "1.0.0"))
    store.put("algorithms/bar/1.0.0.json", b'{"written": "by another server"}')
    assert [version.manifest.name for version in registry.versions()] == ["foo"]
    assert [info.name for info in registry.list()] == ["foo"]
    with pytest.raises(InvalidPackageError, match=r"algorithms/bar/1\.0\.0\.json .* delete that object"):
        registry.find("bar", "1.0.0")
    registry.remove("foo", "1.0.0")
    assert store.stat("modules/m.zip")


def test_a_version_is_found_by_its_source(registry: Registry) -> None:
    published = registry.publish(record("foo", "1.0.0", source="here"))
    assert registry.of_source("here") == published
    assert registry.of_source("elsewhere") is None


def test_everything_is_listed_by_name(registry: Registry) -> None:
    for name, version in (("b", "1.0.0"), ("a", "1.0.0"), ("a", "2.0.0")):
        registry.publish(record(name, version))
    assert [(info.name, info.current) for info in registry.list()] == [("a", "2.0.0"), ("b", "1.0.0")]
    assert {(one.manifest.name, one.manifest.version) for one in registry.versions()} == {
        ("a", "1.0.0"),
        ("a", "2.0.0"),
        ("b", "1.0.0"),
    }


def test_when_the_current_version_goes_the_newest_remaining_one_becomes_current(registry: Registry) -> None:
    for version in ("1.0.0", "1.10.0", "1.9.0", "2.0.0"):
        registry.publish(record("foo", version))
    registry.remove("foo", "2.0.0")
    assert registry.find("foo").manifest.version == "1.10.0"
    registry.set_current("foo", "1.9.0")
    registry.remove("foo", "1.10.0")
    assert registry.find("foo").manifest.version == "1.9.0"


def test_content_goes_with_the_last_version_that_uses_it(registry: Registry, store: MemoryObjectStore) -> None:
    for key in ("modules/m1.zip", "modules/m2.zip", "assets/shared", "assets/own", "assets/unpublished"):
        store.put(key, b"")
    registry.publish(record("foo", "1.0.0", module="m1", a="shared", b="own"))
    registry.publish(record("bar", "1.0.0", module="m2", a="shared"))
    registry.discard(record("baz", "1.0.0", module="m1", a="shared", b="unpublished"))
    registry.remove("foo", "1.0.0")
    kept = {stat.key for stat in store.list("modules/")} | {stat.key for stat in store.list("assets/")}
    assert kept == {"modules/m2.zip", "assets/shared"}
    with pytest.raises(AlgorithmNotFoundError):
        registry.remove("foo", "1.0.0")
    registry.remove("bar", "1.0.0")
    assert {stat.key for stat in store.list("")} == {f"algorithms/{name}/1.0.0.removed" for name in ("foo", "bar")}


def test_the_number_of_a_removed_version_stays_that_of_its_content(registry: Registry) -> None:
    """Runs on record name it; what it was can be published again."""
    for version in ("1.0.0", "1.0.1", "1.0.3"):
        registry.publish(record("foo", version))
    for version in ("1.0.0", "1.0.1"):
        registry.remove("foo", version)
    other = record("foo", "1.0.0", source="other")
    for attempt in (registry.existing, registry.publish):
        with pytest.raises(VersionConflictError, match=r"was published before, and removed, .* raise it to 1\.0\.2,"):
            attempt(other)
    assert registry.existing(record("foo", "1.0.0")) is None
    assert (registry.info("foo").versions, registry.info("foo").removed_versions) == (["1.0.3"], ["1.0.1", "1.0.0"])
    with pytest.raises(VersionNotFoundError, match=r"foo 1\.0\.1 was removed; it has 1\.0\.3"):
        registry.find("foo", "1.0.1")

    registry.publish(record("foo", "1.0.0"))
    assert registry.list()[0].versions == ["1.0.3", "1.0.0"]
    assert registry.list()[0].removed_versions == ["1.0.1"]


def test_the_number_stays_taken_where_no_version_is_left(registry: Registry) -> None:
    registry.publish(record("foo", "1.0.0"))
    registry.remove("foo", "1.0.0")
    assert registry.numbers() == {}
    with pytest.raises(VersionConflictError, match=r"raise it to 1\.0\.1,"):
        registry.publish(record("foo", "1.0.0", source="other"))


def test_a_version_that_is_withdrawn_leaves_its_number_free(registry: Registry, store: MemoryObjectStore) -> None:
    """As one of which nobody was told."""
    registry.withdraw(registry.publish(record("foo", "1.0.0")))
    assert list(store.list("")) == []


@pytest.mark.parametrize("pointer", [None, b'{"version": "9.9.9"}'])
def test_after_a_crash_between_two_writes_the_newest_version_is_current(
    registry: Registry, store: MemoryObjectStore, pointer: bytes | None
) -> None:
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        registry.publish(record("foo", version))
    store.delete("algorithms/foo/current.json")
    if pointer:
        store.put("algorithms/foo/current.json", pointer)
    assert registry.find("foo").manifest.version == "1.10.0"
    assert registry.info("foo").current == "1.10.0"
    assert registry.list()[0].current == "1.10.0"

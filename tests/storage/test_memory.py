"""What only the memory store does; the rest is in the contract suite."""

import pickle

import pytest

from t3d_server.storage.base import exists, read
from t3d_server.storage.memory import MemoryObjectStore


@pytest.mark.parametrize("content", [{}, {"k": b"1"}])
def test_a_pickled_copy_is_a_snapshot(content: dict[str, bytes]) -> None:
    """A copy holds what was there, and later puts go to one of the two alone."""
    store = MemoryObjectStore()
    for key, data in content.items():
        store.put(key, data)
    copy = pickle.loads(pickle.dumps(store))
    store.put("later", b"2")
    assert {stat.key: read(copy, stat.key) for stat in copy.list("")} == content
    assert not exists(copy, "later")

"""Has Ray Serve's configs be made in several threads of one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import ModuleType

from ray import cloudpickle


def forgive_unregistered() -> None:
    """Let a module that is no longer registered for pickling by value be unregistered, in this process.

    Each config of a deployment registers the module of its request router for a moment, for the whole process (Ray
    2.60). Serve makes them in threads of its own, too: the second one to unregister it would raise ValueError.
    """
    unregister: Callable[[ModuleType], None] = cloudpickle.unregister_pickle_by_value

    def forgiving(module: ModuleType) -> None:
        with suppress(ValueError):
            unregister(module)

    cloudpickle.unregister_pickle_by_value = forgiving

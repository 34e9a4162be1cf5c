"""Uses of Ray and Ray Serve that are not documented by them, or are deprecated.

Read at Ray 2.60.0. On an upgrade, check in the new source what each function and constant names, and run
`tests/serving`, which covers all of them. What is read from the texts of Ray's errors is in `deaths.py`; environment
variables are in `cluster.py`, `haproxy.py` and `router.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import ray
from ray import cloudpickle, serve
from ray._private import ray_constants
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.handle import DeploymentHandle

ON_HEAD = {"node:__internal_head__": 0.001}
"""The `resources` of an actor that runs on the head node: HAProxy, which is there, finds it on loopback, and so is
Ray's own state. Check that the head node has this resource, in `ray.nodes()`."""

ON_LOOPBACK: dict[str, Any] = {"_node_ip_address": "127.0.0.1"}
"""Options of `ray.init` by which Ray's own ports listen on loopback alone. Check that `ray.init` takes it."""

BY_REFERENCE: dict[str, Any] = {"_by_reference": True}
"""Options of a handle whose arguments and answers go through Ray's object store; messages of gRPC have at most 4 MB.
Check that `DeploymentHandle.options` takes it."""

LOAD_REPORTS: dict[str, Any] = {"metrics_interval_s": 1.0, "look_back_period_s": 2.0}
"""Part of an `autoscaling_config`: handles report their load each second, and two reports are averaged; by default,
Serve would learn of it after 10 s. `metrics_interval_s` is deprecated in favour of environment variables that Ray 2.60
does not read yet. Check whether it reads them."""

STARTUP_FAILED = "REPLICA_STARTUP_FAILED"
"""The `status_trigger` of a deployment of which several replicas in a row have failed to start. Check
`DeploymentStatusTrigger` in `ray.serve._private.common`."""

NO_ROOM = "to be scheduled"
"""Part of the `message` of a deployment whose replica has found no node for half a minute. Check the text that
`ray.serve._private.deployment_state` has for replicas that start slowly."""


def set_dashboard_port(port: int) -> None:
    """Have the dashboard of a cluster that `ray.init` starts try this port first, and then the next ones.

    With the argument of `ray.init`, one that is taken ends the start. Check that `ray._private.services` reads the
    constant when it starts the dashboard.
    """
    ray_constants.DEFAULT_DASHBOARD_PORT = port


def serve_instance() -> str | None:
    """Id of the Ray Serve that runs on this cluster: `serve shutdown` ends one, `serve deploy` starts another.

    Check the name and the namespace of Serve's controller, and that actor handles have `_actor_id`.
    """
    try:
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return None
    return str(controller._actor_id.hex())


def start_deploying(application: serve.Application, name: str) -> None:
    """Deploy an application that has no HTTP route; does not wait for its replicas, as `serve.run` does.

    Check that `serve._run` takes `_blocking`.
    """
    serve._run(application, name=name, route_prefix=None, _blocking=False)


def start_deleting(name: str) -> None:
    """Delete an application; does not wait for its replicas, as `serve.delete` does, for a minute at most.

    Check that `serve.delete` takes `_blocking`.
    """
    serve.delete(name, _blocking=False)


def new_handle(deployment: str, application: str) -> Any:
    """A handle of a deployment that shares nothing with earlier ones.

    `serve.get_deployment_handle` keeps its handles: those of an application that was deleted reject calls, also for
    some time after one of that name is there again. Check the arguments of `DeploymentHandle`.
    """
    return DeploymentHandle(deployment, application)


def find_replica(name: str) -> Any:
    """The actor of a replica, by the name that the replica gets from `get_actor_name`; None if it has ended.

    Check that replicas are named actors in Serve's namespace.
    """
    try:
        return ray.get_actor(name, namespace=SERVE_NAMESPACE)
    except ValueError:
        return None


def kill_replicas(application: str) -> None:
    """End the processes of an application's replicas, whatever they do.

    Check `ReplicaID.to_full_id_str` in `ray.serve._private.common`, which names the actors.
    """
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"].startswith(f"SERVE_REPLICA::{application}#"):
            with suppress(ValueError):  # it has just ended
                ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))


def allow_unregistering_twice() -> None:
    """Let a module that is no longer registered for pickling by value be unregistered, in this process.

    Each config of a deployment registers the module of its request router for a moment, for the whole process. Serve
    makes configs in several threads at a time: without this, the second one to unregister the module raises ValueError.
    Check whether `ray.serve.config` still calls `unregister_pickle_by_value` without a lock.
    """
    unregister: Callable[[ModuleType], None] = cloudpickle.unregister_pickle_by_value

    def tolerant(module: ModuleType) -> None:
        with suppress(ValueError):
            unregister(module)

    cloudpickle.unregister_pickle_by_value = tolerant

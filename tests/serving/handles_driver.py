"""Uses the server from another Ray application: a driver, a task, and a deployment; prints what came of each step."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

import numpy as np
import pytest
import ray
from ray import serve

from t3d_server.client import Client
from t3d_server.errors import AlgorithmError, DatasetNotFoundError, InvalidDatasetError, InvalidRequestError
from t3d_server.handles import T3D, Reply

IMAGE = np.arange(1_500_000, dtype=np.float32).reshape(1000, 1500)
"""6 MB: more than a gRPC message may hold."""
SMALL = np.eye(5, dtype=np.uint8)
FOR_EVER = {"mode": "holds", "path": "/nowhere"}
SERVES_FAST = {"env_vars": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}}
"""Has a deployment send messages by gRPC."""


def run(t3d: T3D) -> str:
    """The synchronous way."""
    result = t3d.run("probe", IMAGE, {"mode": "identity"}).result()
    np.testing.assert_array_equal(result["image"], IMAGE)
    return "the image came back"


def raw() -> str:
    """Serve's own handles, without `T3D`."""
    router: Any = serve.get_app_handle("t3d")
    ids = router.post_data.remote([{"image": IMAGE}]).result()
    ended = router.run.remote("probe", ids, {"mode": "identity"}).result()
    [values] = router.fetch_data.remote(ended.output_dataset_ids).result()
    np.testing.assert_array_equal(values["image"], IMAGE)
    return str(ended.status)


class Caller:
    """Another application, which awaits."""

    def __init__(self) -> None:
        self._t3d = T3D()

    async def __call__(self) -> str:
        """Run the probe, twice at a time."""
        dataset = await self._t3d.upload(IMAGE)
        replies = [self._t3d.run("probe", [dataset], args={"mode": "identity"}) for _ in range(2)]
        for [result] in await asyncio.gather(*replies):
            np.testing.assert_array_equal(result["image"], IMAGE)
        return "both images came back"


def datasets(t3d: T3D) -> str:
    """Upload, describe, fetch in part, remove; slices that are taken as colour are warned of."""
    with pytest.warns(UserWarning, match="taken as one colour image of 3 channels") as told:
        slices = t3d.upload(np.zeros((3, 5, 5), np.uint8)).result()
    assert (slices.axes, told[0].filename) == ("CYX", __file__)
    t3d.delete(slices).result()
    whole = {"image": SMALL, "spacing": (2, 1), "note": "x"}
    first, second = t3d.upload([whole, {"image": SMALL, "note": "y"}]).result()
    assert t3d.info(first).result() == first
    assert first.spacing == (2, 1)
    assert [list(values) for values in t3d.fetch([first, second.id], ["note"]).result()] == [["note"], ["note"]]
    with pytest.raises(InvalidRequestError, match="has no 'imag'; its keys: image"):
        t3d.fetch(first, "imag").result()
    t3d.delete(first).result()
    t3d.delete(second.id).result()
    with pytest.raises(DatasetNotFoundError) as caught:
        t3d.fetch(first).result()
    return caught.value.code


def runs(t3d: T3D) -> str:
    """Submit, follow, read the log, cancel."""
    dataset = t3d.upload(SMALL).result()
    replies = [t3d.submit("probe", dataset, args=FOR_EVER, idempotency_key=dataset.id) for _ in range(2)]
    submitted, again = (reply.result() for reply in replies)
    assert submitted.id == again.id
    while not t3d.log(submitted.id).result():
        pass
    assert t3d.get_run(submitted.id).result().status == "RUNNING"
    t3d.cancel(submitted.id).result()
    ended = t3d.get_run(submitted.id, wait_s=30).result()
    return f"{ended.status}, log: {[line.message for line in t3d.log(submitted.id).result()]}"


def interrupted(t3d: T3D) -> str:
    """Ctrl-C cancels the run that it interrupts."""
    run_id = at_work(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        t3d.run("probe", SMALL, args=FOR_EVER).result()
    return str(t3d.get_run(run_id(), wait_s=30).result().status)


def called_off(t3d: T3D) -> str:
    """So does cancelling the reply; who has only waited long enough for it does not."""
    reply: Future[Reply[dict[str, Any]]] = Future()
    run_id = at_work(lambda: reply.result().cancel())
    waiting = t3d.run("probe", SMALL, args=FOR_EVER)
    with pytest.raises(TimeoutError, match=r"after 0\.01 s; the call goes on"):
        waiting.result(timeout_s=0.01)
    reply.set_result(waiting)
    with pytest.raises(CancelledError, match="and with it the run"):
        waiting.result()
    return str(t3d.get_run(run_id(), wait_s=30).result().status)


async def given_up(t3d: T3D) -> str:
    """And cancelling what awaits."""
    reply: Future[asyncio.Future[dict[str, Any]]] = Future()
    loop = asyncio.get_running_loop()
    run_id = at_work(lambda: loop.call_soon_threadsafe(reply.result().cancel))
    reply.set_result(asyncio.ensure_future(t3d.run("probe", SMALL, args=FOR_EVER)))
    with pytest.raises(asyncio.CancelledError):
        await reply.result()
    return str((await t3d.get_run(run_id(), wait_s=30)).status)


def at_work(then: Callable[[], object]) -> Callable[[], str]:
    """Calls `then` when a run of the probe that comes after this is worked on; gives what tells its id."""
    found: list[str] = []
    client = Client()
    before = max((each.id for each in client.runs(limit=1)), default="")

    def watch() -> None:
        while not found:
            going = client.runs(algorithm="probe", status="RUNNING", limit=1)
            found.extend(each.id for each in going if each.id > before)
        then()

    threading.Thread(target=watch, daemon=True).start()
    return lambda: found[0]


def errors(t3d: T3D) -> str:
    """They are those of the package, with the author's traceback."""
    with pytest.raises(InvalidDatasetError) as wrong:
        t3d.upload({"image": object(), "a/b": 1}).result()
    assert {problem.key for problem in wrong.value.problems} == {"image", "'a/b'"}
    with pytest.raises(InvalidDatasetError, match=r"data\[1\]: the dataset cannot be stored"):
        t3d.upload([SMALL, SMALL.astype(complex)])
    with pytest.raises(InvalidDatasetError, match="None was given"):
        t3d.run("probe", None)  # type: ignore[call-overload]  # what a forgotten return gives
    with pytest.raises(InvalidDatasetError, match="files are not read here"):
        t3d.submit("probe", "photo.png")
    with pytest.raises(InvalidRequestError, match="device"):
        t3d.run("probe", SMALL, device="abacus").result()  # type: ignore[call-overload]  # a mistake
    run = t3d.submit("probe", SMALL + 1, {"mode": "raises"}).result()
    assert t3d.get_run(run.id, wait_s=30).result().status == "FAILED"
    with pytest.raises(AlgorithmError) as failed:
        t3d.run("probe", SMALL + 1, args={"mode": "raises"}).result()
    return str(failed.value)


def deployed_anew(deploy: Callable[[], Any]) -> str:
    """A call that is made while the application it is for is not there is answered once it is."""
    handle = deploy()
    assert handle.remote().result() == "both images came back"
    serve.delete("caller")
    reply: Reply[str] = Reply(handle.remote, str, repeatable=False)
    deployment = threading.Thread(target=deploy)
    deployment.start()
    answer = reply.result()
    deployment.join()
    serve.delete("caller")
    return answer


def main() -> None:
    """All of it."""
    ray.init(log_to_driver=False)
    t3d = T3D()
    task: Any = ray.remote(num_cpus=0.1)(run)
    deployment: Any = serve.deployment(Caller)
    caller = deployment.options(ray_actor_options={"num_cpus": 0.1, "runtime_env": SERVES_FAST})
    deploy = partial(serve.run, caller.bind(), name="caller", route_prefix=None)
    steps: dict[str, Callable[[], str]] = {
        "driver": lambda: run(t3d),
        "raw": raw,
        "task": lambda: ray.get(task.remote(t3d)),
        "deployment": lambda: deployed_anew(deploy),
        "datasets": lambda: datasets(t3d),
        "runs": lambda: runs(t3d),
        "interrupted": lambda: interrupted(t3d),
        "called off": lambda: called_off(t3d),
        "given up": lambda: asyncio.run(given_up(t3d)),
        "errors": lambda: errors(t3d),
    }
    for name, step in steps.items():
        print(f"{name}: {step()}", flush=True)


if __name__ == "__main__":
    main()

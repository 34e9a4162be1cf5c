"""Uses the server from another Ray application: a driver, a task, and a deployment; prints what each of them got."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import ray
from ray import serve

IMAGE = np.arange(1_000_000, dtype=np.float32).reshape(1000, 1000)
"""4 MB: more than a gRPC message may hold."""


def check(name: str, status: str, image: np.ndarray) -> None:
    """Print the outcome; fail unless the image came back as it went."""
    np.testing.assert_array_equal(image, IMAGE)
    print(name, status, flush=True)


def by_result(name: str) -> str:
    """The synchronous way."""
    router = serve.get_app_handle("t3d")
    ids = router.post_data.remote([{"image": IMAGE}]).result()
    run = router.run.remote("probe", ids, {"mode": "identity"}).result()
    [values] = router.fetch_data.remote(run.output_dataset_ids).result()
    check(name, run.status, values["image"])
    return str(run.status)


class Caller:
    """Another application, which awaits."""

    async def __call__(self) -> str:
        """Run the probe."""
        router = serve.get_app_handle("t3d")
        ids = await router.post_data.remote([{"image": IMAGE}])
        runs = await asyncio.gather(*(router.run.remote("probe", ids, {"mode": "identity"}) for _ in range(2)))
        [values] = await router.fetch_data.remote(runs[1].output_dataset_ids)
        check("deployment", runs[0].status, values["image"])
        return str(runs[1].status)


def main() -> None:
    """All three, and an error."""
    ray.init(log_to_driver=False)
    by_result("driver")
    task: Any = ray.remote(num_cpus=0.1)(by_result)
    print("task", ray.get(task.remote("task")), flush=True)
    deployment: Any = serve.deployment(Caller)
    caller = deployment.options(ray_actor_options={"num_cpus": 0.1})
    handle = serve.run(caller.bind(), name="caller", route_prefix=None)
    print("deployment", handle.remote().result(), flush=True)
    serve.delete("caller")
    try:
        serve.get_app_handle("t3d").run.remote("nobody", []).result()
    except Exception as error:
        print(
            "error", type(error).__name__, getattr(error, "code", ""), getattr(error.__cause__, "code", ""), flush=True
        )


if __name__ == "__main__":
    main()

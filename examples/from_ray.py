"""Uses the server from another Ray application, by handles: arrays go through Ray, not through HTTP.

t3d deploy algorithms/denoise
export RAY_ADDRESS=... RAY_AUTH_MODE=token RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0    # the line that `t3d up` prints
python examples/from_ray.py
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import ray
from ray import serve

from t3d_server.errors import AlgorithmNotFoundError

IMAGE = np.random.default_rng(0).normal(100, 10, (256, 256)).astype(np.float32)


def denoise(image: np.ndarray) -> np.ndarray:
    """Denoise an image, wherever there is no event loop: in a driver, a task, a synchronous actor.

    Args:
        image: (Y, X) or (Y, X, 3), any image dtype.

    Returns:
        Shape and dtype of `image`.
    """
    t3d = serve.get_app_handle("t3d")
    ids = t3d.post_data.remote([{"image": image}]).result()
    run = t3d.run.remote("denoise", ids, {"method": "tv_chambolle"}).result()
    if run.error is not None:
        raise RuntimeError(f"{run.error.type}: {run.error.message}")
    [values] = t3d.fetch_data.remote(run.output_dataset_ids).result()
    cleaned: np.ndarray = values["image"]
    return cleaned


class Pipeline:
    """A deployment of one's own: everything is awaited, so that it goes on serving meanwhile."""

    async def __call__(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """Denoise images side by side.

        Args:
            images: each (Y, X) or (Y, X, 3).

        Returns:
            The results, in order.
        """
        t3d = serve.get_app_handle("t3d")
        ids = await t3d.post_data.remote([{"image": image} for image in images])
        runs = await asyncio.gather(*(t3d.run.remote("denoise", [dataset_id]) for dataset_id in ids))
        outputs = await t3d.fetch_data.remote([run.output_dataset_ids[0] for run in runs])
        return [values["image"] for values in outputs]


def main() -> None:
    """All three ways, and what an error looks like."""
    ray.init(log_to_driver=False)
    print(f"driver: noise {IMAGE.std():.1f} -> {denoise(IMAGE).std():.1f}")

    task: Any = ray.remote(num_cpus=0.1)(denoise)
    print(f"task: noise {IMAGE.std():.1f} -> {ray.get(task.remote(IMAGE)).std():.1f}")

    deployment: Any = serve.deployment(Pipeline)
    pipeline = deployment.options(ray_actor_options={"num_cpus": 0.1})
    handle: Any = serve.run(pipeline.bind(), name="pipeline", route_prefix=None)
    results = handle.remote([IMAGE, IMAGE[:128]]).result()
    print(f"deployment: {[image.shape for image in results]}")
    serve.delete("pipeline")

    try:
        serve.get_app_handle("t3d").run.remote("nobody", []).result()
    except AlgorithmNotFoundError as error:  # the classes of the server, through Ray too
        print(f"refused: {error.message}")


if __name__ == "__main__":
    main()

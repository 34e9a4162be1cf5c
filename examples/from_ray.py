"""Uses the server from another Ray application: arrays go through Ray, not through HTTP.

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

from t3d_server.errors import InvalidArgsError
from t3d_server.handles import T3D

IMAGE = np.random.default_rng(0).normal(100, 10, (256, 256)).astype(np.float32)


def denoise(t3d: T3D, image: np.ndarray) -> np.ndarray:
    """Denoise an image, wherever no event loop runs: in a driver, a task, a synchronous actor.

    Args:
        t3d: the server.
        image: (Y, X) or (Y, X, 3), any image dtype.

    Returns:
        Shape and dtype of `image`.
    """
    cleaned: np.ndarray = t3d.run("denoise", image, args={"method": "tv_chambolle"}).result()["image"]
    return cleaned


class Pipeline:
    """A deployment of one's own: everything is awaited, so that it goes on serving meanwhile."""

    def __init__(self) -> None:
        self.t3d = T3D()

    async def __call__(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """Denoise images side by side.

        Args:
            images: each (Y, X) or (Y, X, 3).

        Returns:
            The results, in order.
        """
        results = await asyncio.gather(*(self.t3d.run("denoise", image) for image in images))
        return [result["image"] for result in results]


def main() -> None:
    """All three ways, and what an error looks like."""
    ray.init(log_to_driver=False)
    t3d = T3D()
    print(f"driver: noise {IMAGE.std():.1f} -> {denoise(t3d, IMAGE).std():.1f}")

    task: Any = ray.remote(num_cpus=0.1)(denoise)
    print(f"task: noise {IMAGE.std():.1f} -> {ray.get(task.remote(t3d, IMAGE)).std():.1f}")

    deployment: Any = serve.deployment(Pipeline)
    pipeline = deployment.options(ray_actor_options={"num_cpus": 0.1})
    handle: Any = serve.run(pipeline.bind(), name="pipeline", route_prefix=None)
    results = handle.remote([IMAGE, IMAGE[:128]]).result()
    print(f"deployment: {[image.shape for image in results]}")
    serve.delete("pipeline")

    try:
        t3d.run("denoise", IMAGE, args={"strength": 9}).result()
    except InvalidArgsError as error:
        print(f"refused: {error}")


if __name__ == "__main__":
    main()

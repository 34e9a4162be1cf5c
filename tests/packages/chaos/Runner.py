"""Adds to its image, slowly."""

import time
from typing import Any

import numpy as np

from t3d_server.algorithm_utils import Image2ImageRunner


class Runner(Image2ImageRunner):
    """The result tells which run it is of."""

    def inference(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """The image, raised; takes `seconds`."""
        end = time.monotonic() + args["seconds"]
        while (left := end - time.monotonic()) > 0:
            self.set_progress(1 - left / args["seconds"])
            time.sleep(min(0.05, left))
        self.log_message(f"adds {args['amount']}")
        result: np.ndarray = data + args["amount"]
        return result

    def postprocess(self, inference_output: Any, args: dict[str, Any]) -> Any:
        """Posts one dataset too many, which is no output, so that one more can be left behind."""
        self.post_data([{"image": inference_output[0]}])
        return super().postprocess(inference_output, args)

"""An algorithm that does what the arg `mode` says."""

import ctypes
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from steps.deep import explode  # type: ignore[import-not-found]  # found where the folder is published

from t3d_server.algorithm_utils import Image2ImageRunner

loads = 0


class Runner(Image2ImageRunner):
    """Hands its image through, unless it is asked for trouble."""

    def load_assets(self) -> None:
        """Count the loads of this process."""
        global loads
        loads += 1
        self.mark = ""

    def inference(self, data: np.ndarray, args: dict[str, Any]) -> Any:
        """What `mode` says."""
        return getattr(self, args["mode"])(data, args)

    def postprocess(self, inference_output: Any, args: dict[str, Any]) -> Any:
        """Post the image, or what is wrong."""
        if args["mode"] == "returns_nothing":
            return None
        if args["mode"] == "returns_foreign_ids":
            return ["0199aaaa-0000-7000-8000-000000000000"]
        if args["mode"] == "posts_text":
            return self.post_data([{"image": inference_output[0]}, {"image": "no image"}])
        ids = super().postprocess(inference_output, args)
        if args["mode"] == "posts_and_holds":
            self.holds(inference_output, args)
        return ids

    def identity(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """The image as it is."""
        return data

    returns_nothing = returns_foreign_ids = posts_text = posts_and_holds = identity

    def too_few(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """One slice fewer than there are."""
        return data[:-1]

    def raises(self, data: np.ndarray, args: dict[str, Any]) -> Any:
        """An error in a submodule."""
        return explode(float(data.flat[0]))

    def exits(self, data: np.ndarray, args: dict[str, Any]) -> Any:
        """What a script does."""
        sys.exit("enough")

    def posts_and_raises(self, data: np.ndarray, args: dict[str, Any]) -> Any:
        """Leaves a dataset behind, and logs its id."""
        self.log_message(self.post_data([{"image": data[0]}])[0])
        raise RuntimeError("after posting")

    def dies(self, data: np.ndarray, args: dict[str, Any]) -> Any:
        """The process ends at once."""
        os.kill(os.getpid(), signal.SIGKILL)

    def reports(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Where it runs."""
        where = {
            "pid": os.getpid(),
            "loads": loads,
            "device": self.device,
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "accelerators": ray.get_runtime_context().get_accelerator_ids()["GPU"],
        }
        self.log_message(json.dumps(where))
        return data

    def chatters(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Many log lines."""
        for number in range(args["count"]):
            self.log_message(f"line {number}", "DEBUG")
        return data

    def ticks(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """A log line every tenth of a second."""
        for number in range(args["count"]):
            self.log_message(f"line {number}")
            time.sleep(0.1)
        return data

    def prints(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Says things in the ways of a script."""
        print("printed")
        print("on standard error", file=sys.stderr)
        logging.getLogger("probe").info("given to logging")
        return data

    def holds(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Reports until a file appears."""
        self.log_message("holding")
        while not Path(args["path"]).exists():
            self.set_progress(0.5)
            time.sleep(0.02)
        return data

    def holds_silently(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """No call back until a file appears."""
        self.log_message("holding")
        while not Path(args["path"]).exists():
            time.sleep(0.02)
        self.log_message("went on")
        time.sleep(0.3)  # call backs are batched for a shorter time: the next one asks
        self.log_message("went further")
        return data

    def spins(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Never ends."""
        self.log_message("holding")
        while True:
            pass

    def holds_the_interpreter(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """As C code that does not release the lock: no other thread of the process goes on; makes a file before."""
        Path(args["path"]).touch()
        ctypes.PyDLL(None).sleep(600)
        return data

    def marks(self, data: np.ndarray, args: dict[str, Any]) -> np.ndarray:
        """Sets an attribute, and logs what it finds there once a file has appeared."""
        found = self.mark
        self.mark = args["path"]
        self.log_message("holding")
        while not Path(args["path"]).exists():
            self.set_progress(0.5)
            time.sleep(0.02)
        self.log_message(f"found {found!r}, then {self.mark!r}")
        return data

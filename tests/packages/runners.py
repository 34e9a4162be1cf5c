"""Small modules for the tests of imports, and calling them."""

from __future__ import annotations

from typing import Any

from t3d_server.packages.loader import LoadedModule

METHODS = """
    def preprocess(self, input_data, args): return input_data
    def postprocess(self, inference_output, args): return inference_output
"""
HEAD = "from t3d_server.algorithm_utils.BaseRunner import BaseRunner\n"


def runner(imports: str, inference: str) -> str:
    body = "\n".join(f"        {line}" for line in inference.splitlines())
    return f"{HEAD}{imports}\nclass Runner(BaseRunner):{METHODS}\n    def inference(self, data, args):\n{body}\n"


def infer(module: LoadedModule) -> Any:
    with module.active():
        return module.runner_class().inference(None, {})

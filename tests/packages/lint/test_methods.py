"""Calls of methods that are not there are reported; those that may be there are left alone."""

from __future__ import annotations

import pytest

from t3d_server.packages.lint.methods import check_methods
from tests.packages.lint.findings import findings

BASE = "from t3d_server.algorithm_utils import Image2ImageRunner\n"
CALL = "class Runner(Image2ImageRunner):\n    def inference(self, data, args):\n        self.log('x')\n"


def test_a_method_that_is_not_there_is_reported() -> None:
    assert findings(check_methods, {"Runner.py": BASE + CALL}) == [
        "Runner.py:4: self.log is called, but neither Runner nor Image2ImageRunner has it; did you mean 'log_message'?"
    ]


@pytest.mark.parametrize(
    "code",
    [
        BASE + CALL.replace("log", "log_message"),
        BASE + CALL + "    def log(self, x): ...",
        BASE + CALL + "    log = print",
        BASE + CALL + "    def load_assets(self):\n        self.log = print",
        BASE + CALL + "    def load_assets(self):\n        setattr(self, 'lo' + 'g', print)",
        BASE + CALL + "    def __getattr__(self, name): ...",
        BASE + CALL + "class Louder(Runner):\n    def log(self, x): ...",
        BASE + CALL + "Runner.log = print",
        BASE + CALL.replace("self.log", "if hasattr(self, 'log'): self.log"),
        BASE + CALL.replace("self.log", "self = data; self.log"),
        BASE + CALL.replace("self, data", "self, /, data").replace("self.log", "data.log"),
        BASE + CALL.replace("class", "from net import Mixin\nclass").replace("Runner)", "Runner, Mixin)"),
        BASE + "from net import more\n@more\n" + CALL,
        "from net import Image2ImageRunner\n" + CALL,
    ],
)
def test_a_method_that_may_be_there_is_not_reported(code: str) -> None:
    assert findings(check_methods, {"Runner.py": code}) == []

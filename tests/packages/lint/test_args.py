"""Keys of `args` that are no parameters, and parameters that nothing reads, are reported."""

from __future__ import annotations

import pytest

from t3d_server.packages.lint.args import check_args
from tests.packages.lint.findings import findings

METHODS = """
    class Runner:
        def preprocess(self, input_data, args):
            {}
        def inference(self, data, options):
            return data * options["sigma"]
        def helper(self, data, args):
            return args["mode"]
"""


@pytest.mark.parametrize(
    ("line", "warnings"),
    [
        ('args["sigma"], args.get("mode", 1)', []),
        ('args["sigm"]', ["Runner.py:4: 'sigm' is no parameter, those are: sigma, mode; did you mean 'sigma'?"]),
        ('args.get("xyz")', ["Runner.py:4: 'xyz' is no parameter, those are: sigma, mode"]),
        ('args["shape"] = 1; args["shape"]', []),
        ('args = {"shape": 1}; args["shape"]', []),
        ('args.setdefault("shape", 1)', []),
        ('(lambda args: args["shape"])({})', []),
        ('other["shape"]; other = {}', []),
    ],
)
def test_args_are_held_against_the_parameters(line: str, warnings: list[str]) -> None:
    assert findings(check_args, {"Runner.py": METHODS.format(line)}, parameters=["sigma", "mode"]) == warnings


@pytest.mark.parametrize(
    ("line", "is_reported"),
    [
        ("pass", True),
        ('args["sigma"], self.helper(input_data, args)', True),
        ('args["width"]', False),
        ('name = "width"; args[name]', False),
        ("input_data.library(**args)", False),
        ("input_data.library(args)", False),
        ("[args[name] for name in args]", False),
        ("args.items()", False),
        ("self.args = args", False),
    ],
)
def test_a_parameter_that_nothing_reads_is_reported(line: str, is_reported: bool) -> None:
    """Unless it may be read where no code of the folder names it."""
    warning = "pyproject.toml: parameter 'width' is never read by the code: it changes nothing"
    expected = [warning] if is_reported else []
    assert findings(check_args, {"Runner.py": METHODS.format(line)}, parameters=["sigma", "mode", "width"]) == expected

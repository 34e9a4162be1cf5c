"""References to what is not there are told before anything runs; what may be there is left alone."""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from pathlib import Path

import pytest

from t3d_server.packages.references import check_references

ROOT = Path(__file__).parents[2]


def told(
    code: str, path: str = "Runner.py", *, parameters: Collection[str] = (), assets: Collection[str] = ()
) -> list[str]:
    files = {path: textwrap.dedent(code).encode()}
    return list(check_references(files, parameters=parameters, assets=assets))


def test_a_forgotten_import_is_told_once() -> None:
    code = """
        def load():
            return np.zeros(3)

        class Runner:
            def inference(self, data, args):
                return np.ones(data.shape)
    """
    assert told(code) == ["Runner.py:3: np is used, but nothing defines or imports it"]


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as np\nnp.zeros(1)",
        "import a.b\na.b.c",
        "from a import *\nnp.zeros(1)",
        "exec('np = 1')\nnp",
        "globals().update(np=1)\nnp",
        "def f():\n    global np\n    np = 1\ndef g():\n    return np",
        "try:\n    import cupy as np\nexcept ImportError as error:\n    print(error)\n    np = None\nnp",
        "def f():\n    return later()\ndef later():\n    return __name__, __file__, __doc__, f",
        "class A:\n    x = 1\n    name = x, __qualname__, __module__\n    def f(self):\n        return __class__",
        "def f(a, *b, c=1, **d):\n    def g():\n        nonlocal a\n        a = 2\n    return [x for x in b], c, d, g",
        "match x():\n    case {1: y, **rest}:\n        y, rest\n    case [*z]:\n        z\ndef x():\n    return 1",
        "if (n := 3) > 2:\n    n\nlambda q: q\nwith open('f') as file:\n    file\nfor i in [1]:\n    i\ndel i",
        "from __future__ import annotations\ndef f(x: int) -> list[str]:\n    y: float = 1.0\n    return y",
        "__version__ = '1'\n__all__ = ['x']\nprint(__version__, __spec__, __package__, __builtins__, __loader__)",
    ],
)
def test_what_is_bound_somehow_is_not_told(code: str) -> None:
    assert told(code) == []


BASE = "from t3d_server.algorithm_utils import Image2ImageRunner\n"
CALL = "class Runner(Image2ImageRunner):\n    def inference(self, data, args):\n        self.log('x')\n"


def test_a_method_that_is_not_there_is_told() -> None:
    assert told(BASE + CALL) == [
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
        BASE + CALL.replace("class", "from net import Mixin\nclass").replace("Runner)", "Runner, Mixin)"),
        BASE + "from net import more\n@more\n" + CALL,
        "from net import Image2ImageRunner\n" + CALL,
    ],
)
def test_a_method_that_may_be_there_is_not_told(code: str) -> None:
    assert told(code) == []


def test_code_of_all_kinds_refers_to_nothing_that_is_not_there() -> None:
    """Our own, as an example."""
    for path in [*(ROOT / "t3d_server" / "packages").rglob("*.py"), *(ROOT / "algorithms").rglob("*.py")]:
        files = {path.name: path.read_bytes()}
        warnings = check_references(files, parameters=[], assets=[])
        assert not [warning for warning in warnings if "nothing defines" in warning], path


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
    assert told(METHODS.format(line), parameters=["sigma", "mode"]) == warnings


@pytest.mark.parametrize(
    ("line", "is_told"),
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
def test_a_parameter_that_nothing_reads_is_told(line: str, is_told: bool) -> None:
    """Unless it may be read where no code of the folder names it."""
    warning = "pyproject.toml: parameter 'width' is never read by the code: it changes nothing"
    expected = [warning] if is_told else []
    assert told(METHODS.format(line), parameters=["sigma", "mode", "width"]) == expected


def test_assets_are_held_against_the_folder() -> None:
    code = """
        def load_assets(self):
            self.fetch_asset("files/model.pt"), self.fetch_asset("./files\\\\model.pt"), self.fetch_asset(self.path)
            self.fetch_asset("files/modle.pt")
    """
    assert told(code, "helper.py", assets=["files/model.pt"]) == [
        "helper.py:4: fetch_asset('files/modle.pt'): there is no such file in the folder; "
        "did you mean 'files/model.pt'?"
    ]


ELSEWHERE = "Runner.py:2: the server has 'net.pt' at another path; open it by self.fetch_asset('files/net.pt')"


@pytest.mark.parametrize(
    ("line", "warnings"),
    [
        ('self.fetch_asset("files/net.pt")', []),
        ("self.fetch_asset(self.path)", []),
        ('(f"net_{1}", "net")', []),
        ('torch.load("files/net.pt")', [ELSEWHERE]),
        ('Path(__file__).parent / "files" / "net.pt"', [ELSEWHERE]),
        ("0", ["files/net.pt: no code opens it, and it is published with the rest; is it a left-over?"]),
        (
            'self.fetch_asset("files/net.pt"); open("/home/me/labels.txt")',
            [
                "Runner.py:2: '/home/me/labels.txt' is a path of this computer; put the file into files/ and open it "
                "by fetch_asset"
            ],
        ),
    ],
)
def test_files_that_only_this_computer_has_there_are_told(line: str, warnings: list[str]) -> None:
    code = f"import torch; from pathlib import Path; self = 1\n{line}"
    assert told(code, assets=["files/net.pt", "README.md", "files/labels.txt"]) == warnings


def test_secrets_and_left_overs_are_told() -> None:
    assets = ["files/key.pem", "files/labels.txt", "id_rsa", "secrets.json", "try.ipynb"]
    assert [warning.split(":")[0] for warning in told("", assets=assets)] == [
        "files/key.pem",
        "id_rsa",
        "secrets.json",
        "try.ipynb",
    ]
    assert told('self = 1\nself.fetch_asset("files/key.pem")', assets=["files/key.pem"]) == []

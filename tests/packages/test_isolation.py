"""Modules of authors: what they may rely on, and that they never meet those of others."""

# ruff: noqa: E501  # small modules on one line
from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from t3d_server import algorithm_utils
from t3d_server.algorithm_utils import BaseRunner
from t3d_server.errors import ImportFailedError
from t3d_server.packages.loader import folder_package, import_runner
from tests.packages.runners import infer, runner

MakeFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def nothing_of_the_author_stays_behind() -> Iterator[None]:
    """Outside of `active`, the process is as it was."""
    before = (list(sys.path), list(sys.meta_path), sys.dont_write_bytecode)
    names = set(sys.modules)
    yield
    assert (list(sys.path), list(sys.meta_path), sys.dont_write_bytecode) == before
    new = set(sys.modules) - names
    assert not [name for name in new if name.partition(".")[0] in ("Runner", "helper", "algorithms", "files", "sub")]


def test_every_kind_of_import_of_the_folder_works(make_folder: MakeFolder) -> None:
    imports = "import sub.module\nimport bare.deep.thing\nimport files.helper\nimport helper\nimport inner.leaf\n"
    folder = make_folder(
        {
            "Runner.py": runner(
                imports,
                "import lazy\n"
                "return [sub.module.VALUE, bare.deep.thing.VALUE, files.helper.VALUE, helper.VALUE, inner.leaf.VALUE, "
                "lazy.VALUE]",
            ),
            "__init__.py": "raise RuntimeError('the folder itself is no package')",
            "sub/__init__.py": "from . import module",
            "sub/module.py": "from .sibling import VALUE\nfrom sub import sibling",
            "sub/sibling.py": "VALUE = 'regular package'",
            "bare/deep/thing.py": "from ..other import VALUE",
            "bare/other.py": "VALUE = 'no __init__'",
            "files/helper.py": "VALUE = 'below files'",
            "files/inner/leaf.py": "VALUE = 'deeper below files'",
            "lazy.py": "VALUE = 'inside a function'",
        }
    )
    expected = [
        "regular package",
        "no __init__",
        "below files",
        "below files",
        "deeper below files",
        "inside a function",
    ]
    assert infer(import_runner(folder_package(folder))) == expected
    assert not list(folder.rglob("__pycache__"))


def test_two_algorithms_with_equal_names_never_meet(make_folder: MakeFolder) -> None:
    modules = []
    for name in ("first", "second"):
        folder = make_folder(
            {
                "Runner.py": runner(
                    "import utils.shared\nimport helper",
                    "import lazy\nimport utils.later\nreturn utils.shared.OWNER, helper.OWNER, lazy.OWNER, utils.later.OWNER",
                ),
                **dict.fromkeys(
                    ("utils/shared.py", "helper.py", "files/lazy.py", "utils/later.py"), f"OWNER = '{name}'"
                ),
            },
            name,
        )
        modules.append(import_runner(folder_package(folder)))
    first, second = modules
    for _ in range(2):
        assert infer(first) == ("first",) * 4
        assert infer(second) == ("second",) * 4


def test_names_of_the_folder_come_before_those_of_the_process(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also a folder without __init__.py before an installed package, which Python would prefer."""
    installed = tmp_path / "site"
    (installed / "helper").mkdir(parents=True)
    (installed / "helper/__init__.py").write_text("OWNER = 'installed'")
    monkeypatch.syspath_prepend(installed)
    import helper  # type: ignore[import-not-found]

    folder = make_folder(
        {"Runner.py": runner("import helper.own", "return helper.own.OWNER"), "helper/own.py": "OWNER = 'author'"}
    )
    assert infer(import_runner(folder_package(folder))) == "author"
    assert sys.modules.pop("helper") is helper


def test_names_that_the_server_needs_meanwhile_stay_its_own(make_folder: MakeFolder) -> None:
    taken = ("numpy.py", "pydantic/__init__.py", "ray.py", "json.py", "__main__.py")
    names = "sys, numpy, pydantic, json"
    folder = make_folder(
        {"Runner.py": runner(f"import {names}", f"return {names}, sys.modules['__main__']"), **dict.fromkeys(taken, "")}
    )
    found = infer(import_runner(folder_package(folder)))
    assert [module is sys.modules[module.__name__] for module in found] == [True] * 5


def test_two_threads_run_one_algorithm_at_once_and_another_one_waits(make_folder: MakeFolder) -> None:
    first, second = (
        import_runner(
            folder_package(
                make_folder({"Runner.py": runner("", "import h\nreturn h.X"), "h.py": f"X = '{name}'"}, name)
            )
        )
        for name in ("first", "second")
    )
    entered, results = threading.Barrier(2, timeout=60), []

    def run_second() -> None:
        results.append(infer(second))

    def join_first() -> None:
        with first.active():
            entered.wait()

    with first.active():
        waiting = threading.Thread(target=run_second)
        waiting.start()
        companion = threading.Thread(target=join_first)
        companion.start()
        entered.wait()
        companion.join()
        assert results == []
        assert first.runner_class().inference(None, {}) == "first"
    waiting.join(60)
    assert results == ["second"]


def test_one_algorithm_cannot_enter_another_in_its_own_thread(make_folder: MakeFolder) -> None:
    first, second = (import_runner(folder_package(make_folder(name=name))) for name in ("first", "second"))
    with first.active(), pytest.raises(RuntimeError, match="own thread"), second.active():
        pass


def test_pickle_dataclasses_and_pydantic_find_their_modules(make_folder: MakeFolder) -> None:
    code = """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
from pydantic import BaseModel

@dataclass
class Point:
    kind: ClassVar[str] = "point"
    x: int = 1

class Tree(BaseModel):
    leaves: list[Leaf] = []

class Leaf(BaseModel):
    name: str
"""
    inference = "import pickle\nreturn pickle.loads(pickle.dumps(shapes.Point(5))).x, shapes.Tree(leaves=[{'name': 'a'}]).leaves[0].name"
    folder = make_folder({"Runner.py": runner("import shapes", inference), "shapes.py": code})
    module = import_runner(folder_package(folder))
    assert infer(module) == (5, "a")
    with module.active():
        assert pickle.loads(pickle.dumps(module.runner_class)) is module.runner_class


def test_a_folder_that_the_author_puts_on_sys_path_is_theirs_alone(make_folder: MakeFolder) -> None:
    hack = "import sys, os\nsys.path.insert(0, os.path.join(os.path.dirname(__file__), 'vendor'))\nimport hidden"
    modules = [
        import_runner(
            folder_package(
                make_folder(
                    {
                        "Runner.py": runner(hack, "import hidden_too\nreturn hidden.OWNER, hidden_too.OWNER"),
                        "vendor/hidden.py": f"OWNER = '{name}'",
                        "vendor/hidden_too.py": f"OWNER = '{name}'",
                    },
                    name,
                )
            )
        )
        for name in ("first", "second")
    ]
    assert [infer(module) for module in modules] == [("first", "first"), ("second", "second")]
    assert "hidden" not in sys.modules


class TestOldNames:
    """`algorithms` is the old name of `t3d_server.algorithm_utils`."""

    @pytest.mark.parametrize(
        "imports",
        [
            "from algorithms.BaseRunner import BaseRunner as Other",
            "from algorithms import BaseRunner as Other",
            "import algorithms.io_schemas\nfrom algorithms.BaseRunner import BaseRunner as Other",
            "import algorithms.Image2ImageRunner as m\nfrom algorithms.TypedRunner import BaseRunner as Other",
        ],
    )
    def test_they_are_the_very_same_classes(self, imports: str, make_folder: MakeFolder) -> None:
        folder = make_folder({"Runner.py": runner(imports, "return Other")})
        module = import_runner(folder_package(folder))
        assert infer(module) is BaseRunner
        assert module.warnings == ["`algorithms` is the old name of `t3d_server.algorithm_utils`; import it from there"]
        assert algorithm_utils.BaseRunner is BaseRunner

    def test_the_modules_own_files_win_and_the_rest_is_filled_in(self, make_folder: MakeFolder) -> None:
        own = "from t3d_server.algorithm_utils.io_schemas import *\nfrom t3d_server.algorithm_utils.io_schemas import DataSchema\nclass MyDataSchema(DataSchema): ..."
        imports = (
            "from algorithms.BaseRunner import BaseRunner\nfrom algorithms.io_schemas import MyDataSchema, ImageSchema"
        )
        folder = make_folder(
            {"Runner.py": runner(imports, "return MyDataSchema, ImageSchema"), "algorithms/io_schemas.py": own}
        )
        module = import_runner(folder_package(folder))
        mine, theirs = infer(module)
        assert mine.__module__ == "algorithms.io_schemas"
        assert theirs is algorithm_utils.ImageSchema
        assert issubclass(module.runner_class, BaseRunner)
        assert module.warnings == [
            "`algorithms.BaseRunner` is the old name of `t3d_server.algorithm_utils.BaseRunner`; import it from there"
        ]

    def test_new_names_give_no_warning(self, make_folder: MakeFolder) -> None:
        assert import_runner(folder_package(make_folder())).warnings == []


def test_a_failed_import_can_be_tried_again(make_folder: MakeFolder) -> None:
    folder = make_folder({"Runner.py": runner("import helper", "return helper.X"), "helper.py": "1 / 0"})
    with pytest.raises(ImportFailedError):
        import_runner(folder_package(folder))
    (folder / "helper.py").write_text("X = 1  # of another length")
    assert infer(import_runner(folder_package(folder))) == 1

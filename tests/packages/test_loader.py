"""Importing `Runner`: what authors may rely on, and what they are told when it fails."""

# ruff: noqa: E501  # small modules on one line
from __future__ import annotations

import json
import pickle
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from t3d_server import algorithm_utils
from t3d_server.algorithm_utils import BaseRunner, Image2ImageRunner
from t3d_server.errors import DatasetNotFoundError, ImportFailedError, InvalidPackageError
from t3d_server.models import Manifest
from t3d_server.packages.loader import (
    LoadedModule,
    folder_package,
    format_author_traceback,
    import_runner,
    resolve_type,
)

MakeFolder = Callable[..., Path]
Tags = Mapping[str, Mapping[str, str]]
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


@pytest.fixture(autouse=True)
def nothing_of_the_author_stays_behind() -> Any:
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


def test_two_threads_run_one_algorithm_at_once_and_another_one_waits(make_folder: MakeFolder) -> None:
    first, second = (
        import_runner(
            folder_package(
                make_folder({"Runner.py": runner("", "import h\nreturn h.X"), "h.py": f"X = '{name}'"}, name)
            )
        )
        for name in ("first", "second")
    )
    entered, results = threading.Barrier(2, timeout=10), []

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
    waiting.join(10)
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


FAULTS = [
    (
        {"Runner.py": HEAD + "import no_such_thing"},
        "No module named 'no_such_thing': the folder has no no_such_thing.py, and no package 'no_such_thing' is "
        "installed where this was tried; what provides it has to be in [project] dependencies, and installed",
    ),
    (
        {"Runner.py": HEAD + "import my_modle", "my_model/__init__.py": ""},
        "no package 'my_modle' is installed where this was tried; did you mean 'my_model'?",
    ),
    (
        {"Runner.py": HEAD + "import sub.moduls", "sub/modules.py": ""},
        ". sub is there, but holds no such module; did you mean 'sub.modules'?",
    ),
    ({"Runner.py": HEAD + "from sub import smoth", "sub.py": "def smooth(): ..."}, "; did you mean 'smooth'?"),
    ({"Runner.py": "from t3d_server.algorithm_utils import Image2Image"}, "; did you mean 'Image2ImageRunner'?"),
    ({"Runner.py": HEAD + "from .sub import x", "sub/x.py": ""}, "Import modules of the folder by plain name"),
    ({"Runner.py": "import sys\nsys.exit(3)"}, "SystemExit: 3"),
    ({"Runner.py": "1 / 0"}, "ZeroDivisionError: division by zero"),
    ({"Runner.py": "import t3d_server.algorithm_utils.NoRunner"}, "t3d_server is there, but holds no such module"),
]


@pytest.mark.parametrize(("files", "message"), FAULTS)
def test_an_import_that_fails_says_why_and_what_to_do(
    files: dict[str, str], message: str, make_folder: MakeFolder
) -> None:
    with pytest.raises(ImportFailedError) as caught:
        import_runner(folder_package(make_folder(files)))
    assert message in str(caught.value)
    assert caught.value.traceback is not None
    assert caught.value.traceback.splitlines()[1].strip().startswith('File "Runner.py", line ')


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("from t3d_server.algorithm_utils import BaseRunner", "Runner.py: defines no class named Runner"),
        ("Runner = 1", "Runner.py: Runner is no class that inherits from BaseRunner or from the class of its type"),
        (
            "class Runner(list): ...",
            "Runner.py: Runner is no class that inherits from BaseRunner or from the class of its type",
        ),
        (HEAD + "class Runner(BaseRunner):" + METHODS, "Runner.py: Runner does not implement inference"),
        (
            runner("", "").replace("    def inference", "    async def inference") + "        pass",
            "Runner.py: inference is `async def`; write `def`",
        ),
    ],
)
def test_a_runner_that_the_server_cannot_use_is_refused(code: str, problem: str, make_folder: MakeFolder) -> None:
    with pytest.raises(InvalidPackageError) as caught:
        import_runner(folder_package(make_folder({"Runner.py": code})))
    assert [str(one) for one in caught.value.problems] == [problem]


def test_a_failed_import_can_be_tried_again(make_folder: MakeFolder) -> None:
    folder = make_folder({"Runner.py": runner("import helper", "return helper.X"), "helper.py": "1 / 0"})
    with pytest.raises(ImportFailedError):
        import_runner(folder_package(folder))
    (folder / "helper.py").write_text("X = 1  # of another length")
    assert infer(import_runner(folder_package(folder))) == 1


class TestTraceback:
    def test_an_error_of_the_server_without_the_authors_code_has_none(self, tmp_path: Path) -> None:
        try:
            json.loads("{")
        except ValueError as cause:
            error = DatasetNotFoundError("it is gone")
            error.__cause__ = cause
        assert format_author_traceback(error, tmp_path) == ""

    def test_it_begins_in_the_authors_files_and_shows_their_lines(self, make_folder: MakeFolder) -> None:
        folder = make_folder(
            {
                "Runner.py": runner("import sub.deep", "return sub.deep.fail()"),
                "sub/deep.py": "import json\ndef fail():\n    try:\n        1 / 0\n    except ZeroDivisionError as e:\n        json.loads('{')\n",
            }
        )
        module = import_runner(folder_package(folder))
        with pytest.raises(ValueError, match="Expecting property") as caught:
            infer(module)
        text = format_author_traceback(caught.value, folder.resolve())
        frames = [line.strip() for line in text.splitlines() if line.strip().startswith("File ")]
        assert frames[:3] == [
            'File "sub/deep.py", line 4, in fail',
            'File "Runner.py", line 8, in inference',
            'File "sub/deep.py", line 6, in fail',
        ]
        assert all("json" in frame for frame in frames[3:])
        assert "return sub.deep.fail()" in text
        assert text.endswith(
            "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"
        )

    def test_a_syntax_error_names_file_and_line(self, make_folder: MakeFolder) -> None:
        with pytest.raises(ImportFailedError) as caught:
            import_runner(folder_package(make_folder({"Runner.py": "import helper", "helper.py": "x = (\n"})))
        assert 'File "Runner.py", line 1, in <module>' in (caught.value.traceback or "")
        assert 'File "helper.py", line 1' in (caught.value.traceback or "")
        assert "importlib" not in (caught.value.traceback or "")


@pytest.mark.parametrize("given", [None, "Generic"])
def test_the_type_is_taken_from_the_class(given: str | None) -> None:
    manifest = Manifest(name="foo", version="1.0.0", algorithm_type=given)
    assert resolve_type(manifest, BaseRunner).algorithm_type == "Generic"  # type: ignore[type-abstract]  # it is not instantiated


def test_a_type_that_disagrees_with_the_class_is_refused() -> None:
    class Runner(Image2ImageRunner):
        def inference(self, data: Any, args: dict[str, Any]) -> Any: ...

    with pytest.raises(InvalidPackageError) as caught:
        resolve_type(Manifest(name="foo", version="1.0.0", algorithm_type="Image2Embedding"), Runner)
    assert [str(problem) for problem in caught.value.problems] == [
        "tool.t3dserver.algorithm_type: found 'Image2Embedding', but Runner derives from Image2ImageRunner, "
        "whose type is 'Image2Image'; write 'Image2Image', or derive Runner from Image2EmbeddingRunner"
    ]


def test_a_type_of_the_folders_own_is_known_by_its_class(make_folder: MakeFolder) -> None:
    own = (
        "from t3d_server.algorithm_utils import GenericSchema, TypedRunner\nclass Image2CountRunner(TypedRunner):\n"
        "    algorithm_type = 'Image2Count'\n    input_schema = output_schema = GenericSchema\n    input_count = (1, 1)\n"
    )
    code = (
        "from count_runner import Image2CountRunner\nclass Runner(Image2CountRunner):"
        + METHODS
        + "    def inference(self, data, args): ..."
    )
    module = import_runner(folder_package(make_folder({"Runner.py": code, "count_runner.py": own})))
    for given in (None, "Image2Count"):
        manifest = Manifest(name="foo", version="1.0.0", algorithm_type=given)
        resolved = resolve_type(manifest, module.runner_class)
        assert resolved.algorithm_type == "Image2Count"
        assert resolved.inputs is not None
        assert resolved.inputs.max_datasets == 1


def test_a_type_may_come_from_an_installed_package(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "installed").mkdir()
    example = Path(__file__).parents[2] / "examples" / "volume2mesh" / "Volume2MeshRunner.py"
    shutil.copy(example, tmp_path / "installed" / "my_lab_types.py")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    code = (
        "from my_lab_types import Volume2MeshRunner\nclass Runner(Volume2MeshRunner):\n"
        "    def inference(self, data, args): ..."
    )
    module = import_runner(folder_package(make_folder({"Runner.py": code})))
    resolved = resolve_type(Manifest(name="foo", version="1.0.0", algorithm_type="Volume2Mesh"), module.runner_class)
    assert resolved.outputs is not None
    assert [key.key for key in resolved.outputs.keys or ()] == ["vertices", "faces", "unit"]


def test_a_type_that_nobody_defines_is_refused_with_what_there_is_and_how_to_define_it() -> None:
    def message(asked: str, runner_class: type[BaseRunner]) -> str:
        with pytest.raises(InvalidPackageError) as caught:
            resolve_type(Manifest(name="foo", version="1.0.0", algorithm_type=asked), runner_class)
        return str(caught.value.problems[0])

    assert message("Volume2Mesh", BaseRunner) == (  # type: ignore[type-abstract]  # likewise
        "tool.t3dserver.algorithm_type: found 'Volume2Mesh', but Runner derives from BaseRunner, whose type is "
        "'Generic'; nothing defines 'Volume2Mesh', the types are: Generic, Image2Alignment, Image2Embedding, "
        "Image2Image, Image2Segmentation. To define a type, derive Runner from a subclass of TypedRunner that has "
        "algorithm_type = 'Volume2Mesh' (docs/types.md)"
    )
    misspelt = message("Image2Imag", Image2ImageRunner)  # type: ignore[type-abstract]  # likewise
    assert "Image2Segmentation; did you mean 'Image2Image'? To define a type" in misspelt


def test_faults_of_a_type_are_told_with_the_class_that_has_them(make_folder: MakeFolder) -> None:
    own = (
        "from t3d_server.algorithm_utils import Image2ImageRunner, TypedRunner\n"
        "class CountRunner(TypedRunner):\n    algorithm_type = 'Image2Image'\n    input_count = (2, 1)\n"
        "class Runner(CountRunner):"
        + METHODS
        + "    def inference(self, data, args): ...\n    output_schema = int\n    algorithm_tags = ['a']\n"
    )
    with pytest.raises(InvalidPackageError) as caught:
        import_runner(folder_package(make_folder({"Runner.py": own})))
    schema = "it has to be a schema, such as t3d_server.algorithm_utils.ImageSchema"
    assert [problem.message for problem in caught.value.problems] == [
        "CountRunner.algorithm_type is 'Image2Image', the type of Image2ImageRunner: derive from that class, or take "
        "another name",
        f"CountRunner.input_schema is missing; {schema}",
        f"Runner.output_schema is <class 'int'>; {schema}",
        "CountRunner.input_count is (2, 1); it has to be (fewest, most), such as (1, None) or (2, 2)",
        "Runner.algorithm_tags has to be a dictionary that gives each tag a line of explanation",
    ]

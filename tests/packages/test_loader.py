"""Importing `Runner`: what authors are told when it fails, and the type that it has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t3d_server.algorithm_utils import BaseRunner, Image2ImageRunner
from t3d_server.errors import ImportFailedError, InvalidPackageError
from t3d_server.models import Manifest
from t3d_server.packages.loader import folder_package, import_runner, resolve_type
from tests.packages.runners import HEAD, METHODS, runner

MakeFolder = Callable[..., Path]


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
    (
        {"Runner.py": HEAD + "from scipy import ndimage", "scipy.py": ""},
        "scipy.py of the folder hides the installed package scipy ",
    ),
    (
        {"Runner.py": HEAD + "import scipy.ndimage", "scipy.py": ""},
        "scipy.py of the folder hides the installed package scipy ",
    ),
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
        "    algorithm_type = 'Image2Count'\n    input_schema = output_schema = GenericSchema\n"
        "    input_count = (1, 1)\n"
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

"""Importing a package in a fresh process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from t3d_server.errors import ImportFailedError, InvalidPackageError
from t3d_server.models import Manifest
from t3d_server.packages.fetch import folder_package
from t3d_server.packages.import_check import check_import

MakeFolder = Callable[..., Path]
Tags = Mapping[str, Mapping[str, str]]
MANIFEST = Manifest(name="foo", version="1.0.0")
SOUND = """
import threading, time
from algorithms.Image2ImageRunner import Image2ImageRunner
print("noise")
threading.Thread(target=time.sleep, args=(60,)).start()
class Runner(Image2ImageRunner):
    def inference(self, data, args): ...
"""


def test_a_sound_package_has_its_type_and_warnings_told(make_folder: MakeFolder, tags: Tags) -> None:
    """Whatever it prints, and although it has left a thread running."""
    manifest, warnings = check_import(folder_package(make_folder({"Runner.py": SOUND})), MANIFEST, 60, tags=tags)
    assert manifest.algorithm_type == "Image2Image"
    assert manifest.inputs is not None
    assert [key.key for key in manifest.inputs.keys or () if not key.optional] == ["image"]
    assert manifest.outputs is not None
    assert manifest.outputs.count == "one for each input, in order"
    assert warnings == ["`algorithms` is the old name of `t3d_server.algorithm_utils`; import it from there"]


@pytest.mark.parametrize("own_type", [False, True])
def test_tags_are_checked_once_the_type_is_known(make_folder: MakeFolder, tags: Tags, own_type: bool) -> None:
    """Those of another type are refused, where the type is the module's own, too."""
    folder = make_folder({"Runner.py": OWN_TYPE} if own_type else {})
    with pytest.raises(InvalidPackageError, match="a tag of Image2Image"):
        check_import(folder_package(folder), MANIFEST.model_copy(update={"tags": ["image-denoising"]}), 60, tags=tags)


OWN_TYPE = """
from t3d_server.algorithm_utils import GenericSchema, TypedRunner
class Image2CountRunner(TypedRunner):
    algorithm_type = "Image2Count"
    algorithm_tags = {"cell-counting": "counts cells"}
    input_schema = output_schema = GenericSchema
    def preprocess(self, input_data, args): ...
    def postprocess(self, inference_output, args): ...
class Runner(Image2CountRunner):
    def inference(self, data, args): ...
"""


@pytest.mark.parametrize("algorithm_type", [None, "Image2Count"])
def test_tags_of_an_own_type_are_those_of_its_class(
    make_folder: MakeFolder, tags: Tags, algorithm_type: str | None
) -> None:
    """Whether the manifest names the type or not."""
    package = folder_package(make_folder({"Runner.py": OWN_TYPE}))
    given = MANIFEST.model_copy(update={"algorithm_type": algorithm_type, "tags": ["cell-counting", "cel-counting"]})
    resolved, warnings = check_import(package, given, 60, tags=tags)
    assert resolved.algorithm_type == "Image2Count"
    assert warnings == [
        "tool.t3dserver.tags[1]: 'cel-counting' is no known tag of 'Image2Count'; did you mean 'cell-counting'?"
    ]


def test_the_traceback_of_the_author_comes_back(make_folder: MakeFolder, tags: Tags) -> None:
    folder = make_folder({"Runner.py": "import helper", "helper.py": "1 / 0"})
    with pytest.raises(ImportFailedError, match="division by zero") as caught:
        check_import(folder_package(folder), MANIFEST, 60, tags=tags)
    assert caught.value.traceback is not None
    assert caught.value.traceback.startswith(
        'Traceback (most recent call last):\n  File "Runner.py", line 1, in <module>'
    )


def test_a_type_that_disagrees_comes_back_with_its_problem(make_folder: MakeFolder, tags: Tags) -> None:
    with pytest.raises(InvalidPackageError) as caught:
        check_import(folder_package(make_folder()), MANIFEST.model_copy(update={"algorithm_type": "X"}), 60, tags=tags)
    assert [problem.key for problem in caught.value.problems] == ["tool.t3dserver.algorithm_type"]


def test_a_crash_is_reported_with_what_was_printed(make_folder: MakeFolder, tags: Tags) -> None:
    code = "import os\nprint('last words', flush=True)\nos._exit(7)"
    with pytest.raises(ImportFailedError, match="with code 7") as caught:
        check_import(folder_package(make_folder({"Runner.py": code})), MANIFEST, 60, tags=tags)
    assert caught.value.traceback == "last words\n"


def test_a_hang_is_killed_with_its_children(make_folder: MakeFolder, tags: Tags, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    child = f"import time; held = open({str(tmp_path / 'held')!r}, 'w'); time.sleep(3600)"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(ImportFailedError, match="did not end within 3 s"):
        check_import(folder_package(make_folder({"Runner.py": code})), MANIFEST, 3, tags=tags)
    os.set_blocking(held, True)
    assert os.read(held, 1) == b""  # once nobody has it open to write
    os.close(held)

"""What building a package refuses, warns of and makes."""

# ruff: noqa: E501  # exact messages
from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from t3d_server.errors import InvalidPackageError
from t3d_server.packages.builder import build, source_hash, store_package
from t3d_server.storage.memory import MemoryObjectStore

MakeFolder = Callable[..., Path]
Tags = Mapping[str, Mapping[str, str]]
MANIFEST = '[project]\nname = "foo"\nversion = "1.0.0"\n'
HEAD = "from t3d_server.algorithm_utils import BaseRunner\nclass Runner(BaseRunner):\n"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"pyproject.toml": None}, 'pyproject.toml: is missing; it needs [project] with name and version = "1.0.0"'),
        (
            {"pyproject.toml": None, "pyproject.toml/a.toml": ""},
            'pyproject.toml: is missing; it needs [project] with name and version = "1.0.0"',
        ),
        ({"Runner/__init__.py": ""}, "Runner/: would be imported in place of Runner.py; rename it"),
        ({"sub/x.py": "def f(:\n"}, "sub/x.py:1: invalid syntax: def f(:"),
        (
            {"Runner.py": HEAD + "    def load_assets(self):\n        a = self.fetch_asset('x')\u00a8\n"},
            "Runner.py:4: invalid character '\u00a8' (U+00A8): a = self.fetch_asset('x')\u00a8",
        ),
        ({"Runner.py": "x = 1\nclass Other: ..."}, "Runner.py: defines no class named Runner"),
        (
            {"Runner.py": "class Runner: ..."},
            "Runner.py:1: class Runner inherits from nothing; it must inherit from BaseRunner or the class of its type, "
            "such as t3d_server.algorithm_utils.Image2ImageRunner",
        ),
        (
            {"Runner.py": HEAD + "    async def inference(self, data, args): ..."},
            "Runner.py:3: inference is `async def`; it is called in a thread of its own: write `def`",
        ),
        (
            {"Runner.py": HEAD + "    async def load_assets(self): ..."},
            "Runner.py:3: load_assets is `async def`; it is called in a thread of its own: write `def`",
        ),
        (
            {"Runner.py": HEAD + "    def inference(self, data): ..."},
            "Runner.py:3: inference is called as inference(self, data, args), but is defined with (self, data)",
        ),
        (
            {"Runner.py": HEAD + "    def preprocess(self, a, b, c): ..."},
            "Runner.py:3: preprocess is called as preprocess(self, data, args), but is defined with (self, a, b, c)",
        ),
        (
            {"Runner.py": HEAD + "    def preprocess(self, a, b, *, c): ..."},
            "Runner.py:3: preprocess is called as preprocess(self, data, args), but is defined with (self, a, b, *, c)",
        ),
        (
            {"Runner.py": HEAD + "    def load_assets(self, path): ..."},
            "Runner.py:3: load_assets is called as load_assets(self), but is defined with (self, path)",
        ),
        (
            {"Runner.py": HEAD + "    def __init__(self, path): ..."},
            "Runner.py:3: __init__ is called as __init__(self), but is defined with (self, path)",
        ),
        ({"nul.py": b"a = 1\0"}, "nul.py: cannot be parsed: source code string cannot contain null bytes"),
    ],
)
def test_a_folder_that_cannot_work_is_refused(
    files: dict[str, str | None], problem: str, make_folder: MakeFolder, tags: Tags
) -> None:
    with pytest.raises(InvalidPackageError) as caught:
        build(make_folder(files), tags=tags)
    assert [str(one) for one in caught.value.problems] == [problem]


def test_a_manifest_that_is_a_link_is_not_there(make_folder: MakeFolder, tags: Tags, tmp_path: Path) -> None:
    """Nor would it be on the server, to which links are not sent."""
    folder = make_folder()
    (folder / "pyproject.toml").rename(tmp_path / "manifest.toml")
    (folder / "pyproject.toml").symlink_to(tmp_path / "manifest.toml")
    with pytest.raises(InvalidPackageError) as caught:
        build(folder, tags=tags)
    assert [problem.key for problem in caught.value.problems] == ["pyproject.toml", "left out"]


def test_code_that_is_generated_may_be_nested_deep(make_folder: MakeFolder, tags: Tags) -> None:
    """Python runs it, so no check gives up on it."""
    cases = "x = 1\nif x == 1: pass\n" + "".join(f"elif x == {index}: pass\n" for index in range(1000))
    method = f"def inference(self, data, x):\n{cases}return {' + '.join(['x'] * 1000)}\n".replace("\n", "\n        ")
    code = f"{cases}{HEAD}    {method.replace('x: pass', 'x: return 1')}"
    assert build(make_folder({"Runner.py": code}), tags=tags).warnings == []


@pytest.mark.parametrize(
    "body",
    [
        "def preprocess(self, input_data, args={}): ...",
        "def preprocess(self, input_data, args, extra=None, *, more=1): ...",
        "def preprocess(self, *args): ...",
        "@staticmethod\n    def preprocess(input_data, args): ...",
        "@classmethod\n    def preprocess(cls, input_data, args, /, **more): ...",
    ],
)
def test_every_signature_that_can_be_called_is_accepted(body: str, make_folder: MakeFolder, tags: Tags) -> None:
    build(make_folder({"Runner.py": f"{HEAD}    {body}\n"}), tags=tags)


@pytest.mark.parametrize(
    "code", ["from sub.impl import Runner", "from sub.impl import *", "try:\n    class Runner(B): ...\nfinally: ..."]
)
def test_a_runner_that_only_the_import_can_tell_of_is_accepted(code: str, make_folder: MakeFolder, tags: Tags) -> None:
    build(make_folder({"Runner.py": code}), tags=tags)


def test_problems_of_manifest_and_code_come_at_once(make_folder: MakeFolder, tags: Tags) -> None:
    with pytest.raises(InvalidPackageError) as caught:
        build(make_folder({"pyproject.toml": "[project]\nname = 'a'", "Runner.py": "", "x.py": "("}), tags=tags)
    assert [problem.key for problem in caught.value.problems] == ["project.version", "Runner.py", "x.py:1"]


@pytest.mark.parametrize(
    ("head", "asked", "problem"),
    [
        ("from t3d_server.algorithm_utils import Image2SegmentationRunner as Base", "Image2Image", "write 'Image2Seg"),
        ("from t3d_server.algorithm_utils import Image2SegmentationRunner as Base", "Image2Imag", "nothing defines"),
        ("from base import Base", "Image2Embedding", ""),
    ],
)
def test_a_type_that_the_class_has_not_is_told_with_all_else(
    make_folder: MakeFolder, tags: Tags, head: str, asked: str, problem: str
) -> None:
    """As far as the text tells what `Runner` derives from; tags are held against the type of the class."""
    section = f"[tool.t3dserver]\nalgorithm_type = '{asked}'\ntags = ['cell-segmentation']\n"
    folder = make_folder(
        {
            "pyproject.toml": f"[project]\nname = 'a'\nversion = '1'\n{section}",
            "Runner.py": f"{head}\nclass Runner(Base): ...\n",
            "base.py": "",
        }
    )
    with pytest.raises(InvalidPackageError) as caught:
        build(folder, tags={**tags, "Image2Segmentation": {"cell-segmentation": ""}})
    of_version, *others = caught.value.problems
    assert of_version.key == "project.version"
    assert [each.key for each in others] == [f"tool.t3dserver.{'algorithm_type' if problem else 'tags[0]'}"]
    assert problem in others[0].message


def test_what_is_doubtful_is_a_warning(make_folder: MakeFolder, tags: Tags) -> None:
    folder = make_folder(
        {
            "pyproject.toml": "\ufeff"
            + MANIFEST
            + "dependencies = ['numpy>=1', 'numpy>99', 'no-such-thing', 'no-such-thing; python_version < \"3\"', 'skimage']\n"
            + "[tool.t3dserver]\nalgorithm_typ = 'Generic'\n",
            "__init__.py": "from .Runner import Runner\nimport nowhere",  # which nobody imports
            "random.py": "",
            "sub/fast.so": b"",
            "link": None,
        }
    )
    (folder / "link").symlink_to(folder / "Runner.py")
    assert build(folder, tags=tags).warnings == [
        "link: a link, left out; put the file itself there",
        "random.py: `import random` gives the module of Python's library, not this one; rename it",
        "tool.t3dserver.algorithm_typ: unknown and ignored; did you mean 'algorithm_type'?",
        f"project.dependencies[1]: numpy>99 is asked for, but numpy {np.__version__} is installed here",
        "project.dependencies[2]: no-such-thing is not installed here",
        "project.dependencies[4]: skimage is what code imports; the package is called scikit-image",
        "sub/fast.so: only .py files can be imported; this is an asset. Install compiled code as a dependency",
    ]


def test_warnings_of_the_code_come_in_the_order_of_its_lines(make_folder: MakeFolder, tags: Tags) -> None:
    """Whichever check they are of."""
    code = "from t3d_server.algorithm_utils import BaseRunner\nimport nowhere\nnothing\nbreakpoint()\nimport neither\n"
    folder = make_folder({"Runner.py": code + "class Runner(BaseRunner): ...\n", "a.py": "something\n"})
    places = [warning.partition(": ")[0] for warning in build(folder, tags=tags).warnings]
    assert places == ["Runner.py:2", "Runner.py:3", "Runner.py:4", "Runner.py:5", "a.py:1"]


def test_code_goes_into_the_archive_and_every_other_file_is_an_asset(make_folder: MakeFolder, tags: Tags) -> None:
    folder = make_folder({"__init__.py": "", "files/model.pt": b"w", "files/helper.py": "x = 1", "sub/a.txt": "t"})
    built = build(folder, tags=tags)
    with zipfile.ZipFile(io.BytesIO(built.module)) as archive:
        assert archive.namelist() == ["Runner.py", "__init__.py", "files/helper.py"]
        assert archive.read("Runner.py") == (folder / "Runner.py").read_bytes()
    assert list(built.assets) == ["files/model.pt", "pyproject.toml", "sub/a.txt"]
    assert built.asset_sha256["files/model.pt"] == hashlib.sha256(b"w").hexdigest()
    assert built.module_sha256 == hashlib.sha256(built.module).hexdigest()


def test_equal_folders_are_equal_and_others_are_not(make_folder: MakeFolder, tags: Tags) -> None:
    first, same, moved, changed = (
        build(make_folder(files, name), tags=tags)
        for name, files in {
            "first": {"files/a": "x"},
            "same": {"files/a": "x", "__pycache__/x.pyc": "", ".git/HEAD": ""},
            "moved": {"files/b": "x"},
            "changed": {"files/a": "y"},
        }.items()
    )
    assert (first.source_sha256, first.module_sha256) == (same.source_sha256, same.module_sha256)
    assert len({first.source_sha256, moved.source_sha256, changed.source_sha256}) == 3
    files = {path: hashlib.sha256(file.read_bytes()).hexdigest() for path, file in first.assets.items()}
    runner = (first.assets["pyproject.toml"].parent / "Runner.py").read_bytes()
    assert source_hash(files | {"Runner.py": hashlib.sha256(runner).hexdigest()}) == first.source_sha256


def test_equal_content_is_stored_once(make_folder: MakeFolder, tags: Tags) -> None:
    class CountingStore(MemoryObjectStore):
        puts = 0

        def put(self, *args: object, **kwargs: object) -> None:
            self.puts += 1
            super().put(*args, **kwargs)  # type: ignore[arg-type]

    store = CountingStore()
    first = store_package(store, build(make_folder({"files/a": "w", "files/b": "w"}, "first"), tags=tags))
    assert store.puts == 3
    second = store_package(store, build(make_folder({"files/c": "w"}, "second"), tags=tags))
    assert store.puts == 3
    assert first.module_sha256 == second.module_sha256
    keys = {stat.key for stat in store.list("")}
    assert keys == {f"modules/{first.module_sha256}.zip", *(f"assets/{one}" for one in first.assets.values())}

"""Tracebacks as authors get them."""

# ruff: noqa: E501  # small modules on one line
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from t3d_server.errors import DatasetNotFoundError, ImportFailedError
from t3d_server.packages.loader import folder_package, format_author_traceback, import_runner
from tests.packages.runners import infer, runner

MakeFolder = Callable[..., Path]


def test_an_error_of_the_server_without_the_authors_code_has_none(tmp_path: Path) -> None:
    try:
        json.loads("{")
    except ValueError as cause:
        error = DatasetNotFoundError("it is gone")
        error.__cause__ = cause
    assert format_author_traceback(error, tmp_path) == ""


def test_it_begins_in_the_authors_files_and_shows_their_lines(make_folder: MakeFolder) -> None:
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


def test_a_syntax_error_names_file_and_line(make_folder: MakeFolder) -> None:
    with pytest.raises(ImportFailedError) as caught:
        import_runner(folder_package(make_folder({"Runner.py": "import helper", "helper.py": "x = (\n"})))
    assert 'File "Runner.py", line 1, in <module>' in (caught.value.traceback or "")
    assert 'File "helper.py", line 1' in (caught.value.traceback or "")
    assert "importlib" not in (caught.value.traceback or "")

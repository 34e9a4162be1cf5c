"""Check: every file can be parsed."""

from __future__ import annotations

from collections.abc import Iterator

from t3d_server.errors import Problem
from t3d_server.packages.lint.sources import Folder


def check_syntax(folder: Folder) -> Iterator[Problem]:
    """Yield an error for each file that cannot be parsed."""
    for path, source in folder.sources.items():
        match source.error:
            case SyntaxError(text=str(text)) as error if text:
                yield Problem(f"{path}:{error.lineno}", f"{error.msg}: {text.strip():.100}")
            case Exception() as error:
                yield Problem(path, f"cannot be parsed: {error}")

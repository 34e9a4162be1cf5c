"""Tracebacks as an author wants them: from their own code on, with paths in their own folder."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import t3d_server
from t3d_server.errors import T3dError

_OURS = Path(t3d_server.__file__).parent


def format_author_traceback(error: BaseException, folder: Path) -> str:
    """Format an exception of an author's code.

    Frames above the first one in the author's folder are cut off, those of the server and of the import machinery
    everywhere; file names are relative to the folder.

    Args:
        error: the exception.
        folder: folder of the code, as in `Package.folder`.

    Returns:
        The traceback; "" where no code but the server's was involved, or where the error is one that the server raises
        on purpose without the author's code: then it tells no more than the message.
    """
    summary = traceback.TracebackException.from_exception(error)
    parts = list(_chain(summary))
    faulty = [part for part in parts if part.exc_type is not None and issubclass(part.exc_type, SyntaxError)]
    authors = False
    for part in parts:
        frames = [frame for frame in part.stack if not _is_hidden(frame.filename, folder)]
        ours = [Path(frame.filename).is_relative_to(folder) for frame in frames]
        for frame, is_authors in zip(frames, ours, strict=True):
            if is_authors:
                frame.line  # noqa: B018  # reads the source line, while the file name still leads to it
                frame.filename = Path(frame.filename).relative_to(folder).as_posix()
        authors = authors or any(ours)
        part.stack[:] = frames[ours.index(True) if any(ours) else 0 :]
    if isinstance(error, T3dError) and not authors:
        return ""
    for part in faulty:
        part.filename = part.filename and part.filename.removeprefix(f"{folder}/")
    return "".join(summary.format()) if faulty or any(part.stack for part in parts) else ""


def _is_hidden(filename: str, folder: Path) -> bool:
    if Path(filename).is_relative_to(folder):
        return False
    return Path(filename).is_relative_to(_OURS) or filename.startswith("<frozen importlib") or "/importlib/" in filename


def _chain(summary: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    waiting = [summary]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [other for other in (part.__cause__, part.__context__, *(part.exceptions or ())) if other]

"""Whether the algorithm type and the tags of a manifest fit each other and the class, as far as that is known."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping

from t3d_server.algorithm_utils import BaseRunner
from t3d_server.algorithm_utils.declarations import server_types
from t3d_server.errors import InvalidPackageError, Problem
from t3d_server.packages.lint.nodes import server_imports
from t3d_server.packages.lint.sources import Folder
from t3d_server.packages.wording import did_you_mean


def base_of_runner(folder: Folder) -> type[BaseRunner] | None:
    """The server's class from which `Runner` derives by itself; None where the text of `Runner.py` does not show it."""
    match folder.runner:
        case ast.ClassDef(bases=[ast.Name(id=name)]) as runner if not _names_a_type(runner):
            imported = dict(reversed([*server_imports(folder.sources["Runner.py"].nodes)]))  # the first one counts
            return {base.__name__: base for base in server_types().values()}.get(imported.get(name, ""))
    return None


def check_type(
    algorithm_type: str,
    base: type[BaseRunner] | None,
    tags: Collection[str],
    known: Mapping[str, Collection[str]],
    problems: list[Problem],
    warnings: list[str],
) -> None:
    """Check the type in a manifest, and its tags.

    A type that nobody knows may be the module's own: its class tells, also of the tags.

    Args:
        algorithm_type: the type in the manifest.
        base: the server's class from which `Runner` derives, if that is known.
        tags: the tags in the manifest.
        known: the tags of each algorithm type.
        problems: what is wrong is added here.
        warnings: what is doubtful is added here.
    """
    if base is not None and algorithm_type.casefold() != base.algorithm_type.casefold():
        problems.append(disagreement(algorithm_type, base))
        _check_tags(base.algorithm_type, tags, known, problems, warnings)
        return
    same = [name for name in known if name.casefold() == algorithm_type.casefold()]
    if same:
        _check_tags(same[0], tags, known, problems, warnings)
        if algorithm_type not in known:
            hint = did_you_mean(algorithm_type, known)
            problems.append(Problem("tool.t3dserver.algorithm_type", f"found {algorithm_type!r}{hint}"))


def check_tags(algorithm_type: str, tags: Collection[str], *, known: Mapping[str, Collection[str]]) -> list[str]:
    """Check tags against those of the algorithm type.

    Args:
        algorithm_type: the algorithm's type.
        tags: its tags.
        known: the tags of each algorithm type.

    Returns:
        A warning for each tag that nobody knows.

    Raises:
        InvalidPackageError: a tag belongs to another type: clients would expect other data.
    """
    problems: list[Problem] = []
    warnings: list[str] = []
    _check_tags(algorithm_type, tags, known, problems, warnings)
    if problems:
        raise InvalidPackageError("Tags of another algorithm type.", problems=problems)
    return warnings


def disagreement(asked: str, base: type[BaseRunner]) -> Problem:
    """The problem of a manifest that names another type than the class has.

    Args:
        asked: the type in the manifest.
        base: the class that names the type of `Runner`.
    """
    own = base.algorithm_type
    message = f"found {asked!r}, but Runner derives from {base.__name__}, whose type is {own!r}; {_way_out(asked, own)}"
    return Problem("tool.t3dserver.algorithm_type", message)


def _check_tags(
    algorithm_type: str,
    tags: Collection[str],
    known: Mapping[str, Collection[str]],
    problems: list[Problem],
    warnings: list[str],
) -> None:
    own = known.get(algorithm_type, ())
    for index, tag in enumerate(tags):
        key = f"tool.t3dserver.tags[{index}]"
        owners = [name for name, its_tags in known.items() if tag in its_tags]
        if owners and tag not in own:
            allowed = f"the tags of {algorithm_type!r} are: {', '.join(own) or 'none'}"
            problems.append(Problem(key, f"found {tag!r}, a tag of {' and '.join(owners)}; {allowed}"))
        elif not owners:
            warnings.append(f"{key}: {tag!r} is no known tag of {algorithm_type!r}{did_you_mean(tag, own)}")


def _way_out(asked: str, own: str) -> str:
    types = server_types()
    if asked in types:
        return f"write {own!r}, or derive Runner from {types[asked].__name__}"
    # A type that is near, but not that of the class, would be the next problem.
    return (
        f"nothing defines {asked!r}, the types are: {', '.join(dict.fromkeys([*types, own]))}"
        f"{did_you_mean(asked, [own]) or '.'} To define a type, derive Runner from a subclass of TypedRunner that has "
        f"algorithm_type = {asked!r} (docs/types.md)"
    )


def _names_a_type(runner: ast.ClassDef) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "algorithm_type" for node in ast.walk(runner))

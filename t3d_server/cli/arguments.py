"""Arguments that several commands take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from t3d_server.client import Client
from t3d_server.errors import InvalidArgsError, InvalidRequestError, Problem, RunNotFoundError
from t3d_server.ids import canonical, is_id
from t3d_server.models import Device as DeviceName
from t3d_server.models import Parameter
from t3d_server.packages.parameters import TYPES, resolve_args

Args = Annotated[
    list[str],
    typer.Option(
        "-a",
        "--arg",
        metavar="NAME=VALUE",
        help="A parameter: -a sigma=0.5, -a invert=true, -a labels=cell,nucleus (a list); one -a for each.",
    ),
]
Device = Annotated[DeviceName | None, typer.Option(help="Else the algorithm's default.")]
RunId = Annotated[str, typer.Argument(help="Id of the run, or the beginning of the id of a recent run.")]

_RECENT_RUNS = 200
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
_LISTS = {"string": "cell,nucleus", "integer": "8,16", "number": "0.5,2", "boolean": "true,false"}


def parse_args(items: Sequence[str], parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Parameters from `name=value`, each read by its type.

    A string is the text as it stands, `7` and `true` too; a list has commas, or is JSON: `["a, b", "c"]`.

    Args:
        items: what `-a` was given.
        parameters: those of the algorithm.

    Raises:
        InvalidArgsError: lists every item that has no `=`, comes twice, is unknown, or does not fit.
    """
    types = {f"args.{parameter.name}": TYPES[parameter.type] for parameter in parameters}
    args: dict[str, Any] = {}
    problems = []
    for item in items:
        name, given, text = item.partition("=")
        kind = types.get(f"args.{name}")
        if not given:
            problems.append(Problem(item, "NAME=VALUE is expected, such as -a sigma=0.5"))
        elif name in args:
            problems.append(Problem(item, f"{name} is given twice; a list is one value: -a NAME=cell,nucleus"))
        elif kind is None:
            args[name] = text
        else:
            read = _read_list if kind.form == "list" else _read
            args[name] = read(text, kind.scalar.json_type)
    try:
        resolve_args(parameters, args)
    except InvalidArgsError as error:
        for problem in error.problems:
            kind, name = types.get(problem.key), problem.key.removeprefix("args.")
            hint = f", such as -a {name}={_LISTS[kind.scalar.json_type]}" if kind and kind.form == "list" else ""
            problems.append(Problem(problem.key, problem.message + hint))
    if problems:
        raise InvalidArgsError("The args do not fit the algorithm's parameters.", problems=problems)
    return args


def parse_spacing(text: str | None) -> list[float] | None:
    """Numbers from `2,0.65,0.65`; the server checks their values.

    Raises:
        InvalidArgsError: they are no numbers.
    """
    try:
        return None if text is None else [float(number) for number in text.split(",")]
    except ValueError:
        raise InvalidArgsError(f"--spacing {text}: numbers with commas are expected, such as 2,0.65,0.65") from None


def full_id(client: Client, beginning: str) -> str:
    """The full id of a run, from its beginning; a beginning is looked for among the latest runs.

    Raises:
        InvalidRequestError: it is empty, which is the beginning of every id.
        RunNotFoundError: no run has it, or several have.
    """
    if not beginning.strip():
        raise InvalidRequestError("the id of the run is empty; `t3d runs` lists the ids")
    if is_id(identifier := canonical(beginning)):
        return identifier
    found = [run.id for run in client.runs(limit=_RECENT_RUNS) if run.id.startswith(beginning.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise RunNotFoundError(f"{len(found)} runs begin with {beginning!r}: {some}; give more of it")
    raise RunNotFoundError(
        f"no recent run begins with {beginning!r}; `t3d runs` lists them, older ones need the whole id"
    )


def _read(text: str, json_type: str) -> Any:
    """A value; the text itself if it is not of that type, which a later check reports."""
    if json_type == "boolean":
        return _BOOLEANS.get(text.lower(), text)
    if json_type != "string":
        for number in (int, float):
            with suppress(ValueError):
                return number(text)
    return text


def _read_list(text: str, json_type: str) -> Any:
    """A list, likewise."""
    if text.startswith("["):
        with suppress(json.JSONDecodeError):
            return json.loads(text)
        return text
    return [_read(item.strip(), json_type) for item in text.split(",")] if text else []

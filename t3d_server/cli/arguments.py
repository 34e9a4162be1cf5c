"""Arguments that several commands take."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from t3d_server.client import Client
from t3d_server.errors import InvalidArgsError, Problem, RunNotFoundError
from t3d_server.ids import is_id
from t3d_server.models import Device as DeviceName

Args = Annotated[
    list[str],
    typer.Option("-a", "--arg", metavar="KEY=VALUE", help="A parameter; the value is read as JSON where it is JSON."),
]
Device = Annotated[DeviceName | None, typer.Option(help="Else the algorithm's default.")]
RunId = Annotated[str, typer.Argument(help="Id of the run; of a recent one, its beginning will do.")]

_RECENT_RUNS = 200


def parse_args(items: list[str]) -> dict[str, Any]:
    """Parameters from `key=value`: `0.5`, `true`, `[1, 2]` and `"text"` as JSON, all else as text.

    Raises:
        InvalidArgsError: an item has no `=`.
    """
    wrong = [item for item in items if "=" not in item]
    if wrong:
        problems = [Problem(item, "KEY=VALUE is expected, such as -a sigma=0.5") for item in wrong]
        raise InvalidArgsError("parameters could not be read", problems=problems)
    return {key: _value(text) for key, text in (item.split("=", 1) for item in items)}


def parse_spacing(text: str | None) -> list[float] | None:
    """Numbers from `2,0.65,0.65`; what they have to be is for the server to say.

    Raises:
        InvalidArgsError: they are no numbers.
    """
    try:
        return None if text is None else [float(number) for number in text.split(",")]
    except ValueError:
        raise InvalidArgsError(f"--spacing {text}: numbers with commas are expected, such as 2,0.65,0.65") from None


def whole_id(client: Client, beginning: str) -> str:
    """The id of a run that begins so; of the latest runs where it is not whole.

    Raises:
        RunNotFoundError: none of them does, or several do.
    """
    if is_id(beginning):
        return beginning
    found = [run.id for run in client.runs(limit=_RECENT_RUNS) if run.id.startswith(beginning.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise RunNotFoundError(f"{len(found)} runs begin with {beginning!r}: {some}; give more of it")
    raise RunNotFoundError(
        f"no recent run begins with {beginning!r}; `t3d runs` lists them, older ones need the whole id"
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text

"""Writes the reference in `http-api.md`, from the API's own OpenAPI description and the classes of errors.

    python docs/http_api.py      (or: make docs)

What it says comes from docstrings: of routes in `t3d_server/api/`, of `models/` and of `errors.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from t3d_server.api.app import create_app
from t3d_server.api.problems import STATUS
from t3d_server.errors import AlgorithmError, T3dError

DOCUMENT = Path(__file__).with_name("http-api.md")
MARK = "<!-- What follows is written by docs/http_api.py: change docstrings, then `make docs`. -->\n"
METHODS = ("get", "head", "post", "put", "delete")
NOT_ANSWERED = (T3dError, AlgorithmError)
"""The base of all others, and what the client makes of a run that failed."""

Schema = dict[str, Any]


def reference() -> str:
    """The generated part of the document."""
    api = create_app(None, None).openapi()  # type: ignore[arg-type]  # to describe the routes, no service is needed
    routes = [
        (f"{method.upper()} {path}", operation)
        for path, operations in api["paths"].items()
        for method, operation in sorted(operations.items(), key=lambda item: METHODS.index(item[0]))
    ]
    lines = ["\n## Codes\n", *_codes(), "\n## Routes"]
    for tag in dict.fromkeys(operation["tags"][0] for _, operation in routes):
        lines += _routes(tag, [item for item in routes if item[1]["tags"][0] == tag])
    lines.append("\n## Models")
    for name, model in sorted(api["components"]["schemas"].items()):
        lines += _model(name, model)
    return "\n".join(lines) + "\n"


def with_reference(text: str) -> str:
    """The document, its generated part made anew."""
    return text.partition(MARK)[0] + MARK + reference()


def _codes() -> Iterator[str]:
    # The latter of two classes that share a code is the more exact one.
    answered = [(kind, status) for kind, status in STATUS.items() if kind not in NOT_ANSWERED]
    codes = {kind.code: (status, (kind.__doc__ or "").split("\n")[0]) for kind, status in answered}
    rows = sorted((status, code, meaning) for code, (status, meaning) in codes.items())
    yield from _table(["status", "code", "what"], [(str(status), f"`{code}`", what) for status, code, what in rows])


def _routes(tag: str, routes: list[tuple[str, Schema]]) -> Iterator[str]:
    yield f"\n### {tag.capitalize()}\n"
    yield from _table(
        ["route", "what it does", "takes", "gives"],
        [
            (f"`{route}`", _plain(_parts(operation)[0]), _body(operation), _answer(operation))
            for route, operation in routes
        ],
    )
    for route, operation in routes:
        if more := _parts(operation)[1]:
            yield f"\n`{route}`: {_plain(more)}"
    given = [
        (f"`{route.split(' ')[0]} …/{route.split('/')[-1]}`", parameter)
        for route, operation in routes
        for parameter in operation.get("parameters", [])
        if parameter["in"] != "path"
    ]
    if given:
        yield ""
        yield from _table(
            ["parameter", "of", "value", "what"],
            [
                (_name(parameter), route, _given(parameter["schema"]), _plain(parameter.get("description", "")))
                for route, parameter in given
            ],
        )


def _parts(operation: Schema) -> tuple[str, str]:
    """The first paragraph of a description, and the others."""
    first, _, more = operation["description"].partition("\n\n")
    return first, more


def _name(parameter: Schema) -> str:
    if parameter["in"] == "header":
        return f"header `{parameter['name'].title()}`"
    return f"`?{parameter['name']}=`"


def _body(operation: Schema) -> str:
    body: Schema = operation.get("requestBody", {})
    kinds = body.get("content", {})
    model = kinds.get("application/json")
    return _type(model["schema"]) if model else ", ".join(f"`{kind}`" for kind in kinds)


def _answer(operation: Schema) -> str:
    answers = []
    for status, response in sorted(operation["responses"].items()):
        if status.startswith("2"):
            content = response.get("content", {})
            types = [_type(kind["schema"]) for kind in content.values() if kind.get("schema")]
            answers.append(" ".join([status, " or ".join(dict.fromkeys(types))]).strip())
    return ", ".join(answers)


def _model(name: str, model: Schema) -> Iterator[str]:
    summary, _, attributes = model.get("description", "").partition("\n\nAttributes:\n")
    meanings = dict(re.findall(r"^    (\w+): (.*(?:\n     .*)*)", attributes, re.M))
    yield f"\n### {name}\n"
    yield _plain(summary)
    yield ""
    if "enum" in model:
        yield ", ".join(f"`{value}`" for value in model["enum"])
        return
    yield from _table(
        ["field", "value", "what"],
        [
            (f"`{field}`", _type(schema), _plain(schema.get("description") or meanings.get(field, "")))
            for field, schema in model["properties"].items()
        ],
    )


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "enum" in schema:
        kind = " or ".join(f"`{value}`" for value in schema["enum"])
    elif schema.get("format") == "binary":
        kind = "a file"
    elif schema.get("format") == "date-time":
        kind = "time"
    elif schema.get("type") == "array":
        kind = f"list of {_type(schema.get('items', {}))}"
    elif isinstance(schema.get("additionalProperties"), dict):
        kind = f"object of {_type(schema['additionalProperties'])}"
    else:
        kind = schema.get("type", "any").replace("string", "text")
    if "minimum" in schema and "maximum" in schema:
        kind += f" from {schema['minimum']:g} to {schema['maximum']:g}"
    default = schema.get("default")
    return kind if default in (None, [], {}, "") else f"{kind}, by default `{json.dumps(default)}`"


def _given(schema: Schema) -> str:
    """What a query may hold; it may always be left out."""
    return " or ".join(_type(each) for each in schema.get("anyOf", [schema]) if each.get("type") != "null")


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _plain(text: str) -> str:
    """A paragraph on one line, in the words of JSON."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split())).replace("|", "\\|")


def _table(head: list[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    DOCUMENT.write_text(with_reference(DOCUMENT.read_text("utf-8")), "utf-8")

"""`pyproject.toml` of an algorithm folder, read and validated."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any, get_args

import tomli
from packaging.requirements import Requirement

from t3d_server.algorithm_utils import BaseRunner
from t3d_server.errors import InvalidPackageError, Problem
from t3d_server.models import Device, Manifest, Parameter
from t3d_server.packages.algorithm_type import check_type
from t3d_server.packages.parameter_config import parse_parameter
from t3d_server.packages.wording import did_you_mean, found

NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,64}")
VERSION = re.compile(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d+)?) ?(B|[KMGT]i?B)")
_MOST = 10_000  # of what is counted; more is a slip, and soon more than Ray can count
_DEVICES: tuple[Device, ...] = get_args(Device)
_NEAR = 0.85  # `tdserver` is near, `server` is not
_NOT_IN_SECTION = {"name", "version", "dependencies", "inputs", "outputs", "gpu_memory_bytes"}
_KEYS = [*(field for field in Manifest.model_fields if field not in _NOT_IN_SECTION), "gpu_memory"]
# PEP 621 and its successors.
_PROJECT_KEYS = (
    *(
        "name",
        "version",
        "description",
        "readme",
        "requires-python",
        "license",
        "license-files",
        "authors",
        "maintainers",
    ),
    *("keywords", "classifiers", "urls", "scripts", "gui-scripts", "entry-points", "dependencies", "dynamic"),
    *("optional-dependencies", "import-names", "import-namespaces"),
)


def parse_manifest(
    text: str, *, tags: Mapping[str, Collection[str]], base: type[BaseRunner] | None = None
) -> tuple[Manifest, list[str]]:
    """Read a manifest.

    Args:
        text: content of `pyproject.toml`.
        tags: the tags of each algorithm type.
        base: the server's class from which `Runner` derives, if that is known yet.

    Returns:
        The manifest, and warnings about what was accepted all the same. `algorithm_type` is None where the
        manifest names none. Unless it is one of `tags`, the tags are yet to be checked, by `check_tags`.

    Raises:
        InvalidPackageError: it is no TOML, or breaks a rule; it lists every problem.
    """
    try:
        content = tomli.loads(text)
    # Beside tomli's own error, which is a ValueError: numbers of thousands of digits, and nesting that is too deep.
    except (ValueError, RecursionError) as error:
        raise InvalidPackageError("pyproject.toml is no valid TOML.", problems=[_toml_problem(error)]) from error
    problems: list[Problem] = []
    warnings: list[str] = []
    project = _Table(content.get("project", {}), "project", problems)
    values = _read_project(project)
    tool = _Table(content.get("tool", {}), "tool", problems)
    if "t3dserver" not in tool.content:
        problems += _misnamed(content, tool.content)
    section = _Table(tool.content.get("t3dserver", {}), "tool.t3dserver", problems)
    warnings += [*project.unknown(_PROJECT_KEYS, section.key, _KEYS), *section.unknown(_KEYS, "project", _PROJECT_KEYS)]
    values |= _read_section(section, warnings)
    if "algorithm_type" in values:
        check_type(values["algorithm_type"], base, values.get("tags", []), tags, problems, warnings)
    if problems:
        # Doubts too: one of them may be the cause of a problem, such as a default in place of a misspelt key.
        doubts = [Problem("warning", text) for text in warnings]
        raise InvalidPackageError("pyproject.toml breaks the rules of algorithm modules.", problems=problems + doubts)
    return Manifest(**values), warnings


def _toml_problem(error: Exception) -> Problem:
    if not isinstance(error, tomli.TOMLDecodeError):
        return Problem("pyproject.toml", str(error))
    line = (error.doc.split("\n")[error.lineno - 1 : error.lineno] or [""])[0]
    before, rest = line[: error.colno - 1], line[error.colno - 1 :]
    hint = ""
    if re.match(r"(True|False)\b", rest):
        hint = "; TOML writes true and false in lower case"
    elif error.msg in ("Unclosed array", "Unclosed inline table") and rest:
        hint = "; is a comma missing before it, or a closing bracket?"
    elif error.msg == "Invalid value" and re.match(r"[A-Za-z]", rest):
        hint = "; text needs quotes"
    shown = f"{before[-40:]}{rest[:40]}".strip()
    at = f" at {rest[:20]!r}" if rest else ""
    return Problem(f"pyproject.toml:{error.lineno}", f"{error.msg}{at} in `{shown}`{hint}")


def _misnamed(content: Mapping[str, Any], tool: Mapping[str, Any]) -> Iterator[Problem]:
    """Tables that are meant to be `[tool.t3dserver]`, which is missing."""
    for prefix, table in (("tool.", tool), ("", content)):
        for name in table:
            plain = re.sub("[^a-z0-9]", "", name.casefold())
            if plain.startswith("t3d") or difflib.SequenceMatcher(None, plain, "t3dserver").ratio() > _NEAR:
                yield Problem(prefix + name, "is not read; the table has to be named [tool.t3dserver]")


class _Table:
    """A TOML table whose faults are collected."""

    def __init__(self, content: Any, key: str, problems: list[Problem]) -> None:
        self.key = key
        self._problems = problems
        self.content: dict[str, Any] = content if isinstance(content, dict) else {}
        if not isinstance(content, dict):
            problems.append(Problem(key, f"found {found(content)}, allowed is a table, [{key}]"))

    def unknown(self, known: Collection[str], other: str, known_there: Collection[str]) -> Iterator[str]:
        """A warning for each key that is not known; `other` is the table where it may belong."""
        for key in self.content:
            if key not in known:
                hint = f"; it belongs in [{other}]" if key in known_there else did_you_mean(key, known)
                yield f"{self.key}.{key}: unknown and ignored{hint}"

    def problem(self, field: str, message: str) -> None:
        self._problems.append(Problem(f"{self.key}.{field}", message))

    def read(self, into: dict[str, Any], field: str, fits: Callable[[Any], bool], allowed: str) -> None:
        """Copies a value if it is there and fits; otherwise the default of `Manifest` holds."""
        if field in self.content:
            value = self.content[field]
            if fits(value):
                into[field] = value
            else:
                self.problem(field, f"found {found(value)}, allowed is {allowed}")

    def parameters(self, field: str, warnings: list[str]) -> list[Parameter]:
        entries = self.content[field]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self.problem(field, f"found {found(entries)}, allowed is a list of tables")
            return []
        parameters: dict[str, Parameter] = {}
        for index, entry in enumerate(entries):
            name = entry.get("name")
            key = f"{self.key}.{field}[{name if isinstance(name, str) and name.strip() else str(index):.80}]"
            parameter = parse_parameter(entry, key, self._problems, warnings)
            if parameter and parameter.name in parameters:
                self._problems.append(Problem(f"{key}.name", f"{parameter.name!r} is the name of an earlier parameter"))
            elif parameter:
                parameters[parameter.name] = parameter
        return list(parameters.values())


def _read_project(project: _Table) -> dict[str, Any]:
    values: dict[str, Any] = {}
    project.read(
        values,
        "name",
        lambda value: isinstance(value, str) and NAME.fullmatch(value) is not None,
        "1 to 64 of the characters A-Z a-z 0-9 . _ - (not dots alone)",
    )
    project.read(
        values,
        "version",
        lambda value: isinstance(value, str) and VERSION.fullmatch(value) is not None,
        'three whole numbers, "major.minor.patch", such as "1.0.0"',
    )
    project.read(values, "dependencies", _strings, "a list of requirements")
    for field in ("name", "version"):
        if field not in project.content:
            project.problem(field, "is missing")
    for index, text in enumerate(values.get("dependencies", [])):
        try:
            requirement = Requirement(text)
            if requirement.marker is not None:
                requirement.marker.evaluate()
        except ValueError as error:  # InvalidRequirement, and comparisons in a marker that mean nothing
            reason = str(error).splitlines()[0]
            project.problem(f"dependencies[{index}]", f"found {text!r}, allowed is a requirement (PEP 508): {reason}")
    return values


def _read_section(section: _Table, warnings: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    section.read(values, "algorithm_type", lambda value: isinstance(value, str) and value != "", "a string")
    section.read(values, "tags", _strings, "a list of strings")
    section.read(values, "description", lambda value: isinstance(value, str), "a string")
    for field in ("check_importable", "obfuscate", "hash_module", "hash_assets"):
        section.read(values, field, lambda value: isinstance(value, bool), "true or false")
    for field in ("load_timeout_s", "timeout_s"):
        section.read(values, field, lambda value: _number(value) and value > 0, "a number of seconds above 0")
    section.read(
        values, "num_cpus", lambda value: _number(value) and 0 <= value <= _MOST, f"a number from 0 to {_MOST}"
    )
    section.read(values, "num_gpus", _is_gpu_share, f"a number above 0, up to {_MOST}; above 1, a whole one")
    for field, least in (("min_replicas", 0), ("max_replicas", 1), ("runs_per_replica", 1)):
        section.read(values, field, partial(_is_count, least), f"an integer from {least} to {_MOST}")
    if values.get("min_replicas", 0) > values.get("max_replicas", math.inf):
        section.problem("min_replicas", f"{values['min_replicas']} is more than max_replicas, {values['max_replicas']}")
    if "additional_parameters" in section.content:
        values["additional_parameters"] = section.parameters("additional_parameters", warnings)
    _read_devices(section, values, warnings)
    _read_gpu_memory(section, values, warnings)
    return values


def _read_devices(section: _Table, values: dict[str, Any], warnings: list[str]) -> None:
    section.read(
        values,
        "supported_devices",
        lambda value: _strings(value) and len(value) > 0 and set(value) <= set(_DEVICES),
        '["cpu"], ["gpu"] or ["cpu", "gpu"]',
    )
    section.read(values, "default_device", lambda value: value in _DEVICES, '"cpu" or "gpu"')
    supported = values["supported_devices"] = list(dict.fromkeys(values.get("supported_devices", ["cpu"])))
    fallback = "cpu" if "cpu" in supported else "gpu"
    default = values.setdefault("default_device", fallback)
    if default not in supported:
        warnings.append(
            f"{section.key}.default_device: {default!r} is not one of supported_devices ({', '.join(supported)}); "
            f"it runs on {fallback!r} by default"
        )
        values["default_device"] = fallback


def _read_gpu_memory(section: _Table, values: dict[str, Any], warnings: list[str]) -> None:
    given = [field for field in ("gpu_memory", "num_gpus") if field in section.content]
    if len(given) == 2:
        section.problem("gpu_memory", "is given beside num_gpus; both decide the share of a GPU, remove one of them")
    if given and "gpu" not in values["supported_devices"]:
        warnings.append(f'{section.key}.{given[0]}: has no effect, as supported_devices does not hold "gpu"')
    if "gpu_memory" in given:
        size = section.content["gpu_memory"]
        match = _SIZE.fullmatch(size) if isinstance(size, str) else None
        size_bytes = int(float(match[1]) * _unit_bytes(match[2])) if match else 0
        if size_bytes > 0:
            values["gpu_memory_bytes"] = size_bytes
        else:
            section.problem("gpu_memory", f'found {found(size)}, allowed is a size with its unit, such as "6GiB"')


def _unit_bytes(unit: str) -> int:
    step = 1024 if "i" in unit else 1000
    return int(step ** " KMGT".index(unit[0])) if unit != "B" else 1


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # integers may be larger than floats


def _is_count(least: int, value: Any) -> bool:
    return type(value) is int and least <= value <= _MOST


def _is_gpu_share(value: Any) -> bool:
    return _number(value) and 0 < value <= _MOST and (value <= 1 or value == int(value))

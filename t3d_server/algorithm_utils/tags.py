"""The tags of each algorithm type."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import yaml

from t3d_server.algorithm_utils.declarations import server_types
from t3d_server.algorithm_utils.TypedRunner import TypedRunner
from t3d_server.errors import InvalidRequestError


def load_tags(extra: Path | None = None) -> dict[str, dict[str, str]]:
    """Read the tags of the server's types: those in `algorithm_tags.yaml`, those that the classes name, an operator's.

    Args:
        extra: a file of the form of `algorithm_tags.yaml`, whose tags are added.

    Returns:
        For each algorithm type its tags, each with a line that explains it.

    Raises:
        InvalidRequestError: a file is not of this form.
    """
    tags = _parse(files(__package__).joinpath("algorithm_tags.yaml").read_text("utf-8"), "algorithm_tags.yaml")
    for name, runner in server_types().items():
        own = tags.setdefault(name, {})
        own.update(runner.algorithm_tags if issubclass(runner, TypedRunner) else {})
    if extra is not None:
        for algorithm_type, added in _parse(extra.read_text("utf-8"), str(extra)).items():
            tags.setdefault(algorithm_type, {}).update(added)
    return tags


def _parse(text: str, name: str) -> dict[str, dict[str, str]]:
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InvalidRequestError(f"{name} is no valid YAML: {error}") from error
    form_is_right = isinstance(content, dict) and all(
        isinstance(tags, dict) and all(isinstance(line, str) for line in tags.values()) for tags in content.values()
    )
    if not form_is_right:
        raise InvalidRequestError(f"{name}: a mapping of algorithm types to `tag: explanation` lines is expected")
    return content

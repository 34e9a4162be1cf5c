"""The tags of each algorithm type."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import yaml

from t3d_server.errors import InvalidRequestError


def load_tags(extra: Path | None = None) -> dict[str, dict[str, str]]:
    """Read `algorithm_tags.yaml`, and an operator's additions to it.

    Args:
        extra: a file of the same form, whose tags are added.

    Returns:
        For each algorithm type its tags, each with a line that explains it.

    Raises:
        InvalidRequestError: a file is not of this form.
    """
    tags = _parse(files(__package__).joinpath("algorithm_tags.yaml").read_text("utf-8"), "algorithm_tags.yaml")
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

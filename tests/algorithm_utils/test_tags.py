"""Tags of the algorithm types, and an operator's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from t3d_server.algorithm_utils import tags
from t3d_server.errors import InvalidRequestError


def test_every_type_has_its_tags() -> None:
    """All five types are there; the spec's tag is one of Image2Image."""
    known = tags.load_tags()
    assert set(known) == {"Image2Image", "Image2Embedding", "Image2Segmentation", "Image2Alignment", "Generic"}
    assert "image-denoising" in known["Image2Image"]


def test_operators_add_tags(tmp_path: Path) -> None:
    """Additions join those of their type, or bring a type."""
    (tmp_path / "own.yaml").write_text(
        "Image2Image:\n  destriping: removes stripes\nImage2Count:\n  counting: counts\n"
    )
    known = tags.load_tags(tmp_path / "own.yaml")
    assert {"destriping", "image-denoising"} < set(known["Image2Image"])
    assert known["Image2Count"] == {"counting": "counts"}
    assert "destriping" not in tags.load_tags()["Image2Image"]


@pytest.mark.parametrize("text", ["- a\n- b\n", "Image2Image: [a]\n", "Image2Image:\n  a:\n", "a: {b\n"])
def test_wrong_files_are_told(tmp_path: Path, text: str) -> None:
    """A file of another form, or no YAML, is an error that names it."""
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InvalidRequestError, match=r"own\.yaml"):
        tags.load_tags(tmp_path / "own.yaml")

"""Accept headers."""

from __future__ import annotations

import pytest

from t3d_server.api.negotiation import preferred

OFFERED = ("application/x-npy", "image/tiff", "image/png")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/x-npy"),
        ("", "application/x-npy"),
        ("image/png", "image/png"),
        ("IMAGE/PNG ; q=1", "image/png"),
        ("image/*", "image/tiff"),
        ("image/png, image/tiff", "image/png"),
        ("image/png;q=.5, image/tiff;q=0.6", "image/tiff"),
        ("image/avif, image/*, */*;q=0.8", "image/tiff"),
        ("*/*, application/x-npy;q=0", "image/tiff"),
        ("image/*;q=0.5, image/png", "image/png"),
        ("text/html", None),
        ("image/png;q=0", None),
        ("image/png;q=nan", None),
        ("image/png;q=many", "image/png"),
        (",;,=", "application/x-npy"),
    ],
)
def test_the_type_with_the_most_weight_is_taken(accept: str, expected: str | None) -> None:
    assert preferred(accept, OFFERED) == expected

"""What the tests of the v0 API share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.api.v0.client import upload

if TYPE_CHECKING:
    from tests.api.conftest import Server


@pytest.fixture(scope="module")
def image(server: Server) -> str:
    return upload(server, image=np.arange(12, dtype=np.uint8).reshape(3, 4))

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.live.virtual_sound import VirtualSound, virtual_sound

REQUIRED = "EDGE_REQUIRE_LIVE_AUDIO"


@pytest.fixture
def sound() -> Iterator[VirtualSound]:
    """A virtual sound card; where there is none, skips or, if CI wants it, fails."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(virtual_sound())
        except RuntimeError as error:
            if os.environ.get(REQUIRED) == "1":
                pytest.fail(f"{REQUIRED}=1, but {error}")
            pytest.skip(f"no virtual sound card: {error}")
        yield running

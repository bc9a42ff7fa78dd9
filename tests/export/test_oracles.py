"""What the parity tests compare with is really there, where it was installed to be."""

from __future__ import annotations

import importlib
import os
import warnings

import pytest


@pytest.mark.skipif(
    os.environ.get("EDGE_REQUIRE_ORACLES") != "1",
    reason="`make test` installs the official packages and sets EDGE_REQUIRE_ORACLES=1",
)
def test_the_official_package_can_be_imported() -> None:
    """The tests that need it skip themselves without it; here that would hide a broken set-up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert importlib.import_module("moshi.models").loaders.SAMPLE_RATE == 24_000

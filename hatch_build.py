"""Build hook: put models.lock into the wheel as edge/models.lock.

An editable install reads the file at the top of the checkout, so it must not get a copy that
grows old in site-packages; hatchling's own `force-include` would make one.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LockHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the lock file to every wheel that is not editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file; `version` is hatchling's name for the kind of build."""
        if version != "editable":
            build_data["force_include"]["models.lock"] = "edge/models.lock"

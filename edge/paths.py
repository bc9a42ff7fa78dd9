"""Where edgevoice keeps things on this machine: asked for by name, created only on request."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import EdgeError

if TYPE_CHECKING:
    from platformdirs.api import PlatformDirsABC

APP_NAME = "edgevoice"
CONFIG_FILE_NAME = "config.toml"


def config_dir(env: Mapping[str, str] | None = None) -> Path:
    """The folder of the user's config.toml.

    env: EDGE_CONFIG_DIR wins, then systemd's CONFIGURATION_DIRECTORY, then the platform's custom;
    None means this process's environment. The same order holds for the other folders here.
    """
    return _named("EDGE_CONFIG_DIR", "CONFIGURATION_DIRECTORY", env) or _dirs().user_config_path


def data_dir(env: Mapping[str, str] | None = None) -> Path:
    """The folder of models and, if it is on, of the history: what is dear to lose.

    env: EDGE_DATA_DIR, then STATE_DIRECTORY: a system service has no other lasting folder.
    """
    return _named("EDGE_DATA_DIR", "STATE_DIRECTORY", env) or _dirs().user_data_path


def cache_dir(env: Mapping[str, str] | None = None) -> Path:
    """The folder of what can be made or fetched again. env: EDGE_CACHE_DIR, CACHE_DIRECTORY."""
    return _named("EDGE_CACHE_DIR", "CACHE_DIRECTORY", env) or _dirs().user_cache_path


def state_dir(env: Mapping[str, str] | None = None) -> Path:
    """The folder of measurements and logs of this machine. env: EDGE_STATE_DIR, STATE_DIRECTORY."""
    return _named("EDGE_STATE_DIR", "STATE_DIRECTORY", env) or _dirs().user_state_path


def prompt_cache_dir(env: Mapping[str, str] | None = None) -> Path:
    """Where duplex models keep what reading a prompt came to: as personal as the prompt itself."""
    return cache_dir(env) / "prompts"


def runtime_dir(env: Mapping[str, str] | None = None) -> Path:
    """The folder of sockets and locks, gone after a restart. env: RUNTIME_DIRECTORY.

    On Linux without a login session it is in the cache: a folder below /tmp with a known name
    could be another user's.
    """
    if folder := _named(None, "RUNTIME_DIRECTORY", env):
        return folder
    if session := _named(None, "XDG_RUNTIME_DIR", env):
        return session / APP_NAME
    platform: str = sys.platform  # a plain str: type checkers skip the branches of other systems
    return cache_dir(env) / "run" if platform == "linux" else _dirs().user_runtime_path


def user_config_file(env: Mapping[str, str] | None = None) -> Path:
    """The user's own config.toml; it need not exist."""
    return config_dir(env) / CONFIG_FILE_NAME


def system_config_file(platform: str | None = None) -> Path:
    """The machine's config.toml, for all its users; it need not exist.

    platform: as in sys.platform, which is what None means.
    """
    if (platform or sys.platform).startswith("linux"):
        return Path("/etc") / APP_NAME / CONFIG_FILE_NAME
    return _dirs().site_config_path / CONFIG_FILE_NAME


def make_dir(folder: Path, *, private: bool = False) -> Path:
    """Create a folder and its parents where they are missing, and give it back.

    private: a new folder is readable by its owner only. Raises EdgeError, in one line.
    """
    try:
        folder.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise EdgeError(f"{folder} is a file, not a folder; move it out of the way") from error
    except OSError as error:
        raise EdgeError(
            f"{folder} cannot be created ({error.strerror}); make it, or name another with "
            "EDGE_CONFIG_DIR, EDGE_DATA_DIR, EDGE_CACHE_DIR or EDGE_STATE_DIR"
        ) from error
    return folder


def _named(ours: str | None, systemd: str, env: Mapping[str, str] | None) -> Path | None:
    """The folder the environment names, absolute; an empty variable counts as unset."""
    env = os.environ if env is None else env
    if ours is not None and env.get(ours):
        return Path(env[ours]).expanduser().absolute()
    # A unit may declare several folders; the first is the main one.
    first = env.get(systemd, "").split(":")[0]
    return Path(first) if first else None


def _dirs() -> PlatformDirsABC:
    from platformdirs import PlatformDirs

    return PlatformDirs(APP_NAME, appauthor=False)

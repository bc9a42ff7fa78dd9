"""The wake word as configured: its verified model in front of an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.config import WakeConfig
from edge.errors import ConfigError, ModelDamagedError
from edge.frame import FRAME_MS
from edge.hashing import sha256_of
from edge.lock import read_lock
from edge.store import ModelStore
from runtime.engines.engine import Engine
from runtime.engines.waking import Waking
from runtime.models.wake import WakeModel


def open_wake_word(config: WakeConfig) -> WakeModel:
    """Verify and load it.

    Raises ConfigError for a file of one's own without its hash, ModelDamagedError for another hash
    or other shapes, ModelMissingError where the model was not fetched.
    """
    own = Path(config.file).expanduser() if config.file else None
    if own is not None:
        check_own(own, config.sha256)
    return WakeModel(ModelStore(read_lock()).files(config.model), classifier=own)


def wake_phrase(config: WakeConfig) -> str:
    """What is to be said to be listened to, for people; "" where no word is needed."""
    if not config.enabled:
        return ""
    return (
        Path(config.file).stem.replace("_", " ") if config.file else config.model.replace("-", " ")
    )


def check_own(path: Path, sha256: str) -> None:
    """Compare a user's own model with the hash that the user has written down."""
    if not path.is_file():
        raise ConfigError(f"wake.file: there is no {path}")
    found = sha256_of(path)
    if not sha256:
        raise ConfigError(
            f"wake.file needs its hash: edge config set wake.sha256 {found} (if it is the file "
            "that you mean)"
        )
    if found != sha256.lower():
        raise ModelDamagedError(
            f"{path}: sha256 is {found[:12]}, wake.sha256 says {sha256[:12]}; find out why"
        )


def waking(
    engine: Engine[Any], model: WakeModel, config: WakeConfig, talk_key: Callable[[], bool]
) -> Waking[Any]:
    """The engine, asleep until the word is said or the talk key is pressed."""
    listen_frames = round(config.listen_s * 1000 / FRAME_MS)
    return Waking(engine, model, config.threshold, listen_frames, talk_key)

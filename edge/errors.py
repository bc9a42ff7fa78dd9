"""Every error a user can meet, in one tree.

EdgeError                      one clear line and an exit code; the command prints it, no traceback
├── UsageError                 2  wrong use: an option, a value, a combination
│   ├── ConfigError            2  a configuration file or variable (ValueError)
│   └── AudioFileError         2  an audio file that cannot be used (ValueError)
├── ShapeError                 1  an array, a tensor or a graph of the wrong shape (ValueError)
├── LockError                  1  models.lock cannot be used (ValueError)
├── ModelError                 1  a model file
│   ├── ModelMissingError      1  not on this machine (FileNotFoundError)
│   ├── ModelDamagedError      1  its hash or its format is not what the lock says
│   └── FetchError             1  could not be brought here: no network, a refusal
│       └── DiskFullError      1  no room to write it
├── ArtifactError              1  an artifact's manifest or files (ValueError)
├── DeviceError                1  a sound card or accelerator that cannot be used
├── MissingPackageError        1  an extra that is not installed (ImportError)
├── DeadlineError              1  80 ms cannot be held here
├── OfflineError               1  the offline level asked for was not reached
└── InconclusiveError          3  too little evidence to say
"""

from __future__ import annotations


class EdgeError(Exception):
    """Base of all: the message says what happened and what to do about it, in one line."""

    exit_code = 1


class UsageError(EdgeError):
    """Wrong use of a command: an option, a value, a combination of them."""

    exit_code = 2


class ConfigError(UsageError, ValueError):
    """A configuration file or EDGE_* variable has an unknown key or a value of the wrong kind."""


class AudioFileError(UsageError, ValueError):
    """An audio file is broken, empty, or holds what is not sound."""


class ShapeError(EdgeError, ValueError):
    """An array, tensor or graph is not of the shape or dtype that was agreed."""

    def __init__(self, name: str, *, got: object, want: object) -> None:
        super().__init__(f"{name}: got {got}, want {want}")


class LockError(EdgeError, ValueError):
    """models.lock has an unknown key, a missing one, or a value of the wrong kind."""


class ModelError(EdgeError):
    """A model file cannot be used."""


class ModelMissingError(ModelError, FileNotFoundError):
    """A model is not on this machine; the message says how to get it."""


class ModelDamagedError(ModelError):
    """A model file is not the one the lock names: its size, hash or format differs."""


class FetchError(ModelError):
    """A model could not be brought to this machine: no network, a refusal, damage on the way.

    hopeless: trying the next model would fail in the same way.
    """

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


class DiskFullError(FetchError):
    """There is no room for a model's files; nothing can be fetched until there is."""


class ArtifactError(EdgeError, ValueError):
    """An artifact's manifest and its files do not agree, or one of them is missing."""


class DeviceError(EdgeError):
    """A sound card or an accelerator cannot be opened or has gone."""


class MissingPackageError(EdgeError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, *, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package}; "
            f"install it with: pip install 'edgevoice[{extra}]'"
        )


class DeadlineError(EdgeError):
    """The chosen engine cannot hold 80 ms a frame on this machine."""


class OfflineError(EdgeError):
    """The offline level that was asked for could not be enforced."""


class InconclusiveError(EdgeError):
    """There is too little evidence to say whether it passes."""

    exit_code = 3

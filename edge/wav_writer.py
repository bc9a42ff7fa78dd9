"""WavWriter: a conversation or a clip as a 16-bit WAV that is whole or not there."""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from edge.errors import AudioFileError, ShapeError
from edge.frame import SAMPLE_RATE_HZ, Pcm
from edge.wav_header import MAX_SIZE_BYTES
from edge.whole_file import WholeFile


class WavWriter:
    """Streams 24 kHz sound into a 16-bit WAV that appears, whole, when it is closed.

    path: where it appears; its folder must exist. n_channels: 1, or 2 for left and right.
    Used with `with`, an error or interrupt in the block leaves nothing behind. Raises EdgeError,
    one line, when the folder is missing, cannot be written or the disk is full.
    """

    def __init__(self, path: Path, n_channels: int = 1) -> None:
        if n_channels not in (1, 2):
            raise ShapeError("WavWriter.n_channels", got=n_channels, want="1 or 2")
        self.path, self.n_channels, self.n_samples = Path(path), n_channels, 0
        self._file = WholeFile(self.path)
        self._file.write(self._header())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, pcm: Pcm) -> None:
        """Append float32 (n,) for one channel, (n, 2) for two; beyond [-1, 1] is clipped.

        Raises ShapeError, and AudioFileError for NaN or infinity; the file is then given up.
        """
        shape = (len(pcm),) if self.n_channels == 1 else (len(pcm), 2)
        if pcm.shape != shape or pcm.dtype != np.float32:
            want = "float32 (n,)" if self.n_channels == 1 else "float32 (n, 2)"
            raise ShapeError("WavWriter.write", got=f"{pcm.dtype} {pcm.shape}", want=want)
        if not self._file.is_open:
            raise AudioFileError(f"{self.path} is closed; nothing more can be written to it")
        if not np.isfinite(pcm).all():
            self.abort()
            at_s = self.n_samples / SAMPLE_RATE_HZ
            raise AudioFileError(f"{self.path} was given NaN or infinity after {at_s:.2f} s")
        scaled = np.clip(np.round(pcm * 32_768), -32_768, 32_767).astype("<i2")
        self._file.write(scaled.tobytes())
        self.n_samples += len(pcm)

    def close(self) -> None:
        """Complete the header and move the file into place. Safe to call twice."""
        if self._file.is_open:
            self._file.write(self._header(), at=0)
            self._file.close()

    def abort(self) -> None:
        """Give the file up: nothing of it stays. Safe after close, which it does not undo."""
        self._file.abort()

    def _header(self) -> bytes:
        block_bytes = 2 * self.n_channels
        # Past 4 GiB (12 hours of stereo) it says "to the end", as a pipe's header would.
        n_bytes = min(self.n_samples * block_bytes, MAX_SIZE_BYTES)
        byte_rate = SAMPLE_RATE_HZ * block_bytes
        return struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            *(b"RIFF", min(36 + n_bytes, MAX_SIZE_BYTES), b"WAVE", b"fmt ", 16, 1, self.n_channels),
            *(SAMPLE_RATE_HZ, byte_rate, block_bytes, 16, b"data", n_bytes),
        )

"""MoshiSpec: what the runtime knows of a multistream artifact, and the tables beside its graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError, UsageError
from edge.safetensors import FLOATS, to_float32
from runtime.models.multistream.delays import ZERO_TOKEN, Int64, StreamLayout
from runtime.models.multistream.sampling import Sampling, make_sampling

Float32 = NDArray[np.float32]

TEMPORAL_FILE = "temporal.gguf"
DEPTH_FILE = "depth.onnx"
TEXT_TABLE_FILE = "text_embedding.npy"
AUDIO_TABLE_FILE = "audio_embeddings.npy"
EXTRA_HEADS_FILE = "extra_heads.npy"
CONDITIONS_FILE = "conditions.npy"
TOKENIZER_FILE = "tokenizer.model"


@dataclass(frozen=True, slots=True)
class MoshiSpec:
    """Sizes, special ids and defaults; the manifest's config table, word for word.

    table_dtype: "F32", "F16" or "BF16", how the embedding tables are stored. depth_steps: codes
    that the depth graph writes. conditions: for each conditioner its values in the order of its
    rows, "" for none given; empty where the model takes no conditions. tokenizer_sha256: "" where
    the artifact has none. The last five are how the checkpoint asks to be sampled.
    """

    model_type: str
    dim: int
    n_layers: int
    context: int
    delays: tuple[int, ...]
    n_own: int
    depth_steps: int
    card: int
    text_card: int
    text_card_out: int
    text_padding_id: int
    text_end_padding_id: int
    n_extra_heads: int
    extra_head_dim: int
    table_dtype: str
    float_kv: bool
    conditions: Mapping[str, tuple[str, ...]]
    tokenizer_sha256: str
    temperature: float = 0.8
    top_k: int = 250
    text_temperature: float = 0.7
    text_top_k: int = 25
    guidance: float = 1.0

    @property
    def layout(self) -> StreamLayout:
        """The streams and their delays."""
        return StreamLayout(self.delays, self.n_own, self.depth_steps, self.card, self.text_card)

    def as_table(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        table = asdict(self)
        table["delays"] = list(self.delays)
        table["conditions"] = {name: list(values) for name, values in self.conditions.items()}
        return table

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> MoshiSpec:
        """From a manifest's config table. Raises ArtifactError for an unknown or missing key."""
        try:
            values = dict(table)
            values["delays"] = tuple(int(delay) for delay in values["delays"])
            values["conditions"] = {
                str(name): tuple(rows) for name, rows in values["conditions"].items()
            }
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"manifest: this is no config of a multistream model ({error}); export it again"
            ) from error

    def sampling(
        self, *, greedy: bool, temperature: float | None, top_k: int | None, text: bool
    ) -> Sampling:
        """What to draw with: the options where given, else the model's own."""
        n_tokens = self.text_card_out if text else self.card
        if greedy:
            return Sampling(1.0, 1)
        own = (self.text_temperature, self.text_top_k) if text else (self.temperature, self.top_k)
        return make_sampling(
            own[0] if temperature is None else temperature,
            own[1] if top_k is None else top_k,
            n_tokens=n_tokens,
        )


class Embeddings:
    """The input tables, mapped: only the rows that are used are ever read."""

    def __init__(self, folder: Path, spec: MoshiSpec) -> None:
        """Map them. Raises ArtifactError where one is not of the sizes in the manifest."""
        self._dtype = spec.table_dtype
        n_audio = len(spec.delays) - 1
        text_shape = (spec.text_card + 1, spec.dim)
        self._text = map_array(folder / TEXT_TABLE_FILE, FLOATS[self._dtype], text_shape)
        audio_shape = (n_audio, spec.card + 1, spec.dim)
        self._audio = map_array(folder / AUDIO_TABLE_FILE, FLOATS[self._dtype], audio_shape)

    def sum(self, tokens: Int64) -> Float32:
        """The summed rows of one position's tokens, int64 (n_streams,) -> float32 (dim,)."""
        heard = np.flatnonzero(tokens[1:] != ZERO_TOKEN)
        rows = to_float32(self._audio[heard, tokens[1:][heard]], self._dtype)
        total: Float32 = rows.sum(axis=0, dtype=np.float32)
        if tokens[0] != ZERO_TOKEN:
            total += to_float32(self._text[tokens[0]], self._dtype)
        return total


class Conditions:
    """Vectors that a condition such as description = "very_good" adds to every input."""

    def __init__(self, folder: Path, spec: MoshiSpec) -> None:
        """Load them where the model has any."""
        self._values = spec.conditions
        self._dim = spec.dim
        n_rows = sum(len(rows) for rows in spec.conditions.values())
        self._table: Float32 | None = None
        if n_rows:
            shape = (n_rows, spec.dim)
            self._table = map_array(folder / CONDITIONS_FILE, np.dtype(np.float32), shape)

    @property
    def names(self) -> Sequence[str]:
        """The conditioners of the model."""
        return tuple(self._values)

    def vector(self, wanted: Mapping[str, str]) -> Float32:
        """The sum over all conditioners, float32 (dim,); "" where one is not named.

        Raises UsageError for a conditioner or value that the model does not know.
        """
        unknown = sorted(set(wanted) - set(self._values))
        if unknown:
            raise UsageError(f"this model has no condition {unknown[0]}; it has {self.names}")
        total = np.zeros(self._dim, np.float32)
        first = 0
        for name, values in self._values.items():
            value = wanted.get(name, "")
            if value not in values:
                raise UsageError(f"condition {name} = {value!r}: want one of {values}")
            if self._table is not None:
                total += self._table[first + values.index(value)]
            first += len(values)
        return total


def map_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A .npy file as a read-only map. Raises ArtifactError where it is not what is wanted."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path.name}: cannot be read ({error}); export it again") from error
    if array.dtype != dtype or array.shape != shape:
        raise ArtifactError(
            f"{path.name}: holds {array.dtype} {array.shape} where the manifest says "
            f"{dtype} {shape}; export it again"
        )
    return np.asarray(array)

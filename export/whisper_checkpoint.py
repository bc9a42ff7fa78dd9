"""Whisper's weights from either of two layouts, under one set of names.

CTranslate2: a folder with model.bin, config.json and vocabulary.txt or .json; q, k and v are one
matrix there. transformers: a folder with model.safetensors, config.json, generation_config.json
and vocab.json. Only float weights are taken: what was rounded cannot be read back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError, ModelMissingError, ShapeError
from edge.safetensors import SafetensorsFile
from export.ct2_file import Ct2File, read_ct2

Float32 = NDArray[np.float32]

HEAD_WIDTH = 64  # in every published size


@dataclass(frozen=True, slots=True)
class WhisperWeights:
    """A Whisper network.

    tensors: float32 by name: "encoder.conv1.weight", "decoder.0.cross.q.weight" and so on; a
    linear layer's weight is (out, in). vocabulary: each token's spelling. suppressed: ids never
    written; suppressed_first: ids not written at the beginning.
    """

    tensors: Mapping[str, Float32]
    vocabulary: tuple[str, ...]
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    sources: tuple[Path, ...]

    @property
    def width(self) -> int:
        """d_model."""
        return int(self.tensors["encoder.positions"].shape[1])

    @property
    def n_mels(self) -> int:
        """Bands of the features."""
        return int(self.tensors["encoder.conv1.weight"].shape[1])

    @property
    def n_text_positions(self) -> int:
        """Tokens the decoder can write, the prompt among them."""
        return int(self.tensors["decoder.positions"].shape[0])

    def n_layers(self, side: str) -> int:
        """Layers of "encoder" or "decoder"."""
        found = {m[1] for name in self.tensors if (m := re.match(rf"{side}\.(\d+)\.", name))}
        return len(found)


def read_whisper(folder: Path) -> WhisperWeights:
    """Read a checkpoint folder of either layout, checked whole.

    Raises ModelMissingError, ModelDamagedError, ShapeError that lists what does not fit.
    """
    if (folder / "model.bin").is_file():
        weights = _from_ct2(folder)
    elif (folder / "model.safetensors").is_file():
        weights = _from_transformers(folder)
    else:
        raise ModelMissingError(
            f"{folder} has neither model.bin (CTranslate2) nor model.safetensors (transformers); "
            "give the folder of a Whisper checkpoint"
        )
    _check(weights, folder)
    return weights


def _from_ct2(folder: Path) -> WhisperWeights:
    file = read_ct2(folder / "model.bin")
    if file.spec != "WhisperSpec":
        raise ModelDamagedError(f"{folder}: a {file.spec}, not a Whisper model")
    tensors = {
        "encoder.positions": file.float32("encoder/position_encodings/encodings"),
        "decoder.positions": file.float32("decoder/position_encodings/encodings"),
        "decoder.embedding": file.float32("decoder/embeddings/weight"),
    }
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            tensors[f"encoder.{conv}.{part}"] = file.float32(f"encoder/{conv}/{part}")
    for side in ("encoder", "decoder"):
        _ct2_norm(tensors, f"{side}.norm", file, f"{side}/layer_norm")
        layer = 0
        while f"{side}/layer_{layer}/ffn/linear_0/weight" in file.tensors:
            _ct2_layer(tensors, f"{side}.{layer}", file, f"{side}/layer_{layer}")
            layer += 1
    config = _read_json(folder / "config.json")
    return WhisperWeights(
        tensors,
        _ct2_vocabulary(folder, len(tensors["decoder.embedding"])),
        tuple(config.get("suppress_ids", ())),
        tuple(config.get("suppress_ids_begin", ())),
        (folder / "model.bin",),
    )


def _ct2_layer(tensors: dict[str, Float32], to: str, file: Ct2File, at: str) -> None:
    _ct2_norm(tensors, f"{to}.self.norm", file, f"{at}/self_attention/layer_norm")
    _ct2_split(tensors, f"{to}.self", "qkv", file, f"{at}/self_attention/linear_0")
    _ct2_split(tensors, f"{to}.self", "o", file, f"{at}/self_attention/linear_1")
    if f"{at}/attention/linear_0/weight" in file.tensors:
        _ct2_norm(tensors, f"{to}.cross.norm", file, f"{at}/attention/layer_norm")
        _ct2_split(tensors, f"{to}.cross", "q", file, f"{at}/attention/linear_0")
        _ct2_split(tensors, f"{to}.cross", "kv", file, f"{at}/attention/linear_1")
        _ct2_split(tensors, f"{to}.cross", "o", file, f"{at}/attention/linear_2")
    _ct2_norm(tensors, f"{to}.ffn.norm", file, f"{at}/ffn/layer_norm")
    _ct2_split(tensors, f"{to}.ffn", "1", file, f"{at}/ffn/linear_0")
    _ct2_split(tensors, f"{to}.ffn", "2", file, f"{at}/ffn/linear_1")


def _ct2_norm(tensors: dict[str, Float32], to: str, file: Ct2File, at: str) -> None:
    tensors[f"{to}.weight"] = file.float32(f"{at}/gamma")
    tensors[f"{to}.bias"] = file.float32(f"{at}/beta")


def _ct2_split(tensors: dict[str, Float32], to: str, letters: str, file: Ct2File, at: str) -> None:
    """One stored matrix into as many layers as it holds, one under the other."""
    for part in ("weight", "bias"):
        whole = file.float32(f"{at}/{part}")
        for letter, piece in zip(letters, np.split(whole, len(letters)), strict=True):
            tensors[f"{to}.{letter}.{part}"] = np.ascontiguousarray(piece)


def _ct2_vocabulary(folder: Path, n_tokens: int) -> tuple[str, ...]:
    listed = folder / "vocabulary.json"
    if listed.is_file():
        words = [str(word) for word in _read_json(listed)]
    else:
        try:
            text = (folder / "vocabulary.txt").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelMissingError(f"{folder} has no readable vocabulary: {error}") from error
        words = text.removesuffix("\n").split("\n")
    return tuple(words[:n_tokens])


_HUB_NAMES = (
    (r"^model\.(encoder|decoder)\.embed_positions\.weight$", r"\1.positions"),
    (r"^model\.decoder\.embed_tokens\.weight$", "decoder.embedding"),
    (r"^model\.(encoder|decoder)\.layer_norm\.", r"\1.norm."),
    (r"^model\.encoder\.(conv[12])\.", r"encoder.\1."),
    (r"^model\.(encoder|decoder)\.layers\.(\d+)\.", r"\1.\2."),
    (r"\.self_attn_layer_norm\.", ".self.norm."),
    (r"\.encoder_attn_layer_norm\.", ".cross.norm."),
    (r"\.final_layer_norm\.", ".ffn.norm."),
    (r"\.self_attn\.([qkv])_proj\.", r".self.\1."),
    (r"\.self_attn\.out_proj\.", ".self.o."),
    (r"\.encoder_attn\.([qkv])_proj\.", r".cross.\1."),
    (r"\.encoder_attn\.out_proj\.", ".cross.o."),
    (r"\.fc([12])\.", r".ffn.\1."),
)


def _from_transformers(folder: Path) -> WhisperWeights:
    file = SafetensorsFile(folder / "model.safetensors")
    tensors: dict[str, Float32] = {}
    for name in file.entries:
        if name == "proj_out.weight":  # the embedding again
            continue
        ours = name
        for pattern, new in _HUB_NAMES:
            ours = re.sub(pattern, new, ours)
        tensors[ours] = file.read(name).float32()
    for name in [n for n in tensors if n.endswith(".k.weight")]:
        tensors.setdefault(name.replace("weight", "bias"), np.zeros(len(tensors[name]), np.float32))
    spelling = {**_read_json(folder / "vocab.json"), **_optional_json(folder / "added_tokens.json")}
    by_id = {int(number): str(word) for word, number in spelling.items()}
    n_tokens = len(tensors.get("decoder.embedding", ()))
    rules = {
        **_read_json(folder / "config.json"),
        **_optional_json(folder / "generation_config.json"),
    }
    return WhisperWeights(
        tensors,
        tuple(by_id.get(i, f"<|extra{i}|>") for i in range(n_tokens)),
        tuple(rules.get("suppress_tokens") or ()),
        tuple(rules.get("begin_suppress_tokens") or ()),
        (folder / "model.safetensors",),
    )


def _check(weights: WhisperWeights, folder: Path) -> None:
    """Every tensor of a Whisper of these sizes is there, in its shape, and no other."""
    if "encoder.positions" not in weights.tensors or "decoder.embedding" not in weights.tensors:
        raise ShapeError(str(folder), got="tensors of another model", want="a Whisper checkpoint")
    want = _shapes(weights)
    got = {name: tensor.shape for name, tensor in weights.tensors.items()}
    faults = [f"missing {name}" for name in sorted(want.keys() - got.keys())]
    faults += [f"surplus {name}" for name in sorted(got.keys() - want.keys())]
    faults += [
        f"{name} {got[name]} not {want[name]}"
        for name in sorted(want.keys() & got.keys())
        if got[name] != want[name]
    ]
    if faults:
        more = f" and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise ShapeError(str(folder), got="; ".join(faults[:6]) + more, want="a Whisper checkpoint")
    if len(weights.vocabulary) != len(weights.tensors["decoder.embedding"]):
        raise ShapeError(
            f"{folder}: vocabulary",
            got=f"{len(weights.vocabulary)} tokens",
            want=f"{len(weights.tensors['decoder.embedding'])}",
        )


def _shapes(weights: WhisperWeights) -> dict[str, tuple[int, ...]]:
    d, n_mels = weights.width, weights.n_mels
    n_tokens = len(weights.tensors["decoder.embedding"])
    n_rows = len(weights.tensors["encoder.positions"])
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.conv1.weight": (d, n_mels, 3),
        "encoder.conv1.bias": (d,),
        "encoder.conv2.weight": (d, d, 3),
        "encoder.conv2.bias": (d,),
        "encoder.positions": (n_rows, d),
        "decoder.positions": (weights.n_text_positions, d),
        "decoder.embedding": (n_tokens, d),
    }
    for side, kinds in (("encoder", ("self",)), ("decoder", ("self", "cross"))):
        shapes |= {f"{side}.norm.weight": (d,), f"{side}.norm.bias": (d,)}
        for layer in range(weights.n_layers(side)):
            at = f"{side}.{layer}"
            for kind in (*kinds, "ffn"):
                shapes |= {f"{at}.{kind}.norm.weight": (d,), f"{at}.{kind}.norm.bias": (d,)}
            for kind in kinds:
                for letter in "qkvo":
                    shapes[f"{at}.{kind}.{letter}.weight"] = (d, d)
                    shapes[f"{at}.{kind}.{letter}.bias"] = (d,)
            shapes |= {f"{at}.ffn.1.weight": (4 * d, d), f"{at}.ffn.1.bias": (4 * d,)}
            shapes |= {f"{at}.ffn.2.weight": (d, 4 * d), f"{at}.ffn.2.bias": (d,)}
    return shapes


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelMissingError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelDamagedError(f"{path} is not JSON ({error}); fetch it again") from error


def _optional_json(path: Path) -> dict[str, Any]:
    return dict(_read_json(path)) if path.is_file() else {}

"""Mixes of types that llama.cpp knows by one name, tensor by tensor as its quantizer mixes.

Source: ggml-org/llama.cpp, src/llama-quant.cpp (MIT), for the architecture llama.
"""

from __future__ import annotations

import re

MIXES = ("q4_K_M", "q5_K_M")

_BASE = {"q4_K_M": "q4_K", "q5_K_M": "q5_K"}
_LAYER = re.compile(r"blk\.(\d+)\.")


def mix(name: str, tensor: str, n_layers: int, *, tied: bool) -> str:
    """The type that a mix gives a tensor. tied: the token table is the output head as well."""
    base = _BASE[name]
    if tensor == "output.weight" or (tied and tensor == "token_embd.weight"):
        return "q6_K"
    match = _LAYER.search(tensor)
    if match is None:
        return base
    more = tensor.endswith(("attn_v.weight", "ffn_down.weight"))
    return "q6_K" if more and wants_more(int(match[1]), n_layers) else base


def wants_more(layer: int, n_layers: int) -> bool:
    """The first and the last eighth, and every third of the rest."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2

"""Whisper as torch modules with everything in and out named: encoder, cross keys, decoder step.

A rewrite for export (openai/whisper, whisper/model.py, MIT, is the source of the arithmetic):
no cache lives in a module; the decoder takes one token and gives what it adds to the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.manifest import TensorSpec
from export.whisper_checkpoint import HEAD_WIDTH, WhisperWeights

_EPS = 1e-5


class _Weights(nn.Module):
    """Holds tensors by our names, dots as underscores, so that initializers keep readable names.

    Linear layers are stored as (in, out) and multiplied plainly: recipes look for MatMul.
    """

    def __init__(self, weights: WhisperWeights, prefixes: tuple[str, ...]) -> None:
        super().__init__()
        for name, value in weights.tensors.items():
            if name.startswith(prefixes):
                is_linear = value.ndim == 2 and name.endswith(".weight")
                stored = value.T if is_linear else value
                self.register_buffer(name.replace(".", "_"), torch.from_numpy(stored.copy()))

    def get(self, name: str) -> Tensor:
        """One tensor by its dotted name."""
        return self.get_buffer(name.replace(".", "_"))

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.get(f"{name}.weight") + self.get(f"{name}.bias")

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.get(f"{name}.weight"), self.get(f"{name}.bias")
        return functional.layer_norm(x, (x.shape[-1],), weight, bias, _EPS)


class WhisperEncoder(nn.Module):
    """Features (n_mels, n), n even, to encoded rows (n // 2, d)."""

    def __init__(self, weights: WhisperWeights) -> None:
        super().__init__()
        self.w = _Weights(weights, ("encoder.",))
        self.n_layers = weights.n_layers("encoder")
        self.n_mels, self.width = weights.n_mels, weights.width

    def forward(self, features: Tensor) -> Tensor:
        w = self.w
        x = features[None]
        bias = w.get("encoder.conv1.bias")
        x = functional.gelu(functional.conv1d(x, w.get("encoder.conv1.weight"), bias, padding=1))
        bias = w.get("encoder.conv2.bias")
        x = functional.conv1d(x, w.get("encoder.conv2.weight"), bias, stride=2, padding=1)
        x = functional.gelu(x)[0].T
        x = x + w.get("encoder.positions")[: x.shape[0]]
        for layer in range(self.n_layers):
            at = f"encoder.{layer}"
            y = w.norm(f"{at}.self.norm", x)
            q, k, v = (heads(w.linear(f"{at}.self.{letter}", y)) for letter in "qkv")
            x = x + w.linear(f"{at}.self.o", attend(q, k, v))
            x = x + feed_forward(w, at, x)
        return w.norm("encoder.norm", x)

    def inputs(self) -> list[TensorSpec]:
        return [TensorSpec("features", "float32", (self.n_mels, "columns"))]

    def outputs(self) -> list[TensorSpec]:
        return [TensorSpec("encoded", "float32", ("rows", self.width))]


class WhisperCross(nn.Module):
    """Encoded rows (r, d) to every decoder layer's keys and values, (layers, heads, r, 64) each.

    Row by row, so rows computed at different times can be joined.
    """

    def __init__(self, weights: WhisperWeights) -> None:
        super().__init__()
        self.w = _Weights(weights, ("decoder.",))
        self.n_layers = weights.n_layers("decoder")
        self.width = weights.width

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        def all_layers(letter: str) -> Tensor:
            parts = [
                heads(self.w.linear(f"decoder.{layer}.cross.{letter}", encoded))
                for layer in range(self.n_layers)
            ]
            return torch.stack(parts)

        return all_layers("k"), all_layers("v")

    def inputs(self) -> list[TensorSpec]:
        return [TensorSpec("encoded", "float32", ("rows", self.width))]

    def outputs(self) -> list[TensorSpec]:
        return [self._cache("cross_k"), self._cache("cross_v")]

    def _cache(self, name: str) -> TensorSpec:
        n_heads = self.width // HEAD_WIDTH
        return TensorSpec(name, "float32", (self.n_layers, n_heads, "rows", HEAD_WIDTH))


class WhisperDecoder(nn.Module):
    """One token: logits (n_tokens,) and what it adds to the cache of keys and values.

    The embedding and the output layer are one matrix, stored twice: by row for what goes in, by
    column for what comes out, so that recipes can make each as small as it stands.
    """

    def __init__(self, weights: WhisperWeights) -> None:
        super().__init__()
        self.w = _Weights(weights, ("decoder.",))
        embedding = torch.from_numpy(weights.tensors["decoder.embedding"].copy())
        self.w.register_buffer("decoder_output", embedding.T.contiguous())
        self.n_layers = weights.n_layers("decoder")
        self.width, self.n_tokens = weights.width, len(embedding)

    def forward(
        self,
        token: Tensor,
        position: Tensor,
        cache_k: Tensor,
        cache_v: Tensor,
        cross_k: Tensor,
        cross_v: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        w = self.w
        x = w.get("decoder.embedding").index_select(0, token)
        x = x + w.get("decoder.positions").index_select(0, position)
        new_k, new_v = [], []
        for layer in range(self.n_layers):
            at = f"decoder.{layer}"
            y = w.norm(f"{at}.self.norm", x)
            q, k, v = (heads(w.linear(f"{at}.self.{letter}", y)) for letter in "qkv")
            new_k.append(k)
            new_v.append(v)
            k, v = torch.cat([cache_k[layer], k], 1), torch.cat([cache_v[layer], v], 1)
            x = x + w.linear(f"{at}.self.o", attend(q, k, v))
            q = heads(w.linear(f"{at}.cross.q", w.norm(f"{at}.cross.norm", x)))
            x = x + w.linear(f"{at}.cross.o", attend(q, cross_k[layer], cross_v[layer]))
            x = x + feed_forward(w, at, x)
        logits = (w.norm("decoder.norm", x) @ w.get("decoder.output"))[0]
        return logits, torch.stack(new_k), torch.stack(new_v)

    def inputs(self) -> list[TensorSpec]:
        return [
            TensorSpec("token", "int64", (1,)),
            TensorSpec("position", "int64", (1,)),
            self._cache("cache_k", "past"),
            self._cache("cache_v", "past"),
            self._cache("cross_k", "rows"),
            self._cache("cross_v", "rows"),
        ]

    def outputs(self) -> list[TensorSpec]:
        logits = TensorSpec("logits", "float32", (self.n_tokens,))
        return [logits, self._cache("new_k", 1), self._cache("new_v", 1)]

    def _cache(self, name: str, length: int | str) -> TensorSpec:
        n_heads = self.width // HEAD_WIDTH
        return TensorSpec(name, "float32", (self.n_layers, n_heads, length, HEAD_WIDTH))


def heads(x: Tensor) -> Tensor:
    """(n, d) to (heads, n, 64)."""
    return x.reshape(x.shape[0], -1, HEAD_WIDTH).transpose(0, 1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over (heads, n, 64), back as (n, d)."""
    weights = torch.softmax(q @ k.transpose(-1, -2) * HEAD_WIDTH**-0.5, -1)
    return (weights @ v).transpose(0, 1).reshape(q.shape[1], -1)


def feed_forward(w: _Weights, at: str, x: Tensor) -> Tensor:
    """The two layers after attention, with their norm."""
    y = functional.gelu(w.linear(f"{at}.ffn.1", w.norm(f"{at}.ffn.norm", x)))
    return w.linear(f"{at}.ffn.2", y)

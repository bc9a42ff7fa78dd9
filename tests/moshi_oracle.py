"""The official multistream model, where it is installed: what ours is compared with."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.moshi_models import first_slices, write_safetensors

Weights = Mapping[str, NDArray[np.float32]]
# Logits float32 (n,) to the index of one.
Draw = Callable[[NDArray[np.float32]], int]
NOT_YET = -9  # in token tables: the official loop returned nothing


def official_model(folder: Path, raw: Mapping[str, Any], weights: Weights) -> Any:
    """The official model in float32 with these weights; PersonaPlex without its user slices."""
    import torch

    torch.set_num_threads(1)  # small matrices: more threads only wait for each other
    loaders = importlib.import_module("moshi.models.loaders")
    config = copy.deepcopy({k: v for k, v in raw.items() if k != "model_type"})
    kind = raw.get("model_type", "moshi")
    if kind == "personaplex":
        config["dep_q"] = raw["n_q"] // 2
        weights = first_slices(weights, config["dep_q"])
    path = write_safetensors(folder / "official.safetensors", weights)
    model = loaders.get_moshi_lm(path, config, device="cpu", dtype=torch.float32)
    if kind == "hibiki":
        model.text_emb.weight.data[2] = model.text_emb.weight.data[3]
    return model


def official_tokens(
    model: Any,
    kind: str,
    codes: NDArray[np.int64],
    *,
    guidance: float = 1.0,
    draw: Draw | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Run the official loop over user codes (n, n_user), greedy, or with draw() for each token.

    Returns tokens int64 (n, 1 + dep_q), NOT_YET where it returned None; text logits (n, card) and
    hidden states (n, dim), float32.
    """
    import torch

    lm = importlib.import_module("moshi.models.lm")
    inference = importlib.import_module("moshi.run_inference")
    logits: list[NDArray[np.float32]] = []
    conditions = inference.get_condition_tensors(kind, model, 1, guidance)
    loop = lm.LMGen(
        model,
        use_sampling=False,
        cfg_coef=guidance,
        condition_tensors=conditions,
        on_text_logits_hook=lambda values: logits.append(values[0, 0, 0].numpy().copy()),
    )
    hidden: list[NDArray[np.float32]] = []
    hook = model.out_norm.register_forward_hook(
        lambda _module, _inputs, out: hidden.append(out[0, 0].numpy().copy())
    )
    tokens = np.full((len(codes), 1 + model.dep_q), NOT_YET, np.int64)
    own = lm.sample_token

    def drawn(values: Any, *_options: Any) -> Any:
        return torch.full(values.shape[:-1], draw(values.reshape(-1).numpy()))

    if draw is not None:
        lm.sample_token = drawn
    with torch.no_grad(), loop.streaming(1):
        for i, frame in enumerate(codes):
            out = loop.step(torch.from_numpy(frame)[None, :, None])
            if out is not None:
                tokens[i] = out[0, :, 0].numpy()
    hook.remove()
    lm.sample_token = own
    return tokens, np.array(logits), np.array(hidden)

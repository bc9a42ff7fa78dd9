"""The official Mimi with random weights that are not degenerate, for parity tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edge.frame import SAMPLE_RATE_HZ
from export.mimi_config import MimiConfig
from runtime.models.mimi_probe import probe_sound

SMALL = MimiConfig(
    n_filters=4,
    dimension=32,
    n_heads=2,
    n_layers=2,
    feedforward=64,
    context=20,
    codebook_dim=16,
    n_codebooks=6,
    bins=64,
)


def official_table(config: MimiConfig) -> dict[str, Any]:
    """A config as the official loader takes it."""
    width = config.dimension
    seanet = {
        "channels": 1,
        "dimension": width,
        "causal": True,
        "n_filters": config.n_filters,
        "n_residual_layers": config.n_residual_layers,
        "activation": "ELU",
        "compress": config.compress,
        "dilation_base": config.dilation_base,
        "disable_norm_outer_blocks": 0,
        "kernel_size": config.kernel_size,
        "residual_kernel_size": config.residual_kernel_size,
        "last_kernel_size": config.last_kernel_size,
        "norm": "none",
        "pad_mode": "constant",
        "ratios": list(config.ratios),
        "true_skip": True,
    }
    transformer = {
        "d_model": width,
        "num_heads": config.n_heads,
        "num_layers": config.n_layers,
        "causal": True,
        "layer_scale": 0.01,
        "context": config.context,
        "conv_layout": True,
        "max_period": config.max_period,
        "gating": "none",
        "norm": "layer_norm",
        "positional_embedding": "rope",
        "dim_feedforward": config.feedforward,
        "input_dimension": width,
        "output_dimensions": [width],
    }
    quantizer = {
        "dimension": config.codebook_dim,
        "n_q": config.n_codebooks,
        "bins": config.bins,
        "input_dimension": width,
        "output_dimension": width,
    }
    return {
        "sample_rate": SAMPLE_RATE_HZ,
        "channels": 1,
        "frame_rate": 12.5,
        "seanet": seanet,
        "transformer": transformer,
        "quantizer": quantizer,
    }


def official_mimi(config: dict[str, Any] | None, *, seed: int, n_codebooks: int) -> Any:
    """An official model with seeded weights that behave: convolutions give unit variance, layer
    scales and norms matter, and codebooks are latents of a sound. Frozen, in evaluation mode."""
    from moshi.models.loaders import get_mimi

    torch.manual_seed(seed)
    model = get_mimi(None, config, num_codebooks=n_codebooks)
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d) and module.bias is not None:
            module.bias.normal_(0, 0.05)
        if isinstance(module, nn.LayerNorm):
            module.weight.normal_(1, 0.1)
            module.bias.normal_(0, 0.05)
        if type(module).__name__ == "LayerScale":
            module.scale.uniform_(0.1, 0.3)
    pcm = torch.from_numpy(probe_sound(40, seed).reshape(1, 1, -1))
    hooks = [
        module.register_forward_hook(_unit_output)
        for module in model.modules()
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d)
    ]
    latent = model._encode_to_unquantized_latent(pcm)
    for branch in (model.quantizer.rvq_first, model.quantizer.rvq_rest):
        _fill_codebooks(branch, latent)
    model.decode(model.encode(pcm))
    for hook in hooks:
        hook.remove()
    last = model.decoder.model[-1].conv.conv
    last.weight.mul_(0.1)
    last.bias.mul_(0.1)
    return model.eval()


def _unit_output(module: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    """Rescale a convolution the first time it runs, so that its output has unit variance."""
    if getattr(module, "_rescaled", False):
        return output
    module._rescaled = True
    scale = output.std().clamp(min=1e-6)
    module.weight.div_(scale)
    return module.forward(inputs[0])


def _fill_codebooks(branch: Any, latent: torch.Tensor) -> None:
    """Make every level's entries random mixtures of that level's own residuals."""
    residual = branch.input_proj(latent)[0].T  # (frames, width)
    for layer in branch.vq.layers:
        book = layer._codebook
        mix = torch.randn(book.codebook_size, len(residual)) / len(residual) ** 0.5
        spread = residual.std(0, keepdim=True)
        entries = mix @ (residual - residual.mean(0)) * 0.7 + residual.mean(0)
        entries += 0.2 * spread * torch.randn(entries.shape)
        book.cluster_usage.uniform_(0.5, 2.0)
        book.embedding_sum.copy_(entries * book.cluster_usage[:, None])
        book._initialized.fill_(1)
        book._embedding = None
        chosen = torch.cdist(residual, book.embedding).argmin(1)
        residual = residual - book.embedding[chosen]


def published_state(model: Any) -> dict[str, torch.Tensor]:
    """The model's tensors under the names that published files use."""
    return {
        name.replace("in_projs.0.weight", "in_proj_weight").replace("out_projs.0", "out_proj"): (
            tensor.contiguous()
        )
        for name, tensor in model.state_dict().items()
    }

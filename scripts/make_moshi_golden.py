"""Make tests/golden/moshi_*.npz: what the official multistream loops do with seeded weights.

Run it once with the official `moshi` package installed (with --no-deps), and with the path of a
checkout of PersonaPlex for that model's own loop:

    python scripts/make_moshi_golden.py [--personaplex CHECKOUT/moshi]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.moshi_models import (  # noqa: E402
    CONFIGS,
    old_names,
    random_weights,
    user_codes,
    write_safetensors,
)
from tests.moshi_oracle import NOT_YET, official_model, official_tokens  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
SEED, N_FRAMES = 1, 300
N_LOOP_FRAMES, N_VOICE_FRAMES = 60, 9
TEXT_PROMPT = (5, 9, 30, 11, 8, 17, 40)


def kyutai() -> None:
    """Greedy tokens of the official loop for every configuration; some states of the first."""
    import torch

    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, raw in CONFIGS.items():
        if name == "personaplex_loop":
            continue
        guidances = (1.0, 3.0) if raw.get("conditioners") else (1.0,)
        with tempfile.TemporaryDirectory() as folder:
            model = official_model(Path(folder), raw, random_weights(raw, SEED))
            for guidance in guidances:
                codes = user_codes(raw, N_FRAMES, SEED)
                kind = raw.get("model_type", "moshi")
                tokens, logits, hidden = official_tokens(model, kind, codes, guidance=guidance)
                key = name if guidance == 1.0 else f"{name}_guided"
                found[key] = tokens.astype(np.int16)
                if key == "moshi":
                    found["hidden"], found["text_logits"] = hidden[::10], logits[::10]
    np.savez_compressed(GOLDEN / "moshi_tokens.npz", **found)


def personaplex(package: Path) -> None:
    """Greedy tokens of PersonaPlex's own loop, without and with its prompts.

    Its package has the same name as the other one, so it runs in a process of its own.
    """
    environment = {"PYTHONPATH": f"{package}:{ROOT}", "NO_TORCH_COMPILE": "1", "NO_CUDA_GRAPH": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--child"]
    subprocess.run(command, env=environment, check=True)


def personaplex_child() -> None:
    """The part that runs with PersonaPlex's package."""
    import torch
    from moshi.models import lm, loaders

    raw = CONFIGS["personaplex_loop"]
    config = {k: v for k, v in raw.items() if k != "model_type"}
    rng = np.random.default_rng(SEED)
    voice = rng.integers(0, raw["card"], (N_VOICE_FRAMES, 8))
    loaders._lm_kwargs = config  # noqa: SLF001
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_safetensors(path, old_names(random_weights(raw, SEED)))
        model = loaders.get_moshi_lm(path, device="cpu", dtype=torch.float32)
    codes = user_codes(raw, N_LOOP_FRAMES, SEED)
    found = {"voice": voice.astype(np.int16), "text_prompt": np.array(TEXT_PROMPT)}
    for prompted in (False, True):
        loop = lm.LMGen(
            model,
            "cpu",
            use_sampling=False,
            text_prompt_tokens=list(TEXT_PROMPT),
            audio_silence_frame_cnt=6,
            sample_rate=24_000,
        )
        tokens = np.full((N_LOOP_FRAMES, 17), NOT_YET, np.int64)
        with torch.no_grad(), loop.streaming(1):
            if prompted:
                for frame in voice:
                    loop._step_voice_prompt_frame(torch.from_numpy(frame)[None, :, None])  # noqa: SLF001
                loop._step_audio_silence()  # noqa: SLF001
                loop._step_text_prompt()  # noqa: SLF001
                loop._step_audio_silence()  # noqa: SLF001
            for i, frame in enumerate(codes):
                out = loop.step(torch.from_numpy(frame)[None, :, None])
                if out is not None:
                    tokens[i] = out[0, :, 0].numpy()
        found["prompted" if prompted else "plain"] = tokens.astype(np.int16)
    np.savez_compressed(GOLDEN / "moshi_personaplex_loop.npz", **found)


def main() -> None:
    """Write the golden files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--personaplex", type=Path, help="the folder that holds its moshi package")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        personaplex_child()
        return
    GOLDEN.mkdir(exist_ok=True)
    kyutai()
    if options.personaplex:
        personaplex(options.personaplex)


if __name__ == "__main__":
    main()

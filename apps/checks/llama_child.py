"""A real prompt through llama.cpp, in a process of its own: `python -m apps.checks.llama_child`.

A build with instructions that the processor only advertises dies here, at the first prompt of more
than one token, and not in a conversation. The voice detector is loaded before it: both bring a
ggml, and a build under equal library names cannot be in one process with the other.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from apps.checks.child import answer
from edge.errors import EdgeError
from runtime.backends.llama import ContextOptions, LlamaModel
from runtime.backends.llama_library import load_library
from runtime.models.vad import Vad

PROMPT = "The capital of France is the city of Paris, and the capital of Italy is Rome."
N_STEPS = 8


def load_together(vad_file: Path | None) -> None:
    """Load the libraries that must get along in one process."""
    if vad_file is not None:
        Vad({vad_file.name: vad_file})
    load_library()


def evaluate(gguf: Path) -> dict[str, object]:
    """Read a prompt and write a few tokens. Gives both speeds in tokens per second."""
    model = LlamaModel(gguf)
    context = model.context(ContextOptions(n_ctx=128))
    tokens = model.tokenize(PROMPT)
    began_s = time.perf_counter()
    logits = context.decode_tokens(tokens, 0)
    read_s = time.perf_counter() - began_s
    for step in range(N_STEPS):
        logits = context.decode_tokens([int(logits.argmax())], len(tokens) + step)
    write_s = time.perf_counter() - began_s - read_s
    context.close()
    model.close()
    return {
        "n_prompt_tokens": len(tokens),
        "read_tokens_per_s": round(len(tokens) / read_s, 1),
        "write_tokens_per_s": round(N_STEPS / write_s, 1),
    }


def main(arguments: list[str]) -> None:
    """Arguments: --vad FILE and --llm FILE, each left out where there is no such model."""
    named = dict(zip(arguments[::2], map(Path, arguments[1::2]), strict=True))
    try:
        load_together(named.get("--vad"))
        answer(evaluate(named["--llm"]) if "--llm" in named else {})
    except EdgeError as error:
        answer(error)


if __name__ == "__main__":
    main(sys.argv[1:])

"""llama.cpp through llama-cpp-python: a GGUF's weights, and contexts over tokens or embeddings.

Everything above it sees numpy arrays and plain ints.
Source of the behaviour relied on: ggml-org/llama.cpp, include/llama.h.
"""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelDamagedError, ShapeError
from runtime.backends.llama_library import load_ggml, load_library
from runtime.backends.llama_watch import OnProduct, watch_products

Float32 = NDArray[np.float32]
KvType = Literal["f32", "f16", "q8_0"]

_GGML_TYPES: dict[KvType, int] = {"f32": 0, "f16": 1, "q8_0": 8}


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """How a context is made.

    n_ctx: positions its KV cache holds. n_batch: most tokens in one decode call.
    threads: cores it may use; one more than is free costs ten times the time.
    embeddings: give hidden states as well as logits. kv: type of the K and V cache; "f32" also
    keeps attention in float32. n_seq: sequences that are stepped together, each with n_ctx
    positions (a guided model's second row).
    """

    n_ctx: int
    n_batch: int = 256
    threads: int = 1
    embeddings: bool = False
    kv: KvType = "f16"
    n_seq: int = 1


class LlamaModel:
    """Weights and vocabulary of one GGUF, loaded once and shared by its contexts."""

    def __init__(
        self,
        path: Path,
        *,
        n_gpu_layers: int = 0,
        repack: bool = True,
        on_product: OnProduct | None = None,
    ) -> None:
        """Map the file. Raises ModelDamagedError where llama.cpp refuses it.

        repack: keep a second copy of the weights in the processor's favourite layout: faster on
        long prompts, but twice the memory. on_product: told what every weight is multiplied with.
        """
        self._lib = load_library()
        self._watch = on_product and watch_products(self._lib, load_ggml(), on_product)
        self._lib.llama_backend_init()
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        params.use_extra_bufts = repack
        self._model = self._lib.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ModelDamagedError(
                f"{path.name}: llama.cpp cannot load it (truncated or not a GGUF of a known "
                "architecture); fetch or export it again"
            )
        self._free = weakref.finalize(self, self._lib.llama_model_free, self._model)
        self._free.atexit = False  # a worker may still compute when the process ends
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self.n_vocab: int = self._lib.llama_vocab_n_tokens(self._vocab)
        self.n_embd: int = self._lib.llama_model_n_embd(self._model)
        self.n_ctx_train: int = self._lib.llama_model_n_ctx_train(self._model)
        n_heads: int = self._lib.llama_model_n_head(self._model)
        n_kv_heads: int = self._lib.llama_model_n_head_kv(self._model)
        self.n_head_dim: int = self.n_embd // max(1, n_heads)
        self.n_kv: int = self.n_head_dim * n_kv_heads  # width of a position's keys

    def chat_renderer(self) -> Callable[[Sequence[Mapping[str, str]]], str]:
        """From messages ({"role", "content"}) to the prompt text that this GGUF was trained on.

        The GGUF's own template runs in a sandbox. Raises ModelDamagedError where it has none.
        """
        template = self._lib.llama_model_chat_template(self._model, None)
        if not template:
            raise ModelDamagedError("this GGUF has no chat template: it is not a chat model")
        formats = importlib.import_module("llama_cpp.llama_chat_format")
        formatter = formats.Jinja2ChatFormatter(
            template=template.decode(),
            eos_token=self._special_text(self._lib.llama_vocab_eos(self._vocab)),
            bos_token=self._special_text(self._lib.llama_vocab_bos(self._vocab)),
        )
        return lambda messages: str(formatter(messages=list(messages)).prompt)

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of text, without BOS. special: read control tokens written in the text."""
        raw = text.encode()
        room = len(raw) + 8
        out = (ctypes.c_int * room)()
        n = self._lib.llama_tokenize(self._vocab, raw, len(raw), out, room, False, special)
        if n < 0:
            raise ShapeError("tokenize", got=f"{-n} tokens", want=f"at most {room}")
        return list(out[:n])

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for (part of a UTF-8 character at times); b"" for control."""
        return self._piece(token, special=False)

    def _special_text(self, token: int) -> str:
        return self._piece(token, special=True).decode() if token >= 0 else ""

    def _piece(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            out = ctypes.create_string_buffer(size)
            n = self._lib.llama_token_to_piece(self._vocab, token, out, size, 0, special)
            if n >= 0:
                return out.raw[:n]
            size = -n

    def ends_turn(self, token: int) -> bool:
        """Whether a token ends the model's turn (EOS, EOT and the like)."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def context(self, options: ContextOptions) -> LlamaContext:
        """A new, empty context: one conversation's KV cache and compute buffers."""
        sizes = (self.n_vocab, self.n_embd)
        return LlamaContext(self._lib, self, self._model, options, *sizes, watch=self._watch)

    def close(self) -> None:
        """Free the weights now, not when nobody refers to them; no context may be used after it."""
        self._free()
        self._model = None


class LlamaContext:
    """One KV cache. The state lives in the library: this object is its handle, close() frees it."""

    def __init__(
        self, lib: Any, owner: LlamaModel, model: Any, options: ContextOptions, n_vocab: int,
        n_embd: int, *, watch: Any = None,
    ) -> None:  # fmt: skip
        params = lib.llama_context_default_params()
        n_batch = max(options.n_batch, options.n_seq)
        params.n_ctx = options.n_ctx * options.n_seq
        params.n_batch = n_batch
        params.n_ubatch = n_batch
        params.n_seq_max = options.n_seq
        params.n_threads = options.threads
        params.n_threads_batch = options.threads
        params.embeddings = options.embeddings
        params.pooling_type = 0  # LLAMA_POOLING_TYPE_NONE: a hidden state for every position
        params.type_k = params.type_v = _GGML_TYPES[options.kv]
        # Flash attention rounds to half precision: off where float32 is asked for. Auto otherwise.
        params.flash_attn_type = 0 if options.kv == "f32" else -1
        params.no_perf = True
        if watch:
            params.cb_eval = watch
        self._lib, self._n_vocab, self._n_embd, self._options = lib, n_vocab, n_embd, options
        self._ctx = lib.llama_init_from_model(model, params)
        if not self._ctx:
            raise ModelDamagedError(
                f"llama.cpp cannot make a context of {options.n_ctx} positions; is memory short?"
            )
        self._token_batch = lib.llama_batch_init(options.n_batch, 0, 1)
        self._embedding_batch: Any = None
        self._batches = [self._token_batch]
        # Owner: the weights outlive every context, in whatever order objects go.
        self._free = weakref.finalize(self, _free_context, lib, self._ctx, self._batches, owner)
        self._free.atexit = False

    def decode_tokens(self, tokens: Sequence[int], first_pos: int) -> Float32:
        """Run tokens at positions first_pos, first_pos+1, ...; logits (n_vocab,) of the last one.

        The array is a view of the library's buffer: valid until the next call. Longer input than
        n_batch is cut into batches.
        """
        if not tokens:
            raise ShapeError("decode_tokens", got="no tokens", want="at least one")
        room = self._options.n_batch
        for start in range(0, len(tokens), room):
            part = tokens[start : start + room]
            batch = self._tokens_in(part)
            last = start + room >= len(tokens)
            self._place(batch, len(part), first_pos + start, want_last=last, want_all=False)
            self._run(batch)
        return self._view(self._lib.llama_get_logits_ith(self._require_open(), -1), self._n_vocab)

    def decode_tokens_at(
        self, tokens: Sequence[int], first_pos: int, at: int
    ) -> tuple[Float32, Float32]:
        """As decode_tokens, but logits (n_vocab,) after token `at` as well as after the last one.

        Copies. One call where the tokens fit a batch, which costs less than two.
        """
        if not 0 <= at < len(tokens):
            raise ShapeError("decode_tokens_at", got=at, want=f"0 to {len(tokens) - 1}")
        if len(tokens) > self._options.n_batch:
            logits = self.decode_tokens(tokens[: at + 1], first_pos).copy()
            rest = tokens[at + 1 :]
            return logits, self.decode_tokens(rest, first_pos + at + 1).copy() if rest else logits
        batch = self._tokens_in(tokens)
        self._place(batch, len(tokens), first_pos, want_last=True, want_all=False)
        batch.logits[at] = True
        self._run(batch)
        getter, ctx = self._lib.llama_get_logits_ith, self._require_open()
        middle = self._view(getter(ctx, at), self._n_vocab).copy()
        return middle, self._view(getter(ctx, -1), self._n_vocab).copy()

    def decode_embeddings(
        self, x: Float32, first_pos: int, *, want_all: bool = False
    ) -> tuple[Float32, Float32]:
        """Run input embeddings x float32 (n, n_embd), n <= n_batch, at positions first_pos...

        Returns (hidden, logits) of the last position, float32 (n_embd,) and (n_vocab,); with
        want_all of every position, (n, n_embd) and (n, n_vocab). Copies are not made: valid until
        the next call. The context needs embeddings=True.
        """
        n = x.shape[0]
        if x.ndim != 2 or x.shape[1] != self._n_embd or not 0 < n <= self._options.n_batch:
            raise ShapeError(
                "decode_embeddings",
                got=x.shape,
                want=f"(1..{self._options.n_batch}, {self._n_embd})",
            )
        batch = self._embeddings_in(x)
        self._place(batch, n, first_pos, want_last=True, want_all=want_all)
        self._run(batch)
        rows = n if want_all else 1
        hidden = self._rows(self._lib.llama_get_embeddings_ith, rows, self._n_embd)
        logits = self._rows(self._lib.llama_get_logits_ith, rows, self._n_vocab)
        return (hidden, logits) if want_all else (hidden[0], logits[0])

    def decode_again(self, pos: int) -> None:
        """Run the last single embedding once more at another position, and nothing else."""
        if self._embedding_batch is None or self._embedding_batch.n_tokens != 1:
            raise ShapeError("decode_again", got="no single embedding before", want="one")
        self._embedding_batch.pos[0] = pos
        self._run(self._embedding_batch)
        self._lib.llama_synchronize(self._ctx)

    def decode_rows(self, x: Float32, pos: int) -> tuple[Float32, Float32]:
        """Run one embedding for each sequence, x float32 (n_seq, n_embd), all at position pos.

        Returns (hidden (n_seq, n_embd), logits (n_seq, n_vocab)), valid until the next call.
        """
        n = self._options.n_seq
        if x.shape != (n, self._n_embd):
            raise ShapeError("decode_rows", got=x.shape, want=(n, self._n_embd))
        if n == 1:
            hidden, logits = self.decode_embeddings(x, pos)
            return hidden[None], logits[None]
        batch = self._embeddings_in(x)
        for i in range(n):
            batch.pos[i] = pos
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = i
            batch.logits[i] = True
        self._run(batch)
        return (
            self._rows(self._lib.llama_get_embeddings_ith, n, self._n_embd),
            self._rows(self._lib.llama_get_logits_ith, n, self._n_vocab),
        )

    def use_threads(self, n_threads: int) -> None:
        """Compute with so many from the next call on (see ContextOptions.threads)."""
        self._lib.llama_set_n_threads(self._require_open(), n_threads, n_threads)

    def forget(self, first_pos: int, end_pos: int = -1) -> None:
        """Drop positions first_pos..end_pos-1 from the cache (-1: to the end)."""
        for seq in range(self._options.n_seq):
            if not self._lib.llama_memory_seq_rm(self._cache(), seq, first_pos, end_pos):
                raise ShapeError("forget", got=f"{first_pos}..{end_pos}", want="a removable range")

    def shift(self, first_pos: int, end_pos: int, delta: int) -> None:
        """Move the keys of positions first_pos..end_pos-1 (-1: to the end) by delta positions.

        The next decode pays for it: every key that is held is rotated once.
        """
        for seq in range(self._options.n_seq):
            self._lib.llama_memory_seq_add(self._cache(), seq, first_pos, end_pos, delta)

    def span(self) -> tuple[int, int]:
        """First and last position held; (-1, -1) when empty."""
        return (
            int(self._lib.llama_memory_seq_pos_min(self._cache(), 0)),
            int(self._lib.llama_memory_seq_pos_max(self._cache(), 0)),
        )

    def save(self) -> bytes:
        """The cache's content, to be given to load() of a context with the same options."""
        parts = []
        for seq in range(self._options.n_seq):
            size = self._lib.llama_state_seq_get_size(self._require_open(), seq)
            buffer = (ctypes.c_uint8 * size)()
            n = self._lib.llama_state_seq_get_data(self._require_open(), buffer, size, seq)
            parts += [n.to_bytes(8, "little"), bytes(memoryview(buffer)[:n])]
        return b"".join(parts)

    def load(self, data: bytes) -> None:
        """Replace the cache's content by what save() gave. Raises ModelDamagedError."""
        start = 0
        for seq in range(self._options.n_seq):
            n = int.from_bytes(data[start : start + 8], "little")
            part = data[start + 8 : start + 8 + n]
            start += 8 + n
            buffer = (ctypes.c_uint8 * max(1, len(part))).from_buffer_copy(part or b"\0")
            whole = 0 < n == len(part)
            if not whole or not self._lib.llama_state_seq_set_data(
                self._require_open(), buffer, n, seq
            ):
                raise ModelDamagedError("this saved state does not fit the model or its context")

    def close(self) -> None:
        """Free the cache; safe to call twice."""
        self._free()
        self._ctx = None

    def _require_open(self) -> Any:
        """The library's handle; a freed one would take the whole process down."""
        if not self._ctx:
            raise ShapeError("llama.cpp", got="a closed context", want="an open one")
        return self._ctx

    def _cache(self) -> Any:
        return self._lib.llama_get_memory(self._require_open())

    def _tokens_in(self, tokens: Sequence[int]) -> Any:
        """The batch for tokens, filled with at most n_batch of them."""
        self._require_open()
        batch = self._token_batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
        return batch

    def _embeddings_in(self, x: Float32) -> Any:
        """The batch for embeddings, x copied into it."""
        self._require_open()
        if self._embedding_batch is None:
            size = max(self._options.n_batch, self._options.n_seq)
            self._embedding_batch = self._lib.llama_batch_init(size, self._n_embd, 1)
            self._batches.append(self._embedding_batch)
        batch = self._embedding_batch
        batch.n_tokens = len(x)
        block = np.ascontiguousarray(x, np.float32)
        ctypes.memmove(batch.embd, block.ctypes.data, block.nbytes)
        return batch

    def _place(
        self, batch: Any, n: int, first_pos: int, *, want_last: bool, want_all: bool
    ) -> None:
        """Fill in positions, sequence 0 and which rows give output."""
        for i in range(n):
            batch.pos[i] = first_pos + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = want_all or (want_last and i == n - 1)

    def _run(self, batch: Any) -> None:
        code = self._lib.llama_decode(self._require_open(), batch)
        if code == 1:
            raise ShapeError("llama_decode", got="a full cache", want="room in n_ctx")
        if code != 0:
            raise ModelDamagedError(f"llama_decode failed with code {code}")

    def _rows(self, getter: Any, n_rows: int, width: int) -> Float32:
        first = -n_rows
        rows = [self._view(getter(self._require_open(), first + i), width) for i in range(n_rows)]
        return rows[0][None] if n_rows == 1 else np.stack(rows)

    @staticmethod
    def _view(pointer: Any, width: int) -> Float32:
        return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (width,))


def _free_context(lib: Any, ctx: Any, batches: list[Any], owner: LlamaModel) -> None:
    """Free a context and its batches, and only then let go of its model."""
    for batch in batches:
        lib.llama_batch_free(batch)
    lib.llama_free(ctx)
    del owner

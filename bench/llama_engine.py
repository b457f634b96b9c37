"""llama.cpp through the low-level calls of llama-cpp-python: logits and ids, nothing else.

One thread, no flash attention, keys and values in float32: what llama.cpp computes, not how fast.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from bench.report import BenchError

_MOST_TOKENS = 4096  # of a text


@lib.llama_log_callback
def _quiet(_level: int, _text: bytes, _data: Any) -> None:
    """Pass over what the library tells about its models."""


class LlamaCpp:
    """A base, and an adapter on top of it.

    Args:
        base: GGUF file.
        adapter: GGUF LoRA file, None for the bare base.
        context: positions.

    Raises:
        BenchError: llama.cpp refuses a file.
    """

    def __init__(self, base: Path, adapter: Path | None = None, context: int = 256) -> None:
        lib.llama_log_set(_quiet, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self._context = self._model = None
        settings = lib.llama_model_default_params()
        settings.n_gpu_layers = 0
        self._model = lib.llama_model_load_from_file(str(base).encode(), settings)
        if not self._model:
            raise BenchError(f"llama.cpp can't load {base}.")
        self._vocabulary = lib.llama_model_get_vocab(self._model)
        self.tokens = lib.llama_vocab_n_tokens(self._vocabulary)
        self._context = lib.llama_init_from_model(self._model, _context_settings(context))
        if not self._context:
            raise BenchError(f"llama.cpp can't make a context for {base}.")
        if adapter is not None:
            self._set(adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._context:
            lib.llama_free(self._context)
        if self._model:
            lib.llama_model_free(self._model)

    def _set(self, adapter: Path) -> None:
        loaded = lib.llama_adapter_lora_init(self._model, str(adapter).encode())
        if not loaded:
            raise BenchError(f"llama.cpp can't load {adapter}.")
        if hasattr(lib, "llama_set_adapters_lora"):
            one = (lib.llama_adapter_lora_p_ctypes * 1)(
                ctypes.cast(loaded, lib.llama_adapter_lora_p_ctypes)
            )
            failed = lib.llama_set_adapters_lora(self._context, one, 1, (ctypes.c_float * 1)(1.0))
        else:  # older versions
            failed = lib.llama_set_adapter_lora(self._context, loaded, 1.0)
        if failed:
            raise BenchError(f"llama.cpp can't apply {adapter}.")

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits at every position of one row, (tokens, vocabulary).

        Raises:
            BenchError: llama.cpp fails.
        """
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)
        batch = lib.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for at, number in enumerate(ids):
                batch.token[at], batch.pos[at] = number, at
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
                batch.logits[at] = 1
            if lib.llama_decode(self._context, batch):
                raise BenchError("llama.cpp can't decode a row.")
            found = lib.llama_get_logits(self._context)
            size = (len(ids), self.tokens)
            return np.ctypeslib.as_array(found, size).copy()
        finally:
            lib.llama_batch_free(batch)

    def ids(self, text: str, *, whole: bool = False) -> list[int]:
        """Return a text's ids.

        Args:
            text: special tokens in it are taken for what they are.
            whole: with the token that begins a text, where there is one.
        """
        data = text.encode()
        room = (lib.llama_token * _MOST_TOKENS)()
        count = lib.llama_tokenize(
            self._vocabulary, data, len(data), room, _MOST_TOKENS, whole, True
        )
        if count < 0:
            raise BenchError(f"a text has {-count} tokens; there is room for {_MOST_TOKENS}.")
        return list(room[:count])


def _context_settings(context: int) -> Any:
    settings = lib.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = context
    settings.n_threads = settings.n_threads_batch = 1
    settings.type_k = settings.type_v = lib.GGML_TYPE_F32
    if hasattr(settings, "flash_attn_type"):
        settings.flash_attn_type = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED
    else:
        settings.flash_attn = False
    return settings

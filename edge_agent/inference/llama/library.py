"""The library itself: found or not, silent, and whichever of its versions it is.

Names and fields that changed between versions are looked for, never taken for granted.
"""

import ctypes
from collections import deque
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from edge_agent.inference.errors import EngineError

#: From this level on a line may say why something failed (GGML_LOG_LEVEL_WARN).
_WARNING = 3
_CONTINUED = 5
_MAX_WORDS = 300
_words: deque[str] = deque(maxlen=4)
_kept: list[Any] = []  # a callback must live as long as the library may call it


def is_installed() -> bool:
    """Return whether llama-cpp-python is there, without importing it."""
    return find_spec("llama_cpp") is not None


@cache
def library() -> Any:
    """Return llama-cpp-python, which writes nothing to standard error from now on.

    Raises:
        EngineError: it isn't installed, or can't be loaded.
    """
    if not is_installed():
        raise EngineError("llama.cpp isn't installed. Install it with: pip install lorikeet[llama]")
    try:
        lib = import_module("llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"llama-cpp-python can't be loaded ({error}). Install it again, compiled for this "
            "machine: pip install --force-reinstall --no-binary llama-cpp-python llama-cpp-python"
        ) from error
    callback = lib.llama_log_callback(_listen)
    _kept.append(callback)
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    lib.llama_backend_init()
    return lib


def _listen(level: int, text: bytes, _data: Any) -> None:
    """Keep the last warnings: they say of files what is wrong with them. None quotes a text."""
    if level in (_WARNING, _WARNING + 1) or (level == _CONTINUED and _words):
        _words.append(text.decode(errors="replace").strip())


def forget_words() -> None:
    """Drop what was said, before something that may fail."""
    _words.clear()


def last_words() -> str:
    """Return what the library said last, for a message; empty, or with a space in front."""
    said = " ".join(word for word in _words if word)[-_MAX_WORDS:]
    return f" llama.cpp says: {said}" if said else ""


def model_settings(lib: Any, *, repack: bool) -> Any:
    """Return how a model is opened: mapped, on the CPU.

    Args:
        lib: of `library`.
        repack: whether weights may be copied into an order that the CPU likes better.
    """
    settings = lib.llama_model_default_params()
    settings.n_gpu_layers = 0
    if hasattr(settings, "load_mode"):
        settings.load_mode = lib.LLAMA_LOAD_MODE_MMAP
    else:
        settings.use_mmap, settings.use_mlock = True, False
    if hasattr(settings, "use_extra_bufts"):
        settings.use_extra_bufts = repack
    return settings


def context_settings(
    lib: Any, *, cells: int, sequences: int, piece: int, outputs: int, threads: int
) -> Any:
    """Return what a context holds.

    Args:
        lib: of `library`.
        cells: positions of all sequences together; those that sequences share count once.
        sequences: at a time.
        piece: tokens that are computed at a time: the buffers grow with it.
        outputs: of those, positions whose logits are wanted.
        threads: for computing.
    """
    settings = lib.llama_context_default_params()
    settings.n_ctx = cells
    settings.n_batch = settings.n_ubatch = piece = max(piece, sequences)
    settings.n_seq_max = sequences
    settings.n_threads = settings.n_threads_batch = threads
    settings.no_perf = True
    _set(settings, "kv_unified", True)  # so that a prompt's positions are shared
    _set(settings, "swa_full", True)  # so that a sequence may be cut back behind its window
    # llama.cpp plans with one for each sequence, and aborts where there are fewer.
    _set(settings, "n_outputs_max", min(piece, max(outputs, sequences)))
    return settings


def use_adapter(lib: Any, context: Any, adapter: Any) -> None:
    """Let a context compute with an adapter from now on.

    Raises:
        EngineError: the library refuses.
    """
    if hasattr(lib, "llama_set_adapters_lora"):
        kind = lib.llama_adapter_lora_p_ctypes
        one = (kind * 1)(ctypes.cast(adapter, kind))
        failed = lib.llama_set_adapters_lora(context, one, 1, (ctypes.c_float * 1)(1.0))
    else:
        if hasattr(lib, "llama_clear_adapter_lora"):
            lib.llama_clear_adapter_lora(context)
        failed = lib.llama_set_adapter_lora(context, adapter, 1.0)
    if failed:
        raise EngineError(f"llama.cpp can't apply the adapter (code {failed}).{last_words()}")


def _set(settings: Any, name: str, value: int) -> None:
    if hasattr(settings, name):
        setattr(settings, name, value)

"""An adapter in numpy becomes one of llama.cpp's, through a file in memory.

llama.cpp reads adapters from files alone. On Linux and Android the file is anonymous memory
(memfd_create), which is named by ``/proc/self/fd``; elsewhere it is a temporary file.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.contract import Adapter, Array, Factors
from edge_agent.inference.errors import EngineError
from edge_agent.inference.llama.library import forget_words, last_words
from wire.gguf_adapter import write_gguf_adapter
from wire.gguf_names import gguf_name, stored_rows
from wire.shape import target_modules


class Layout:
    """Where a base's linear layers stand in its file.

    Args:
        architecture: ``general.architecture`` of the file.
        config: the file's, in the words of ``config.json``.

    Raises:
        WireError: the configuration is of no known family.
    """

    def __init__(self, architecture: str, config: Mapping[str, Any]) -> None:
        self.architecture = architecture
        self.family = str(config["model_type"])
        self.hidden_size = int(config["hidden_size"])
        self._head_dim = int(config["head_dim"])
        self._targets = target_modules(config)

    def check(self, adapter: Adapter) -> None:
        """Raise EngineError unless an adapter's values are finite and fit the base."""
        for target, factors in adapter.factors.items():
            if target not in self._targets:
                raise EngineError(
                    f"the adapter changes {target[:200]}; the base has no such layer."
                )
            out, inputs = self._targets[target]
            rank = len(factors.a)
            if factors.a.shape != (rank, inputs) or factors.b.shape != (out, rank):
                raise EngineError(
                    f"the adapter's factors of {target} are {list(factors.b.shape)} times "
                    f"{list(factors.a.shape)}; the base's layer is {[out, inputs]}."
                )
            if not (np.isfinite(factors.a).all() and np.isfinite(factors.b).all()):
                raise EngineError(f"the adapter's factors of {target} are not all finite.")
        prompt = adapter.prompt
        if prompt is None:
            return
        if prompt.ndim != 2 or prompt.shape[1] != self.hidden_size:
            raise EngineError(
                f"the soft prompt is {list(prompt.shape)}; the base has {self.hidden_size} columns."
            )
        if not np.isfinite(prompt).all():
            raise EngineError("the soft prompt is not all finite.")

    def weight(self, target: str) -> str:
        """Return the name of a target's weight in the file."""
        name = gguf_name(f"{target}.weight", self.family)
        if name is None:
            raise EngineError(f"llama.cpp has no layer {target[:200]}.")
        return name

    def embeddings(self, prompt: Array) -> Array:
        """Return a soft prompt as llama.cpp takes it, (tokens, hidden).

        It multiplies whatever enters Gemma 2; a prompt is learnt behind that, as in transformers.
        """
        scale = self.hidden_size**0.5 if self.family == "gemma2" else 1.0
        return prompt / np.float32(scale)

    def order(self, target: str, rows: int) -> NDArray[np.int64] | None:
        """Return which of a target's rows stands at each place; None: all are in their places."""
        return stored_rows(f"{target}.weight", self.family, rows, self._head_dim)


def load_adapter(lib: Any, model: Any, layout: Layout, factors: Mapping[str, Factors]) -> Any:
    """Return llama.cpp's adapter of some factors; the caller frees it with `free_adapter`.

    Args:
        lib: of `library`.
        model: that it changes.
        layout: of that model.
        factors: by target, checked; those of rank 0 are left out. At least one has a rank.

    Raises:
        EngineError: llama.cpp refuses it.
    """
    names: dict[str, str] = {}
    shapes: dict[str, Sequence[int]] = {}
    for target, one in factors.items():
        if not len(one.a):
            continue
        weight = layout.weight(target)
        names |= {f"{weight}.lora_a": target, f"{weight}.lora_b": target}
        shapes |= {f"{weight}.lora_a": one.a.shape, f"{weight}.lora_b": one.b.shape}

    def values(name: str) -> Array:
        target = names[name]
        one = factors[target]
        if name.endswith(".lora_a"):
            return one.a
        order = layout.order(target, len(one.b))
        return one.b if order is None else one.b[order]

    def write(file: IO[bytes]) -> None:
        write_gguf_adapter(file, layout.architecture, shapes, values)

    with _in_memory(write) as path:
        forget_words()
        found = lib.llama_adapter_lora_init(model, os.fsencode(path))
    if not found:
        raise EngineError(f"llama.cpp can't take the adapter.{last_words()}")
    return found


def free_adapter(lib: Any, adapter: Any) -> None:
    """Give up an adapter that no context computes with."""
    lib.llama_adapter_lora_free(adapter)


@contextmanager
def _in_memory(write: Callable[[IO[bytes]], None]) -> Iterator[Path]:
    """Yield the path of a file that ends with the block."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with os.fdopen(os.memfd_create("adapter.gguf"), "wb") as file:
            write(file)
            file.flush()
            yield Path(f"/proc/self/fd/{file.fileno()}")
        return
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        write(file.file)
        file.flush()
        yield Path(file.name)

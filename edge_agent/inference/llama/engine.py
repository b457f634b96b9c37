"""A GGUF file in llama.cpp, mapped and shared by all sessions."""

import os
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edge_agent.inference.contract import Adapter, Array, Factors
from edge_agent.inference.errors import EngineError
from edge_agent.inference.llama.adapters import Layout, free_adapter, load_adapter
from edge_agent.inference.llama.context import Context
from edge_agent.inference.llama.cores import LlamaCores
from edge_agent.inference.llama.library import (
    forget_words,
    last_words,
    library,
    model_settings,
)
from edge_agent.inference.llama.rows import outputs_of
from edge_agent.inference.llama.session import LlamaSession
from wire.errors import WireError
from wire.gguf_header import read_header
from wire.model_file import config_of, weight_files

#: Tokens that are computed at a time: buffers grow with it, and no more is faster on small CPUs.
PIECE = 128


class LlamaEngine:
    """See `edge_agent.inference.contract.Engine`.

    Args:
        model: a GGUF file, or a folder with one.
        threads: for computing.
        repack: whether llama.cpp may copy weights into an order that the CPU likes better: faster,
            for another copy of a Q4_0 file in memory.
        piece: tokens that are computed at a time.

    Raises:
        EngineError: llama.cpp isn't installed, or refuses the file.
    """

    def __init__(
        self, model: Path, *, threads: int = 1, repack: bool = False, piece: int = PIECE
    ) -> None:
        self._model: Any = None
        self._lib = lib = library()
        self._threads, self._piece = threads, piece
        self._sessions: set[LlamaSession | LlamaCores] = set()
        # llama.cpp notes a model's adapters in a set that it doesn't guard.
        self._adapters = threading.Lock()
        try:
            files = weight_files(model)
            if files[0].suffix != ".gguf":
                raise EngineError(
                    f"{model} holds no GGUF file, and llama.cpp reads no other. Export one: "
                    "lorikeet-hub adapter export JOB --format gguf"
                )
            architecture = str(read_header(files[0]).metadata.get("general.architecture"))
            self._layout = Layout(architecture, config_of(files[0]))
        except (WireError, OSError) as error:
            raise EngineError(f"llama.cpp can't serve {model}: {error}") from error
        forget_words()
        self._model = lib.llama_model_load_from_file(
            os.fsencode(files[0]), model_settings(lib, repack=repack)
        )
        if not self._model:
            raise EngineError(f"llama.cpp can't load {files[0]}.{last_words()}")
        self._vocabulary = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model)))

    @property
    def name(self) -> str:
        return "llama.cpp"

    @property
    def vocabulary(self) -> int:
        return self._vocabulary

    def open(self, adapter: Adapter | None, *, slots: int, context: int) -> LlamaSession:
        """Return a session; with 0 slots it takes losses alone, and holds no other memory."""
        loaded = None
        if adapter is not None:
            self._layout.check(adapter)
            if any(len(one.a) for one in adapter.factors.values()):
                loaded = self._load(adapter.factors)

        def closed(session: LlamaSession) -> None:
            self._sessions.discard(session)
            if loaded is not None:
                self._free(loaded)

        try:
            session = LlamaSession(
                # Of the adapter only the prompt: its factors are llama.cpp's now.
                partial(self._context, loaded, None if adapter is None else adapter.prompt),
                slots=slots,
                context=context,
                closed=closed,
            )
        except BaseException:
            if loaded is not None:
                self._free(loaded)
            raise
        self._sessions.add(session)
        return session

    def open_cores(self, adapter: Adapter, rank: int, *, context: int) -> LlamaCores:
        self._layout.check(adapter)
        session = LlamaCores(
            partial(self._context, None, adapter.prompt, sequences=1, positions=context, rows=True),
            adapter,
            rank,
            context=context,
            load=self._load,
            free=self._free,
            closed=self._sessions.discard,
        )
        self._sessions.add(session)
        return session

    def close(self) -> None:
        for session in list(self._sessions):
            session.close()
        if self._model:
            self._lib.llama_model_free(self._model)
            self._model = None

    def _load(self, factors: Mapping[str, Factors]) -> Any:
        with self._adapters:
            return load_adapter(self._lib, self._model, self._layout, factors)

    def _free(self, loaded: Any) -> None:
        with self._adapters:
            free_adapter(self._lib, loaded)

    def _context(
        self, loaded: Any, prompt: Array | None, *, sequences: int, positions: int, rows: bool
    ) -> Context:
        if not self._model:
            raise EngineError("the engine is closed.")
        piece = self._piece
        return Context(
            self._lib,
            self._model,
            hidden_size=self._layout.hidden_size,
            vocabulary=self._vocabulary,
            adapter=loaded,
            prompt=None if prompt is None else self._layout.embeddings(prompt),
            sequences=sequences,
            positions=positions,
            piece=piece,
            outputs=outputs_of(self._vocabulary, piece) if rows else max(1, sequences),
            threads=self._threads,
        )

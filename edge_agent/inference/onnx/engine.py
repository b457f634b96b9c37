"""The engine for devices where nothing can be compiled: ONNX Runtime, on the CPU."""

from pathlib import Path

from edge_agent.inference.contract import Adapter
from edge_agent.inference.onnx.cores import OnnxCoreSession
from edge_agent.inference.onnx.model import OnnxModel
from edge_agent.inference.onnx.session import OnnxSession


class OnnxEngine:
    """See `edge_agent.inference.contract.Engine`.

    Args:
        path: of a base's graph, as ``lorikeet-hub adapter export --format onnx`` writes it, with
            the file of its weights beside it.
        threads: that compute.

    Attributes:
        base: sha256 of the base's manifest.

    Raises:
        EngineError: ONNX Runtime isn't installed or refuses the file, or it is another graph.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        self._model = OnnxModel(path, threads)
        self.base = self._model.base

    @property
    def vocabulary(self) -> int:
        """How many logits there are."""
        return self._model.sizes.vocabulary

    def open(self, adapter: Adapter | None, *, slots: int, context: int) -> OnnxSession:
        """Return a session on an adapter, None for the bare base."""
        return OnnxSession(self._model, adapter, slots=slots, context=context)

    def open_cores(self, adapter: Adapter, rank: int, *, context: int) -> OnnxCoreSession:
        """Return a session whose cores of side ``rank`` can be moved."""
        return OnnxCoreSession(self._model, adapter, rank, context=context)

    def close(self) -> None:
        """Give up the model; all its sessions fail from then on."""
        self._model.close()

"""An engine for a base, chosen by the file that holds it."""

from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.inference.contract import Engine
from edge_agent.runtimes import LLAMA, ONNX


def import_engine(runtime: str) -> None:
    """Import an engine's library, and what turns text into rows.

    Args:
        runtime: of `edge_agent.runtimes`.

    Raises:
        EngineError: it isn't installed, or can't be loaded.
    """
    import tokenizers  # noqa: F401 - so that what it weighs is measured

    if runtime == LLAMA:
        from edge_agent.inference.llama.library import library

        library()
    elif runtime == ONNX:
        import onnxruntime  # noqa: F401


def open_engine(folder: Path, threads: int) -> Engine:
    """Return an engine on a base.

    Args:
        folder: of a base, or of what was derived of it.
        threads: for computing.

    Raises:
        EngineError: the engine isn't installed, or refuses the file.
        ModelError: no engine reads the folder's files.
    """
    if any(folder.glob("*.gguf")):
        from edge_agent.inference.llama.engine import LlamaEngine

        return LlamaEngine(folder, threads=threads)
    graphs = sorted(folder.glob("*.onnx"))
    if graphs:
        from edge_agent.inference.onnx.engine import OnnxEngine

        return OnnxEngine(graphs[0], threads=threads)
    raise ModelError(
        f"{folder} holds no file that an engine here reads: neither GGUF nor ONNX. Is "
        "models.derived set at the hub?"
    )

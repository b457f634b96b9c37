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


def open_engine(
    model: Path, threads: int, *, runtime: str | None = None, repack: bool = False
) -> Engine:
    """Return an engine on a base.

    Args:
        model: folder or file of a base, or of what was derived of it.
        threads: for computing.
        runtime: the only engine that will do; None for the one that reads the file.
        repack: whether llama.cpp may hold weights twice, which is faster.

    Raises:
        EngineError: the engine isn't installed, or refuses the file.
        ModelError: no engine reads the folder's files.
    """
    gguf = model.suffix == ".gguf" or any(model.glob("*.gguf"))
    if gguf and runtime in (None, LLAMA):
        from edge_agent.inference.llama.engine import LlamaEngine

        return LlamaEngine(model, threads=threads, repack=repack)
    graphs = [model] if model.suffix == ".onnx" else sorted(model.glob("*.onnx"))
    if graphs and runtime in (None, ONNX):
        from edge_agent.inference.onnx.engine import OnnxEngine

        return OnnxEngine(graphs[0], threads=threads)
    raise ModelError(
        f"{model} holds no file that {runtime or 'an engine here'} reads: neither GGUF nor ONNX. "
        "Is models.derived set at the hub?"
    )

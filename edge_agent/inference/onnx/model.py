"""A base's graph in ONNX Runtime: what it takes, and one run of it.

`hub/export/onnx/decoder.py` says what inputs and outputs mean. Weights are mapped from the file
beside the graph; those of 4 bits are copied once, into the order that the kernels want.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.contract import Adapter
from edge_agent.inference.errors import EngineError
from wire.derived import BASE_KEY

Array = NDArray[np.float32]

_LONG = "rope_length"
#: Both would hold float16 weights in float32, from the start to the end.
_LEFT_OUT = ["ConstantFolding", "FuseFp16InitializerToFp32NodeTransformer"]
_ERRORS_ONLY = 3
#: In a graph with products of 4-bit matrices, as its bytes spell them.
_QUANTISED = b"MatMulNBits"


class Sizes(NamedTuple):
    """What a graph's inputs and outputs tell of its model."""

    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocabulary: int


class Pass(NamedTuple):
    """What a run gives.

    Attributes:
        logits: (places, vocabulary).
        new: keys and values of the positions that were read, by layer, each (batch, kv_heads,
            positions, size); empty if they weren't asked for.
    """

    logits: Array
    new: list[tuple[Array, Array]]


class OnnxModel:
    """A base.

    Args:
        path: of the graph.
        threads: that compute.

    Attributes:
        base: sha256 of the base's manifest.
        sizes: of the model.
        long: whether angles depend on how long a text will be (LongRoPE).

    Raises:
        EngineError: ONNX Runtime isn't installed or refuses the file, or it is another graph.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._session: Any = _opened(path, threads)
        inputs = {one.name: one.shape for one in self._session.get_inputs()}
        inputs |= {one.name: one.shape for one in self._session.get_overridable_initializers()}
        outputs = {one.name: one.shape for one in self._session.get_outputs()}
        try:
            _, kv_heads, _, head_dim = inputs["past.0.key"]
            vocabulary, hidden = outputs["logits"][1], inputs["prompt"][1]
            layers = sum(name.startswith("past.") for name in inputs) // 2
            metadata = self._session.get_modelmeta().custom_metadata_map
            self.base: str = metadata[BASE_KEY]
        except (KeyError, ValueError) as error:
            raise EngineError(
                f"{path} is no base that `lorikeet-hub adapter export --format onnx` wrote."
            ) from error
        self.sizes = Sizes(layers, kv_heads, head_dim, hidden, vocabulary)
        self._factors = {name: shape for name, shape in inputs.items() if ".lora_" in name}
        self.long = _LONG in inputs
        self._outputs = [f"new.{at}.{kind}" for at in range(layers) for kind in ("key", "value")]

    def factors(self, adapter: Adapter | None) -> dict[str, Any]:
        """Return an adapter's factors as inputs of runs.

        Raises:
            EngineError: they don't fit the base.
        """
        found = {}
        for target, factors in ({} if adapter is None else adapter.factors).items():
            for kind, values in (("A", factors.a), ("B", factors.b)):
                name = f"{target}.lora_{kind}"
                self._check(name, values.shape, factors.a.shape[0])
                found[name] = as_input(values)
        return found

    def prompt(self, adapter: Adapter | None) -> Array | None:
        """Return an adapter's soft prompt, (tokens, hidden), None if it has none.

        Raises:
            EngineError: it doesn't fit the base.
        """
        prompt = None if adapter is None else adapter.prompt
        if prompt is None or len(prompt) == 0:
            return None
        if prompt.ndim != 2 or prompt.shape[1] != self.sizes.hidden:
            raise EngineError(
                f"the soft prompt has the shape {list(prompt.shape)}; the base's embeddings have "
                f"{self.sizes.hidden} numbers. Was it trained on another base?"
            )
        return prompt

    def run(
        self,
        tokens: NDArray[np.int64],
        lengths: Sequence[int],
        past: Sequence[tuple[Array, Array]],
        factors: Mapping[str, Any],
        *,
        places: Sequence[int],
        whole: int,
        prompt: Array | None = None,
        keep: bool = True,
    ) -> Pass:
        """Run the graph once.

        Args:
            tokens: (batch, tokens).
            lengths: positions before each row.
            past: their keys and values by layer, each (batch, kv_heads, room, size).
            factors: of `factors`.
            places: of which positions logits are wanted, counted over all rows.
            whole: positions that the text will have in the end.
            prompt: (front, hidden), in front of rows that have no past.
            keep: whether keys and values are wanted.

        Raises:
            EngineError: ONNX Runtime fails.
        """
        if self._session is None:
            raise EngineError("the engine is closed. Open it again.")
        feeds = {
            "input_ids": as_input(tokens),
            "past_lengths": as_input(np.array(lengths, dtype=np.int64)),
            "places": as_input(np.array(places, dtype=np.int64)),
            **factors,
        }
        if prompt is not None:
            feeds["prompt"] = as_input(prompt)
        if self.long:
            feeds[_LONG] = as_input(np.array(whole, dtype=np.int64))
        for at, (key, value) in enumerate(past):
            feeds[f"past.{at}.key"], feeds[f"past.{at}.value"] = as_input(key), as_input(value)
        wanted = ["logits", *(self._outputs if keep else [])]
        try:
            logits, *new = (one.numpy() for one in self._session.run_with_ort_values(wanted, feeds))
        except Exception as error:  # its classes have no ancestor of their own
            raise EngineError(f"ONNX Runtime failed: {error}") from error
        return Pass(logits, list(zip(new[::2], new[1::2], strict=True)))

    def close(self) -> None:
        """Give up the model."""
        self._session = None

    def _check(self, name: str, shape: tuple[int, ...], rank: int) -> None:
        known = self._factors.get(name)
        if known is None:
            raise EngineError(
                f"the adapter changes {name.rpartition('.')[0]}, which is no linear layer of the "
                "base. Was it trained on another one?"
            )
        expected = tuple(rank if isinstance(size, str) else size for size in known)
        if shape != expected:
            raise EngineError(
                f"{name} has the shape {list(shape)}; the base takes {list(expected)}. Was the "
                "adapter trained on another one?"
            )


def as_input(values: NDArray[Any]) -> Any:
    """Return an array as a run's input; one that is contiguous is not copied."""
    from onnxruntime import OrtValue

    kind = np.int64 if values.dtype.kind == "i" else np.float32
    return OrtValue.ortvalue_from_numpy(np.asarray(values, dtype=kind, order="C"))


def _opened(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            "ONNX Runtime isn't installed. Install it: pip install 'lorikeet[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    # An arena keeps what the longest text took; so would buffers planned for one length.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # Threads that wait don't spin: others need the cores, and a battery its charge.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        if _QUANTISED not in path.read_bytes():
            # Floating point matrices are used where the file is mapped.
            options.add_session_config_entry("session.disable_prepacking", "1")
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_LEFT_OUT
        )
    except OSError as error:
        raise EngineError(f"{path} can't be read: {error.strerror}.") from error
    except Exception as error:  # its classes have no ancestor of their own
        raise EngineError(
            f"ONNX Runtime can't load {path}: {error}. Export it again, with the .data file "
            "beside it."
        ) from error

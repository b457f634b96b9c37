"""A language model of transformers without its weights: its code, and where things stand in it.

Imported late and only for families without blocks of our own: transformers costs 120 MB.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from edge_agent.errors import ModelError
from edge_agent.training.errors import is_out_of_memory

#: Numbers in a block's tensor that is no linear layer's, and in all tensors outside the blocks
#: but embedding and head: those stay in memory.
_MOST_IN_BLOCK, _MOST_OUTSIDE = 2**18, 2**25
#: Settings of whoever trained the model: where its code is, and how it was run.
_DROPPED = ("attn_implementation", "auto_map", "output_attentions", "output_hidden_states")


@dataclass(frozen=True)
class Layer:
    """One linear layer of a block.

    Attributes:
        module: of transformers.
        out: how many numbers come out of it.
        inputs: how many go in.
        flipped: whether its matrix is stored as (in, out).
    """

    module: Any
    out: int
    inputs: int
    flipped: bool


@dataclass(frozen=True)
class Skeleton:
    """A model whose parameters have shapes and types, but no values.

    Attributes:
        model: of transformers, for causal language modelling; in evaluation mode.
        root: module path of the list of blocks.
        blocks: in order.
        layers: every linear layer in them by module path, in the model's own order.
        embedding: module path of the token embedding.
        head: module path of the last matrix.
    """

    model: Any
    root: str
    blocks: list[nn.Module]
    layers: dict[str, Layer]
    embedding: str
    head: str

    def kept(self) -> dict[str, torch.Tensor]:
        """Return what is to be in memory, by name: all that is saved but the matrices."""
        read = {f"{path}.weight" for path in (*self.layers, self.embedding, self.head)}
        return {name: value for name, value in self.model.state_dict().items() if name not in read}


def build(config: Mapping[str, Any], dtype: torch.dtype) -> Skeleton:
    """Build a model from its configuration alone; code that comes with a model is never run.

    Args:
        config: the parsed ``config.json``.
        dtype: of weights and activations.

    Raises:
        ModelError: it is no model that can be gone through block by block.
    """
    family = config.get("model_type")
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        own = " Code that comes with a model is never run." if "auto_map" in config else ""
        raise ModelError(f"model_type is {family!r}, which transformers doesn't know.{own}")
    model = _model(config, family, dtype)
    root, blocks = _blocks(model, family)
    layers = dict(_layers(root, blocks))
    paths = {id(module): path for path, module in model.named_modules()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, nn.Embedding) or embedding.max_norm is not None:
        raise ModelError(f"{family} has no plain embedding of tokens.")
    last = _layer(head)
    if last is None or last.flipped:
        raise ModelError(f"{family} has no linear layer as its head.")
    embedding.padding_idx = None  # of a table of its own for each batch
    made = Skeleton(model, root, blocks, layers, paths[id(embedding)], paths[id(head)])
    _check_kept(made, family)
    return made


def renaming(model: Any) -> Callable[[str], str]:
    """Return what transformers does to a name in a file, which may be older than a model's code.

    Args:
        model: of transformers.
    """
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming
    except ImportError:  # before transformers 5, code kept the files' names
        return lambda name: name
    changes = [
        change
        for change in get_model_conversion_mapping(model)
        if isinstance(change, WeightRenaming)
    ]

    def renamed(name: str) -> str:
        for change in changes:
            name, _ = change.rename_source_key(name)
        return name

    return renamed


def _model(config: Mapping[str, Any], family: str, dtype: torch.dtype) -> Any:
    settings = {
        key: _number(value)
        for key, value in config.items()
        if key not in _DROPPED and not key.startswith("_")
    }
    try:
        made = CONFIG_MAPPING[family].from_dict(settings)
        if getattr(made, "is_encoder_decoder", False):
            raise ModelError(f"{family} is an encoder-decoder model; only decoders are known.")
        if made.get_text_config(decoder=True) is not made:
            raise ModelError(
                f"{family} has more than a text model in it. Export the text model on its own."
            )
        with _weightless():
            model = AutoModelForCausalLM.from_config(made, dtype=dtype, trust_remote_code=False)
    except ModelError:
        raise
    except Exception as error:
        # transformers raises whatever a broken configuration leads to.
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"transformers can't build a {family} from this config.json "
            f"({type(error).__name__}: {str(error)[:300]})."
        ) from error
    model.requires_grad_(False)
    return model.eval()


def _number(value: Any) -> Any:
    """Return a value of ``config.json`` with its infinite numbers, for which JSON has no word."""
    if isinstance(value, list):
        return [_number(part) for part in value]
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        return {key: _number(part) for key, part in value.items()}
    return value


@contextmanager
def _weightless() -> Iterator[None]:
    """Let modules register parameters without values; what they compute themselves is kept.

    With ``torch.device("meta")`` the tables of rotary embeddings would have no values either.
    """
    register = nn.Module.register_parameter

    def registered(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.detach().to("meta"), requires_grad=False)
        register(module, name, param)

    nn.Module.register_parameter = registered  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _blocks(model: Any, family: str) -> tuple[str, list[nn.Module]]:
    count = getattr(model.config, "num_hidden_layers", None)
    lists = [
        (path, list(module))
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if len(lists) != 1:
        raise ModelError(
            f"{family} has {len(lists)} lists of {count} modules; one list of blocks is needed."
        )
    root, blocks = lists[0]
    kinds = sorted({type(block).__name__ for block in blocks})
    if len(kinds) > 1 or len({id(block) for block in blocks}) < len(blocks):
        raise ModelError(f"the blocks of {family} aren't uniform: {', '.join(kinds)}.")
    return root, blocks


def _layers(root: str, blocks: list[nn.Module]) -> Iterator[tuple[str, Layer]]:
    for index, block in enumerate(blocks):
        for name, module in block.named_modules(prefix=f"{root}.{index}"):
            if isinstance(module, (nn.Linear, Conv1D)):
                layer = _layer(module)
                if layer is None:
                    raise ModelError(f"{name} computes more than a linear layer does.")
                yield name, layer


def _layer(module: Any) -> Layer | None:
    """Return what a module is as a linear layer; None if it isn't one."""
    if type(module) is Conv1D:  # of GPT-2
        return Layer(module, module.weight.shape[1], module.weight.shape[0], flipped=True)
    if not isinstance(module, nn.Linear) or not _is_plain(type(module)):
        return None
    return Layer(module, module.out_features, module.in_features, flipped=False)


def _is_plain(kind: type[nn.Linear]) -> bool:
    """Return whether a class computes what ``nn.Linear`` does; one of its own is tried."""
    if kind.forward is nn.Linear.forward:
        return True
    plain, x = nn.Linear(3, 2), torch.randn(4, 3)
    try:
        return torch.allclose(kind.forward(plain, x), plain(x), atol=1e-5)
    except (AttributeError, RuntimeError, TypeError):
        return False


def _check_kept(made: Skeleton, family: str) -> None:
    """Check that what stays in memory is small."""
    outside = 0
    for name, value in made.kept().items():
        if not name.startswith(f"{made.root}."):
            outside += value.numel()
        elif value.ndim > 2 or value.numel() > _MOST_IN_BLOCK:
            raise ModelError(
                f"{name} of {family}, {tuple(value.shape)}, belongs to no linear layer. Mixtures "
                "of experts, state-space models and convolutions can't be trained here."
            )
    if outside > _MOST_OUTSIDE:
        raise ModelError(
            f"{family} has {outside} numbers outside its blocks, embedding and head aside; at most "
            f"{_MOST_OUTSIDE} can be kept in memory."
        )

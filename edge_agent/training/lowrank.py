"""Low-rank factors beside frozen linear layers, as PEFT layers.

``y = W x + Σ B_a (A_a x)`` over the adapters ``a`` of a layer, the scale being 1 throughout
(``lora_alpha`` = r). LoRA: Hu et al., 2021, arXiv 2106.09685.
"""

from collections.abc import Mapping
from typing import Any

import peft
import torch
from peft.tuners.lora import Linear
from torch import nn

#: The two PEFT adapters of a device: what it trains, and the rest, which stays as it is.
TRAINED, REST = "trained", "rest"


class LowRankLinear(Linear):  # type: ignore[misc]  # PEFT has no complete annotations
    """PEFT's LoRA layer, adding each product to the output in place.

    PEFT's own forward makes three more tensors of the output's size for every adapter. Autograd
    needs none of them, and they would set the peak of small devices.

    Attributes:
        off: leave out everything (the base alone is wanted).
        alone: leave out the rest.
        core: (rank, rank) between the trained adapter's factors, or None.
    """

    off = False
    alone = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, (..., in) to (..., out)."""
        result: torch.Tensor = self.base_layer(x)
        if self.off:
            return result
        flat = result.view(-1, result.shape[-1])
        for name in (TRAINED,) if self.alone else (TRAINED, REST):
            if name in self.lora_A:
                down = self.lora_A[name].weight.to(x.dtype)
                up = self.lora_B[name].weight.to(x.dtype)
                inner = nn.functional.linear(x, down)  # (..., r)
                if name == TRAINED and self.core is not None:
                    inner = nn.functional.linear(inner, self.core.to(x.dtype))
                flat.addmm_(inner.view(-1, inner.shape[-1]), up.T)
        return result


def inject(model: Any, adapter: str, ranks: Mapping[str, int]) -> None:
    """Put one adapter beside each target, frozen, its values yet to be set.

    Args:
        model: of transformers.
        adapter: its name.
        ranks: by target.
    """
    config = peft.LoraConfig(
        r=1,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(ranks),
        rank_pattern=dict(ranks),
    )
    # PEFT's documented way to bring a layer of one's own (its guide "Custom models").
    config._register_custom_module({nn.Linear: LowRankLinear})
    peft.inject_adapter_in_model(config, model, adapter)
    # PEFT takes a later adapter for a mistake where it finds its mark; here `remove` clears up.
    del model.peft_config
    found = layers(model)
    for layer in (found[target] for target in ranks):
        if adapter == TRAINED:
            layer.register_parameter("core", None)
        layer.requires_grad_(False)
        # PEFT gives new factors the base's type; what is trained stays in float32.
        layer.lora_A[adapter].float()
        layer.lora_B[adapter].float()


def set_core(layer: LowRankLinear, core: torch.Tensor) -> nn.Parameter:
    """Put a core between the factors of the trained adapter; return it."""
    layer.core = parameter = nn.Parameter(core)
    return parameter


def layers(model: Any) -> dict[str, LowRankLinear]:
    """Return the adapted layers by module path."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, LowRankLinear)
    }


def remove(model: Any) -> None:
    """Take every adapter out again; what is left is the base model itself."""
    for name, layer in layers(model).items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.base_layer)


def factors(found: Mapping[str, LowRankLinear], adapter: str) -> dict[str, nn.Parameter]:
    """Return one adapter's factors by their names on the wire."""
    named: dict[str, nn.Parameter] = {}
    for path, layer in found.items():
        if adapter not in layer.lora_A:
            continue
        named[f"{path}.lora_A"] = layer.lora_A[adapter].weight  # (rank, in)
        named[f"{path}.lora_B"] = layer.lora_B[adapter].weight  # (out, rank)
    return named

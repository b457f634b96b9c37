"""One decoder block of the known families, its matrices read from the file as they are used."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from edge_agent.training.blockwise.attention import attend
from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.linear import Linear, Slot
from edge_agent.training.blockwise.operations import gated, gated_halves, rms_norm
from edge_agent.training.blockwise.rope import Rope, rotated
from edge_agent.training.blockwise.spec import Spec


@dataclass(frozen=True)
class Prefix:
    """A block's trained keys and values in front of all positions (Li and Liang, 2021).

    Attributes:
        key: (kv_heads, tokens, size) float32.
        value: as key.
    """

    key: torch.Tensor
    value: torch.Tensor


class Block:
    """A block; only its norms and biases stay in memory.

    Args:
        index: which one.
        spec: of the model.
        weights: the base's file.
        rope: shared by all blocks.
        slots: what the adapter has, by module path.
        device: where the arithmetic is done.
    """

    def __init__(
        self,
        index: int,
        spec: Spec,
        weights: Weights,
        rope: Rope,
        slots: Mapping[str, Slot],
        *,
        device: torch.device,
    ) -> None:
        self.spec = spec
        self.prefix: Prefix | None = None
        self._window = spec.windows[index]
        self._rope = rope
        self._root = f"model.layers.{index}"
        self._weights = weights
        self._slots = slots
        names = ["input_layernorm", "post_attention_layernorm"]
        if spec.sandwich:
            names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        if spec.head_norms:
            names += ["self_attn.q_norm", "self_attn.k_norm"]
        self._norms = {
            name: weights.vector(f"{self._root}.{name}.weight").add_(spec.norm_offset).to(device)
            for name in names
        }
        self._biases = {
            name: weights.vector(name).to(device, weights.dtype)
            for name in weights.shapes
            if name.startswith(f"{self._root}.") and name.endswith(".bias")
        }

    def names(self) -> list[str]:
        """Return the matrices in the order of their use."""
        if self.spec.fused:
            inner = ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"]
        else:
            inner = [f"self_attn.{kind}_proj" for kind in "qkvo"]
            inner += [f"mlp.{kind}_proj" for kind in ("gate", "up", "down")]
        return [f"{self._root}.{name}.weight" for name in inner]

    def __call__(
        self, x: torch.Tensor, rows: int, *, needed: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the block's output as two summands, each (rows * tokens, hidden).

        Args:
            x: (rows * tokens, hidden).
            rows: sequences in x.
            needed: False where only gradients are wanted: the last matrix product, on whose
                values no gradient depends, is left out.
        """
        middle = x + self._attention(self._norm(x, "input_layernorm"), rows)
        if not self.spec.sandwich:
            inner = self._norm(middle, "post_attention_layernorm")
            return middle, self._mlp(inner, needed=needed)
        # The norm behind the MLP needs the product's values in any case.
        inner = self._norm(middle, "pre_feedforward_layernorm")
        return middle, self._norm(self._mlp(inner, needed=True), "post_feedforward_layernorm")

    def _attention(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        spec = self.spec
        q, k, v = self._projected(x)
        size = spec.head_dim
        q = q.reshape(rows, -1, spec.heads, size).transpose(1, 2)  # (rows, heads, tokens, size)
        k = k.reshape(rows, -1, spec.kv_heads, size).transpose(1, 2)
        v = v.reshape(rows, -1, spec.kv_heads, size).transpose(1, 2)
        if spec.head_norms:
            q, k = self._norm(q, "self_attn.q_norm"), self._norm(k, "self_attn.k_norm")
        # Positions are counted from the prefix's first, as PEFT does.
        front = 0 if self.prefix is None else self.prefix.key.shape[1]
        turns = self._rope(front + q.shape[2], q.dtype, q.device)
        cosines, sines = (part[front:] for part in turns)
        q, k = rotated(q, cosines, sines), rotated(k, cosines, sines)
        if self.prefix is not None:
            k = torch.cat([self.prefix.key.to(k).expand(rows, -1, -1, -1), k], dim=2)
            v = torch.cat([self.prefix.value.to(v).expand(rows, -1, -1, -1), v], dim=2)
        gathered = attend(
            q, k, v,
            scale=spec.score_scale, window=self._window, cap=spec.score_cap, prefix=front,
        )  # fmt: skip
        flat = gathered.transpose(1, 2).reshape(len(x), -1)
        result = self._linear("self_attn.o_proj", spec.hidden)(flat)
        return self._norm(result, "post_attention_layernorm") if spec.sandwich else result

    def _projected(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        spec = self.spec
        queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        if spec.fused:
            both = self._linear("self_attn.qkv_proj", queries + 2 * keys)(x)
            return both[:, :queries], both[:, queries:-keys], both[:, -keys:]
        return (
            self._linear("self_attn.q_proj", queries)(x),
            self._linear("self_attn.k_proj", keys)(x),
            self._linear("self_attn.v_proj", keys)(x),
        )

    def _mlp(self, x: torch.Tensor, *, needed: bool) -> torch.Tensor:
        spec = self.spec
        if spec.fused:
            both = self._linear("mlp.gate_up_proj", 2 * spec.mlp)(x)
            product = gated_halves(both, spec.activation)
            del both
        else:
            gate = self._linear("mlp.gate_proj", spec.mlp)(x)
            up = self._linear("mlp.up_proj", spec.mlp)(x)
            product = gated(gate, up, spec.activation)
            del gate, up
        return self._linear("mlp.down_proj", spec.hidden)(product, needed=needed)

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return rms_norm(x, self._norms[name], self.spec.eps)

    def _linear(self, name: str, out: int) -> Linear:
        path = f"{self._root}.{name}"
        bias = self._biases.get(f"{path}.bias")
        return Linear(self._weights, path, out, bias, self._slots.get(path, _NOTHING))


_NOTHING = Slot()

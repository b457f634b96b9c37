"""The counts that a model's shape and a line's knobs give: matrices, factors, positions."""

from dataclasses import dataclass
from typing import Protocol

from wire.messages import JobKnobs, ModelShape
from wire.shape import linear_shapes

FLOAT_BYTES = 4


class _Batched(Protocol):
    """A step's batch, and in how many parts it goes through the model."""

    @property
    def batch(self) -> int: ...

    @property
    def accumulate(self) -> int: ...


def rows_at_a_time(step: _Batched) -> int:
    """Return how many sequences of a step are in memory at a time."""
    return -(-step.batch // step.accumulate)


@dataclass(frozen=True)
class Sizes:
    """The knobs of one line."""

    rank: int
    batch: int
    seq_len: int
    accumulate: int = 1

    @property
    def rows(self) -> int:
        """Sequences that are in memory at a time."""
        return rows_at_a_time(self)


@dataclass(frozen=True)
class Case:
    """One line of the ladder, before it is known what it needs.

    Attributes:
        shape: the base model.
        knobs: of the job.
        sizes: what of them is left on this line.
        compute_bytes: of a number in memory, 2 for bfloat16 and 4 for float32.
        local: without a hub: the adapter has only what is trained of it.
    """

    shape: ModelShape
    knobs: JobKnobs
    sizes: Sizes
    compute_bytes: int
    local: bool = False

    @property
    def queries(self) -> int:
        """Width of all heads' queries together."""
        return self.shape.heads * self.shape.head_dim

    @property
    def keys(self) -> int:
        """Width of all keys together; as wide are the values."""
        return self.shape.kv_heads * self.shape.head_dim

    @property
    def positions(self) -> int:
        """Rows times their length, a soft prompt in front included: N of the formulas."""
        return self.sizes.rows * self.row

    @property
    def passes(self) -> int:
        """How often a step goes through the model, both ways."""
        each = 2 if self.knobs.adversarial else 1
        return -(-self.sizes.batch // self.sizes.rows) * each

    @property
    def moved(self) -> int:
        """Bytes of a batch's embeddings as they are and as an adversary moves them."""
        if not self.knobs.adversarial:
            return 0
        return 2 * self.positions * self.shape.hidden_size * self.compute_bytes

    @property
    def moments(self) -> int:
        """Numbers that optimiser and strategy keep for each number that is trained."""
        if self.knobs.optimizer == "sgd":
            return self.knobs.kept + (1 if self.knobs.momentum else 0)
        return self.knobs.kept + 2  # AdamW's, and as many for one that is not known yet

    @property
    def prompt_numbers(self) -> int:
        """Numbers in the soft prompt, or in the prefix."""
        width = 2 * self.shape.layers * self.keys if self.knobs.prefix else self.shape.hidden_size
        return self.knobs.prompt_tokens * width

    @property
    def row(self) -> int:
        """Length of one sequence behind its soft prompt."""
        return self.sizes.seq_len + self.knobs.prompt_tokens

    @property
    def predicted(self) -> int:
        """Positions that a loss is taken on at a time."""
        return self.sizes.rows * (self.sizes.seq_len - 1)

    @property
    def adapter_rank(self) -> int:
        """Rank of the adapter: all that a hub has published is in place on every rung."""
        if self.knobs.method in ("prompt", "full"):
            return 0
        return self.sizes.rank if self.local else self.knobs.rank

    def factors(self, rank: int) -> int:
        """Return the numbers in the LoRA factors of all linear layers of the blocks."""
        return self.shape.layers * rank * sum(out + inp for out, inp in self.linears)

    def trained_factors(self, rank: int) -> int:
        """Return the numbers in those of them that are trained: of both A and B, or of one."""
        out = sum(wide for wide, _ in self.linears)
        inputs = sum(wide for _, wide in self.linears)
        wide = {"a": inputs, "b": out, "either": max(out, inputs)}
        return self.shape.layers * rank * wide.get(self.knobs.trains, out + inputs)

    @property
    def full(self) -> bool:
        """Whether all weights are trained, in float32."""
        return self.knobs.method == "full"

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(out, in) of the linear layers of a block."""
        return linear_shapes(self.shape)

    @property
    def block_parameters(self) -> int:
        """Numbers in the matrices of a block."""
        return sum(out * inp for out, inp in self.linears)


def stored_bytes(shape: ModelShape) -> int:
    """Return the bytes of all tensors in the model's file."""
    return shape.stored_bytes or shape.parameters * shape.weight_bytes


def stored_per_parameter(shape: ModelShape) -> float:
    """Return the mean bytes of a parameter in the model's file."""
    return stored_bytes(shape) / shape.parameters

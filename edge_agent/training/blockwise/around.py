"""What a model of transformers computes around its blocks, by its own code.

Masks, positions, factors on embeddings and the last norm differ from family to family. So the
model's own forward runs once before the first block and once behind the last one, with stand-ins in
the blocks' places: they note what each block is given beside its input, and hand over the last
block's output.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.cheap import replaced
from edge_agent.training.blockwise.skeleton import Skeleton

#: What stands for a block: its index, its input, all that it is given, to what it returns.
StandIn = Callable[[int, torch.Tensor, "Given"], Any]


@dataclass(frozen=True)
class Given:
    """What a block is called with beside its input."""

    args: tuple[Any, ...]
    named: Mapping[str, Any]


class Around:
    """See `architecture.Ends`.

    Args:
        skeleton: all that `Skeleton.kept` names has values.
        rows: returns embeddings of some token ids, (n,) to (n, width).
        device: where the arithmetic is done.
        returned: how many things blocks return, the first one their output; 0 for that alone.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        rows: Callable[[torch.Tensor], torch.Tensor],
        device: torch.device,
        returned: int,
    ) -> None:
        self._model = skeleton.model
        self._blocks = skeleton.blocks
        self._embedding = skeleton.model.get_submodule(skeleton.embedding)
        self._head = skeleton.model.get_submodule(skeleton.head)
        self._rows = rows
        self._device = device
        self._returned = returned
        self.given: list[Given] = []  # to each block, by the last `enter`

    def enter(self, ids: torch.Tensor, prompt: torch.Tensor | None) -> torch.Tensor:
        """Return the first block's input, and note what every block is given."""
        embedded = self.embedded(ids)
        if prompt is not None:
            front = prompt.to(embedded).expand(len(ids), -1, -1)
            embedded = torch.cat([front, embedded], dim=1)
        given: list[Given] = []
        inputs: list[torch.Tensor] = []

        def note(index: int, x: torch.Tensor, beside: Given) -> Any:
            if index != len(given) or x is not (inputs[0] if inputs else x):
                raise ModelError("the model does more than going through its blocks in order.")
            inputs.append(x)
            given.append(beside)
            return self._as_returned(x)

        self.run(note, inputs_embeds=embedded)
        self.given = given
        return inputs[0].reshape(-1, inputs[0].shape[-1])

    def leave(self, x: torch.Tensor, rows: int, places: torch.Tensor) -> torch.Tensor:
        """Return what the head takes, (n, width)."""
        whole = x.view(rows, -1, x.shape[-1])
        last = len(self._blocks) - 1

        def pass_on(index: int, before: torch.Tensor, _: Given) -> Any:
            return self._as_returned(whole if index == last else before)

        nothing = x.new_zeros(*whole.shape[:2], self._embedding.embedding_dim)
        states = self.run(pass_on, inputs_embeds=nothing)
        return states.reshape(-1, states.shape[-1])[places]

    def block(self, index: int, x: torch.Tensor, rows: int) -> torch.Tensor:
        """Return a block's output, given what `enter` noted; (rows * tokens, hidden) both."""
        given = self.given[index]
        found = self._blocks[index](x.view(rows, -1, x.shape[-1]), *given.args, **given.named)
        states: torch.Tensor = found[0] if isinstance(found, (tuple, list)) else found
        return states.reshape(x.shape)

    def embedded(self, ids: torch.Tensor) -> torch.Tensor:
        """Return embeddings by the model's own layer, which may scale them, (rows, tokens, width).

        Its table is made of the rows that are wanted.
        """
        table = self._rows(ids.reshape(-1)).to(self._device)
        places = torch.arange(len(table), device=self._device).view(ids.shape)
        with self.table(table):
            found: torch.Tensor = self._embedding(places)
        return found

    @contextmanager
    def table(self, rows: torch.Tensor) -> Iterator[None]:
        """Let some rows, (n, width), be the embedding's table for a while."""
        self._embedding.weight = nn.Parameter(rows, requires_grad=False)
        try:
            yield
        finally:
            # One row stays: transformers asks a model's first parameter for the device.
            self._embedding.weight = nn.Parameter(rows[:1].clone(), requires_grad=False)

    def run(self, stand_in: StandIn, **inputs: torch.Tensor) -> torch.Tensor:
        """Return what the head is given when the model runs with stand-ins for its blocks."""
        seen: list[torch.Tensor] = []

        def head(states: torch.Tensor) -> torch.Tensor:
            seen.append(states)
            return states[..., :1]  # logits that nobody wants

        with replaced(self._head, head), self._replaced_blocks(stand_in):
            self._model(**inputs, use_cache=False)
        if len(seen) != 1:
            raise ModelError(f"the model calls its head {len(seen)} times.")
        return seen[0]

    def logits(self, raw: torch.Tensor) -> torch.Tensor:
        """Return what the model makes of its head's output, (rows, tokens, any) both."""

        def pass_on(_: int, before: torch.Tensor, __: Given) -> Any:
            return self._as_returned(before)

        like = self._embedding.weight
        nothing = like.new_zeros(*raw.shape[:2], like.shape[1])
        with replaced(self._head, lambda _: raw), self._replaced_blocks(pass_on):
            found: torch.Tensor = self._model(inputs_embeds=nothing, use_cache=False).logits
        return found

    @contextmanager
    def _replaced_blocks(self, stand_in: StandIn) -> Iterator[None]:
        with ExitStack() as stack:
            for index, block in enumerate(self._blocks):
                stack.enter_context(replaced(block, partial(_called, stand_in, index)))
            yield

    def _as_returned(self, x: torch.Tensor) -> Any:
        return (x, *([None] * (self._returned - 1))) if self._returned else x


def _called(stand_in: StandIn, index: int, *args: Any, **named: Any) -> Any:
    """Take a block's input, wherever it stands, from what the block is called with."""
    if args:
        return stand_in(index, args[0], Given(args[1:], named))
    return stand_in(index, named.pop("hidden_states"), Given((), named))

"""Tries, when a model is opened, whether going through it block by block is what it does itself.

A few random embeddings go through the model's own forward and through the engine, both ways, with
cheap stand-ins for all matrices. So nothing of the file is read, and an architecture that the
engine would get wrong is refused before it is trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.around import Around, Given, StandIn
from edge_agent.training.blockwise.cheap import cheap_layers
from edge_agent.training.blockwise.generic_block import GenericBlock
from edge_agent.training.blockwise.operations import begin_backward
from edge_agent.training.blockwise.passes import Passes
from edge_agent.training.blockwise.skeleton import Skeleton
from edge_agent.training.errors import is_out_of_memory

_ROWS, _TOKENS, _POSITIONS, _IDS = 2, 6, 3, 8
#: The greatest difference that rounding explains, relative to the whole.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}


@dataclass(frozen=True)
class Form:
    """What a trial finds out.

    Attributes:
        returned: how many things blocks return, the first one their output; 0 for that alone.
        scale: factor on the head's output.
        cap: logits are capped softly at this, or None.
    """

    returned: int
    scale: float
    cap: float | None


def examine(skeleton: Skeleton, device: torch.device, dtype: torch.dtype) -> Form:
    """Try a model.

    Args:
        skeleton: all that its `kept` names has values.
        device: where the arithmetic is done.
        dtype: of it.

    Raises:
        ModelError: the engine would compute something else than the model does.
    """
    family = skeleton.model.config.model_type
    try:
        with _one_thread(), cheap_layers(skeleton.layers) as used:
            form = _Trial(skeleton, device, dtype).run()
    except ModelError as error:
        raise ModelError(f"{family} can't be gone through block by block: {error}") from error
    except Exception as error:
        # A model's own code may raise anything when it is run in pieces.
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{family} can't be gone through block by block "
            f"({type(error).__name__}: {str(error)[:300]})."
        ) from error
    unused = sorted(skeleton.layers.keys() - used)
    if unused:
        raise ModelError(f"{family} doesn't use {len(unused)} of its layers, like {unused[0]}.")
    return form


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep to one thread: on a busy device several would wait for each other at every small step.

    With six more processes on two cores, a trial of 22 blocks took 1 to 5 s in place of 30 to 40.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Trial:
    """One trial, on random ids and a random prompt."""

    def __init__(self, skeleton: Skeleton, device: torch.device, dtype: torch.dtype) -> None:
        self._skeleton = skeleton
        self._device = device
        self._dtype = dtype
        # Bound before anything stands in for them.
        self._real = [block.forward for block in skeleton.blocks]
        generator = torch.Generator().manual_seed(1)
        width = skeleton.model.get_submodule(skeleton.embedding).embedding_dim
        self._table = torch.randn(_IDS, width, generator=generator).to(device, dtype)
        self._prompt = torch.randn(_POSITIONS, width, generator=generator).to(device)
        # Some models treat padding in a way of their own, where they see ids.
        pad = getattr(skeleton.model.config, "pad_token_id", None)
        allowed = torch.tensor([token for token in range(_IDS) if token != pad])
        drawn = torch.randint(len(allowed), (_ROWS, _TOKENS), generator=generator)
        self._ids = allowed[drawn]
        drawn[0, -1] = (drawn[0, -1] + 1) % len(allowed)
        self._changed = allowed[drawn]  # in the last token of the first row

    def run(self) -> Form:
        """Compare states and gradients, and see what the model does behind its head."""
        lengths: set[int] = set()
        around = self._around(0)
        with torch.no_grad(), around.table(self._table):
            own = around.run(self._own(lengths), input_ids=self._ids.to(self._device))
        if len(lengths) > 1:
            raise ModelError("its blocks don't all return the same.")
        returned = lengths.pop()
        around = self._around(returned)
        states = self._states(around, self._ids)
        self._compare(states, own[:, :-1], "the states differ from the model's own")
        self._compare(
            self._states(around, self._changed),
            states,
            "a token changes the states before it: it is no decoder",
        )
        self._compare_gradients(around)
        return Form(returned, *_form_of_logits(around, self._device))

    def _compare_gradients(self, around: Around) -> None:
        head = _Directed()
        prompt = self._prompt.clone().requires_grad_(True)
        self._passes(around, head).backward(self._ids, self._ids, prompt)
        again = self._prompt.clone().requires_grad_(True)
        embedded = around.embedded(self._ids)
        front = again.to(embedded).expand(_ROWS, -1, -1)
        whole = torch.cat([front, embedded], dim=1)
        states = around.run(self._own(set()), inputs_embeds=whole)[:, _POSITIONS:-1]
        states = states.reshape(-1, states.shape[-1])
        begin_backward(states, head.direction).backward()  # type: ignore[no-untyped-call]
        if prompt.grad is None or again.grad is None:
            raise ModelError("there is no gradient.")
        self._compare(prompt.grad, again.grad, "the gradient differs from the model's own")

    def _states(self, around: Around, ids: torch.Tensor) -> torch.Tensor:
        head = _Directed()
        self._passes(around, head).evaluate(ids, ids, None)
        return head.states

    def _compare(self, found: torch.Tensor, wanted: torch.Tensor, fault: str) -> None:
        wanted = wanted.reshape(found.shape).float()
        far = float((found.float() - wanted).norm() / wanted.norm())
        if not far <= _TOLERANCE[self._dtype]:  # NaN is far, too
            raise ModelError(f"{fault} (relative error {far:.2g}).")

    def _around(self, returned: int) -> Around:
        return Around(self._skeleton, lambda ids: self._table[ids], self._device, returned)

    def _passes(self, around: Around, head: "_Directed") -> Passes:
        blocks = [GenericBlock(index, around, []) for index in range(len(self._real))]
        return Passes(around, blocks, head, self._device, lambda _: None)

    def _own(self, lengths: set[int]) -> StandIn:
        """Return what does for a block what the block itself does, and looks on."""

        def own(index: int, x: torch.Tensor, given: Given) -> Any:
            for value in (*given.args, *given.named.values()):
                _check_plain(value)
            found = self._real[index](x, *given.args, **given.named)
            lengths.add(len(found) if isinstance(found, (tuple, list)) else 0)
            return found

        return own


class _Directed:
    """A head that only says where the states are to move; see `architecture.LossHead`."""

    states: torch.Tensor
    direction: torch.Tensor

    def loss(
        self, states: torch.Tensor, wanted: torch.Tensor, *, with_gradient: bool
    ) -> tuple[float, torch.Tensor | None]:
        """Keep the states; return a random direction."""
        del wanted
        self.states = states
        drawn = torch.randn(states.shape, generator=torch.Generator().manual_seed(2))
        self.direction = drawn.to(states)
        return 0.0, self.direction if with_gradient else None


def _check_plain(value: Any) -> None:
    """Check that what a block is given can be given to it again, in the backward pass."""
    if isinstance(value, (tuple, list)):
        for part in value:
            _check_plain(part)
    elif isinstance(value, torch.Tensor):
        if value.requires_grad:
            raise ModelError("its blocks are given more than one state that is trained through.")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ModelError(f"its blocks are given a {type(value).__name__}, which they may change.")


def _form_of_logits(around: Around, device: torch.device) -> tuple[float, float | None]:
    """Return a model's factor on its logits, and where it caps them."""
    raw = torch.linspace(-60, 60, 61, device=device)
    raw[0], raw[1] = 1e-3, 1e6
    found = around.logits(raw.expand(1, 2, -1))[0, 0].float()
    scale, most = float(found[0] / raw[0]), float(found[1])
    cap = most if most < 0.5 * scale * float(raw[1]) else None
    wanted = raw * scale
    if cap is not None:
        wanted = torch.tanh(wanted / cap) * cap
    if not scale > 0 or not torch.allclose(found, wanted, rtol=1e-3, atol=1e-5):
        raise ModelError("its logits are neither a multiple of its head's output nor capped.")
    return scale, cap

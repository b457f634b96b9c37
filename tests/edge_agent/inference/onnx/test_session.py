"""Sequences and losses of ONNX Runtime against transformers and PEFT in float32."""

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime", reason="onnxruntime isn't installed: pip install lorikeet[onnx]")

from edge_agent.inference.contract import Adapter, Factors
from edge_agent.inference.errors import EngineError
from edge_agent.inference.onnx import reading
from tests.edge_agent.inference.onnx.conftest import Tuned
from wire.labels import IGNORED

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

IDS = np.random.default_rng(1).integers(0, 300, 150).tolist()
NEAR = {"atol": 2e-5, "rtol": 1e-4}


def greedy(session, slot: int, first: list[int], count: int) -> list[int]:
    found, more = [], first
    for _ in range(count):
        more = [int(session.feed({slot: more})[slot].argmax())]
        found += more
    return found


@pytest.mark.parametrize("prompt", [False, True])
def test_each_token_has_the_logits_that_the_whole_row_gives_it(tuned: Tuned, prompt: bool) -> None:
    """More than one piece first, then token by token."""
    session = tuned.engine.open(
        tuned.prompted if prompt else tuned.adapter, slots=1, context=len(IDS)
    )
    wanted = tuned.logits(IDS, prompt)
    found = session.feed({0: IDS[:140]})[0]
    np.testing.assert_allclose(found, wanted[139], **NEAR)
    for at in range(140, 150):
        np.testing.assert_allclose(session.feed({0: IDS[at : at + 1]})[0], wanted[at], **NEAR)
    session.close()


def test_slots_together_say_what_each_says_alone(llama: Tuned) -> None:
    firsts = {0: IDS[:7], 1: IDS[20:21], 3: IDS[40:70]}
    alone = {}
    for slot, first in firsts.items():
        session = llama.engine.open(llama.prompted, slots=4, context=64)
        alone[slot] = greedy(session, slot, first, 12)
        session.close()
    session = llama.engine.open(llama.prompted, slots=4, context=64)
    together = {slot: [] for slot in firsts}
    more = firsts
    for _ in range(12):
        found = session.feed(more)
        more = {slot: [int(logits.argmax())] for slot, logits in found.items()}
        for slot, token in more.items():
            together[slot] += token
    assert together == alone
    session.close()


def test_what_is_kept_goes_on_as_if_the_rest_had_never_been(llama: Tuned) -> None:
    session = llama.engine.open(llama.prompted, slots=2, context=100)
    session.feed({0: IDS[:90], 1: IDS[100:105]})
    session.keep(0, 30)
    wanted = llama.logits(IDS[:35], prompt=True)
    np.testing.assert_allclose(session.feed({0: IDS[30:35]})[0], wanted[34], **NEAR)
    session.keep(0, 0)
    np.testing.assert_allclose(session.feed({0: IDS[:3]})[0], wanted[2], **NEAR)
    np.testing.assert_allclose(
        session.feed({1: IDS[105:106]})[1],
        llama.logits(IDS[100:106], prompt=True)[5],
        **NEAR,
    )
    session.close()


@pytest.mark.parametrize("prompt", [False, True])
def test_a_rows_loss_is_torchs_cross_entropy(tuned: Tuned, prompt: bool) -> None:
    labels = [IGNORED if at % 7 == 3 else one for at, one in enumerate(IDS)]
    session = tuned.engine.open(
        tuned.prompted if prompt else tuned.adapter, slots=1, context=len(IDS)
    )
    session.feed({0: IDS[:5]})
    found = session.loss(IDS, labels)
    logits = torch.tensor(tuned.logits(IDS, prompt))
    wanted = torch.nn.functional.cross_entropy(
        logits[:-1], torch.tensor(labels[1:]), ignore_index=IGNORED, reduction="sum"
    )
    assert found.tokens == sum(label != IGNORED for label in labels[1:])
    assert found.total == pytest.approx(float(wanted), rel=1e-6)
    other = tuned.engine.open(
        tuned.prompted if prompt else tuned.adapter, slots=1, context=len(IDS)
    )
    other.feed({0: IDS[:5]})
    after = session.feed({0: IDS[5:6]})[0]
    np.testing.assert_array_equal(after, other.feed({0: IDS[5:6]})[0])  # no slot was touched
    session.close()


def test_a_short_row_is_turned_as_a_short_row(tuned: Tuned) -> None:
    """LongRoPE turns by the row's length, soft prompt and all, not by the session's."""
    session = tuned.engine.open(tuned.prompted, slots=1, context=len(IDS))
    ids = IDS[:20]
    logits = torch.tensor(tuned.logits(ids, prompt=True))
    wanted = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")
    assert session.loss(ids, ids).total == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize("piece", [1, 5, 1000])
def test_a_loss_does_not_depend_on_the_pieces(
    llama: Tuned, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = llama.engine.open(llama.adapter, slots=1, context=60)
    labels = [IGNORED] * 20 + IDS[20:50] + [IGNORED] * 10
    whole = session.loss(IDS[:60], labels)
    monkeypatch.setattr(reading, "PIECE_TOKENS", 32)
    monkeypatch.setattr(reading, "PIECE_LOGITS", 300 * piece)
    monkeypatch.setattr(reading, "_LEAST_ROWS", 1)
    found = session.loss(IDS[:60], labels)
    assert found.tokens == whole.tokens == 30
    assert found.total == pytest.approx(whole.total, rel=1e-6)
    session.close()


def test_a_row_without_a_label_has_no_loss(llama: Tuned) -> None:
    session = llama.engine.open(None, slots=1, context=60)
    assert session.loss(IDS[:10], [IDS[0]] + [IGNORED] * 9) == (0.0, 0)
    assert session.loss([], []) == (0.0, 0)
    session.close()


def test_without_an_adapter_it_is_the_base_and_sessions_do_not_mix(llama: Tuned) -> None:
    bare = llama.engine.open(None, slots=1, context=60)
    other = llama.engine.open(llama.adapter, slots=1, context=60)
    first, second = bare.feed({0: IDS[:9]})[0], other.feed({0: IDS[:9]})[0]
    with llama.tuned.disable_adapter():
        np.testing.assert_allclose(first, llama.logits(IDS[:9])[8], **NEAR)
    np.testing.assert_allclose(second, llama.logits(IDS[:9])[8], **NEAR)
    other.close()
    with llama.tuned.disable_adapter():
        np.testing.assert_allclose(bare.feed({0: IDS[9:10]})[0], llama.logits(IDS[:10])[9], **NEAR)
    bare.close()


def test_an_adapter_may_change_few_layers_and_have_rank_0(llama: Tuned) -> None:
    target = "model.layers.1.mlp.up_proj"
    nothing = Factors(np.zeros((0, 64), np.float32), np.zeros((96, 0), np.float32))
    whole = llama.adapter.factors[target]
    bare = llama.engine.open(None, slots=1, context=9).feed({0: IDS[:9]})[0]
    none = llama.engine.open(Adapter("0", {target: nothing}), slots=1, context=9)
    np.testing.assert_array_equal(none.feed({0: IDS[:9]})[0], bare)
    some = llama.engine.open(Adapter("1", {target: whole}), slots=1, context=9)
    assert np.abs(some.feed({0: IDS[:9]})[0] - bare).max() > 1e-3


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ({0: [1] * 11}, "a text has 11 tokens; the session's context is 10"),
        ({2: [1]}, "there is no slot 2; the session has 2"),
        ({0: []}, "slot 0 was given no token"),
        ({0: [300]}, "300 is no token of the base, which has 300"),
        ({0: [-1]}, "-1 is no token of the base"),
    ],
)
def test_what_can_not_be_read_is_refused_before_anything_is(
    llama: Tuned, tokens: dict[int, list[int]], words: str
) -> None:
    session = llama.engine.open(llama.prompted, slots=2, context=10)
    session.feed({1: IDS[:3]})
    with pytest.raises(EngineError, match=words):
        session.feed({1: [7], **tokens})
    wanted = llama.logits(IDS[:4], prompt=True)[3]
    np.testing.assert_allclose(session.feed({1: IDS[3:4]})[1], wanted, **NEAR)


@pytest.mark.parametrize(
    ("ids", "labels", "words"),
    [
        ([1] * 11, [1] * 11, "a text has 11 tokens"),
        ([1, 2], [1], "2 ids and 1 labels"),
        ([1, 300], [1, 1], "300 is no token"),
        ([1, 2], [1, 300], "300 is no token"),
    ],
)
def test_a_row_that_is_none_is_refused(
    llama: Tuned, ids: list[int], labels: list[int], words: str
) -> None:
    session = llama.engine.open(None, slots=1, context=10)
    with pytest.raises(EngineError, match=words):
        session.loss(ids, labels)


@pytest.mark.parametrize(
    ("target", "a", "b", "words"),
    [
        ("model.norm", (2, 64), (64, 2), "model.norm, which is no linear layer"),
        ("model.layers.0.mlp.up_proj", (2, 32), (96, 2), r"lora_A has the shape \[2, 32\]"),
        ("model.layers.0.mlp.up_proj", (2, 64), (96, 3), r"lora_B .* the base takes \[96, 2\]"),
    ],
)
def test_an_adapter_of_another_base_is_refused(
    llama: Tuned, target: str, a: tuple[int, int], b: tuple[int, int], words: str
) -> None:
    factors = Factors(np.zeros(a, np.float32), np.zeros(b, np.float32))
    with pytest.raises(EngineError, match=words):
        llama.engine.open(Adapter("other", {target: factors}), slots=1, context=8)


def test_a_prompt_of_another_width_is_refused(llama: Tuned) -> None:
    with pytest.raises(EngineError, match=r"shape \[5, 32\]; the base's embeddings have 64"):
        llama.engine.open(Adapter("p", {}, np.zeros((5, 32), np.float32)), slots=1, context=8)


def test_a_closed_session_says_so(llama: Tuned) -> None:
    session = llama.engine.open(None, slots=1, context=8)
    session.close()
    for use in (lambda: session.feed({0: [1]}), lambda: session.loss([1, 2], [1, 2])):
        with pytest.raises(EngineError, match="the session is closed"):
            use()

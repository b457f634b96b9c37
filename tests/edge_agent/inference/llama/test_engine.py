"""llama.cpp computes what transformers and PEFT compute, whatever shares the engine with it."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't built: make llama")

from edge_agent.inference.contract import Adapter, Factors
from edge_agent.inference.errors import EngineError
from edge_agent.inference.llama import engine as llama_engine
from edge_agent.inference.llama.engine import LlamaEngine
from tests.edge_agent.inference.llama.conftest import Small, error_of, logits_of

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

#: What llama.cpp's float16 activations and cache leave; bench.serving_logits measures 0.3 %.
CLOSE = 1e-2
IDS = [7 * at % 300 for at in range(40)]
Llama = tuple[Small, LlamaEngine]


def _prompt(model: Small, tokens: int) -> np.ndarray:
    width = model.base.config.hidden_size
    return np.random.default_rng(2).normal(size=(tokens, width)).astype(np.float32) * 0.2


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "phi3"])
def test_logits_are_those_of_peft(small: Callable[[str], Small], family: str) -> None:
    model = small(family)
    engine = LlamaEngine(model.file, piece=16)
    with_adapter = engine.open(model.adapter, slots=1, context=64)
    bare = engine.open(None, slots=1, context=64)
    wanted = logits_of(model.tuned, IDS)
    assert error_of(with_adapter.feed({0: IDS})[0], wanted[-1]) <= CLOSE
    assert error_of(bare.feed({0: IDS})[0], logits_of(model.base, IDS)[-1]) <= CLOSE
    assert error_of(wanted[-1], logits_of(model.base, IDS)[-1]) > 0.1  # the adapter does something
    engine.close()


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_soft_prompt_stands_in_front(small: Callable[[str], Small], family: str) -> None:
    """More prompt than fits into one pass, in front of slots and rows alike."""
    model = small(family)
    engine = LlamaEngine(model.file, piece=16)
    prompt = _prompt(model, 20)
    session = engine.open(Adapter("p", model.adapter.factors, prompt), slots=2, context=64)
    wanted = logits_of(model.tuned.get_base_model(), IDS, prompt)
    for slot in (1, 0):
        assert error_of(session.feed({slot: IDS})[slot], wanted[-1]) <= CLOSE
    session.keep(0, 0)
    assert error_of(session.feed({0: IDS[:5]})[0], wanted[4]) <= CLOSE
    found = session.loss(IDS, IDS)
    assert found.total / found.tokens == pytest.approx(_loss(wanted, IDS), rel=CLOSE)
    engine.close()


def test_slots_together_are_as_each_alone(llama: Llama) -> None:
    model, engine = llama
    alone = engine.open(model.adapter, slots=1, context=64)
    together = engine.open(model.adapter, slots=3, context=64)
    rows = {0: IDS[:33], 2: IDS[20:25]}
    found = together.feed(rows)
    assert sorted(found) == [0, 2]
    later = together.feed({0: [5], 2: [6, 7]})
    for slot, ids in rows.items():
        assert error_of(found[slot], logits_of(model.tuned, ids)[-1]) <= CLOSE
        alone.keep(0, 0)
        assert error_of(found[slot], alone.feed({0: ids})[0]) <= 1e-3
        more = {0: [5], 2: [6, 7]}[slot]
        assert error_of(later[slot], alone.feed({0: more})[0]) <= 1e-3
        assert error_of(later[slot], logits_of(model.tuned, [*ids, *more])[-1]) <= CLOSE


def test_a_sequence_that_was_cut_back_goes_on_from_there(llama: Llama) -> None:
    model, engine = llama
    session = engine.open(model.adapter, slots=1, context=64)
    session.feed({0: IDS})
    session.keep(0, 50)  # no more than there is
    session.keep(0, 12)
    found = session.feed({0: [3, 4]})[0]
    assert error_of(found, logits_of(model.tuned, [*IDS[:12], 3, 4])[-1]) <= CLOSE


def test_an_old_session_keeps_its_adapter_while_a_new_one_runs(llama: Llama) -> None:
    model, engine = llama
    turned = {name: Factors(one.a, -one.b) for name, one in model.adapter.factors.items()}
    old = engine.open(model.adapter, slots=1, context=64)
    first = old.feed({0: IDS})[0]
    new = engine.open(Adapter("second", turned), slots=1, context=64)
    other = new.feed({0: IDS})[0]
    assert error_of(other, first) > 0.1
    old.keep(0, 0)
    np.testing.assert_array_equal(old.feed({0: IDS})[0], first)
    old.close()
    old.close()
    new.keep(0, 0)
    np.testing.assert_array_equal(new.feed({0: IDS})[0], other)


def test_the_loss_of_a_row_is_that_of_its_labels(llama: Llama) -> None:
    model, engine = llama
    session = engine.open(model.adapter, slots=0, context=64)
    labels = [-100] * 10 + IDS[10:25] + [-100] * 15
    wanted = logits_of(model.tuned, IDS)
    found = session.loss(IDS, labels)
    assert found.tokens == 15
    assert found.total / 15 == pytest.approx(_loss(wanted[9:24], IDS[9:25]), rel=CLOSE)
    assert session.loss(IDS, [IDS[0], *[-100] * 39]) == (0.0, 0)
    assert session.loss(IDS, labels) == found  # nothing of the row before is left


def test_a_loss_touches_no_slot(llama: Llama) -> None:
    model, engine = llama
    session = engine.open(model.adapter, slots=1, context=64)
    session.feed({0: IDS[:20]})
    session.loss(IDS[::-1], IDS[::-1])
    found = session.feed({0: IDS[20:]})[0]
    assert error_of(found, logits_of(model.tuned, IDS)[-1]) <= CLOSE


def test_what_outgrows_the_context_is_refused_and_nothing_is_lost(llama: Llama) -> None:
    model, engine = llama
    session = engine.open(model.adapter, slots=2, context=24)
    session.feed({0: IDS[:20]})
    with pytest.raises(EngineError, match="sequence of 25 tokens outgrows the context of 24"):
        session.feed({0: IDS[:5], 1: [1]})
    assert error_of(session.feed({0: IDS[20:24]})[0], logits_of(model.tuned, IDS[:24])[-1]) <= CLOSE
    with pytest.raises(EngineError, match="row has 40 tokens"):
        session.loss(IDS, IDS)
    for wrong in ({2: [1]}, {0: []}):
        with pytest.raises(EngineError):
            session.feed(wrong)


def test_ranks_may_differ_and_be_none(llama: Llama) -> None:
    model, engine = llama
    bare = engine.open(None, slots=1, context=64).feed({0: IDS})[0]
    none = {name: Factors(one.a[:0], one.b[:, :0]) for name, one in model.adapter.factors.items()}
    found = engine.open(Adapter("none", none), slots=1, context=64).feed({0: IDS})[0]
    np.testing.assert_array_equal(found, bare)
    name = "model.layers.1.mlp.up_proj"
    one = {**none, name: model.adapter.factors[name]}
    assert (
        error_of(engine.open(Adapter("one", one), slots=1, context=64).feed({0: IDS})[0], bare)
        > 1e-3
    )


@pytest.mark.parametrize(
    ("factors", "prompt", "said"),
    [
        ({"model.norm": ((2, 64), (64, 2))}, None, "no such layer"),
        ({"model.layers.0.mlp.up_proj": ((2, 64), (64, 2))}, None, "the base's layer is"),
        ({}, (3, 5), "has 64 columns"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    llama: Llama,
    factors: dict[str, tuple[tuple[int, int], ...]],
    prompt: tuple[int, int] | None,
    said: str,
) -> None:
    _, engine = llama
    made = {n: Factors(*(np.ones(s, np.float32) for s in both)) for n, both in factors.items()}
    with pytest.raises(EngineError, match=said):
        engine.open(
            Adapter("x", made, None if prompt is None else np.ones(prompt, np.float32)),
            slots=1,
            context=16,
        )


def test_numbers_that_are_none_are_refused(llama: Llama) -> None:
    model, engine = llama
    name = "model.layers.0.mlp.up_proj"
    one = model.adapter.factors[name]
    with pytest.raises(EngineError, match="not all finite"):
        engine.open(Adapter("x", {name: Factors(one.a, one.b * np.nan)}), slots=1, context=16)


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(EngineError, match="cut short"):
        LlamaEngine(tmp_path / "a.gguf")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "model.safetensors").write_bytes(b"")
    with pytest.raises(EngineError, match="reads no other"):
        LlamaEngine(tmp_path / "hf")


def test_what_is_closed_says_so(llama: Llama) -> None:
    model, engine = llama
    session = engine.open(model.adapter, slots=1, context=16)
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.feed({0: [1]})
    with pytest.raises(EngineError, match="closed"):
        session.loss([1, 2], [1, 2])


def _loss(logits: np.ndarray, ids: list[int]) -> float:
    """Return the mean cross entropy of the ids behind the first, by hand."""
    found = []
    for row, target in zip(logits.astype(np.float64), ids[1:], strict=False):
        found.append(np.log(np.exp(row - row.max()).sum()) + row.max() - row[target])
    return float(np.mean(found))


def test_one_thread_loads_an_adapter_while_another_frees_one(
    small: Callable[[str], Small], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never at once: llama.cpp notes a model's adapters in a set that it doesn't guard."""
    model = small("llama")
    llama = LlamaEngine(model.file, piece=16)
    old = llama.open(model.adapter, slots=1, context=64)
    load, free = llama_engine.load_adapter, llama_engine.free_adapter
    loading, freed, order = threading.Event(), threading.Event(), []

    def slow_load(*given: object) -> object:
        loading.set()
        freed.wait(0.5)  # with a lock it never comes
        found = load(*given)
        order.append("loaded")
        return found

    def noted_free(*given: object) -> None:
        order.append("freed")
        freed.set()
        free(*given)

    monkeypatch.setattr(llama_engine, "load_adapter", slow_load)
    monkeypatch.setattr(llama_engine, "free_adapter", noted_free)
    swap = threading.Thread(
        target=llama.open, args=(model.adapter,), kwargs={"slots": 1, "context": 64}
    )
    swap.start()
    assert loading.wait(20)
    old.close()
    swap.join(20)
    assert order == ["loaded", "freed"]
    llama.close()

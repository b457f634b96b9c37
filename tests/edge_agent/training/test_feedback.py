"""What a codec leaves out arrives later: once, and in the basis of the day."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edge_agent.training.feedback import MOST_ROUNDS, REACHES, ErrorFeedback
from edge_agent.training.reproject import Product, difference, reproject
from edge_agent.training.residuals import Facts, Residuals
from wire.codecs import by_name

OUT, IN, RANK = 48, 64, 4
Array = np.ndarray
FAR = 1e6  # a reach that cuts nothing


class Start:
    """An adapter with one target, and a soft prompt of three numbers."""

    name, tokens, hidden_size = "the start", 1, 3

    def __init__(self, b: Array | None = None, a: Array | None = None) -> None:
        self.b = np.zeros((OUT, RANK), np.float32) if b is None else b
        self.a = np.eye(RANK, IN, dtype=np.float32) if a is None else a
        self.rank = self.b.shape[1]
        self.shapes = {"q": (self.b.shape[0], self.a.shape[1])}

    def factor(self, name: str) -> Array:
        return self.a if name == "q.lora_A" else self.b

    def prompt(self) -> Array:
        return np.zeros((1, 3), np.float32)


def top_1(values: Array) -> Array:
    """Keep the largest entry."""
    kept = np.zeros_like(values)
    at = np.abs(values).argmax()
    kept.flat[at] = values.flat[at]
    return kept


def top_k(values: Array) -> Array:
    codec = by_name("topk")
    return codec.expand(codec.compress(values, np.random.default_rng(0)), values.shape)


def send(
    folder: Path,
    round_: int,
    accepted: int,
    moves: Mapping[str, Array],
    start: Start | None = None,
    *,
    codec=top_1,
    reach: float = FAR,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Do the packing of a round's task; return what was meant to be sent, and what was."""
    facts, task = Facts(f"j.{round_}.d", round_ - 1), f"j.{accepted}.d" if accepted else ""
    memory = ErrorFeedback(folder, facts, task, start or Start(), reach)
    wanted = memory.added(moves)
    sent = {name: codec(value) for name, value in wanted.items()}
    memory.keep(wanted, sent.__getitem__)
    return wanted, sent


def prompt(*values: float) -> dict[str, Array]:
    return {"prompt": np.array([values], np.float32)}


def sent_prompt(folder: Path, round_: int, accepted: int, *values: float) -> list[float]:
    return send(folder, round_, accepted, prompt(*values))[1]["prompt"][0].tolist()


def memory_of(folder: Path, task: str) -> Array:
    found = Residuals(folder).begin(task)
    assert found is not None
    return found.get("prompt")[0]


def test_what_was_sent_and_the_memory_add_up_to_what_was_meant(tmp_path: Path) -> None:
    # By hand, the largest of three numbers:      u          sent       left
    assert sent_prompt(tmp_path, 1, 0, 4, 2, 1) == [4, 0, 0]  # 4 2 1      4 0 0      0 2 1
    assert sent_prompt(tmp_path, 2, 1, 1, 1, 1) == [0, 3, 0]  # 1 3 2      0 3 0      1 0 2
    assert sent_prompt(tmp_path, 3, 2, 0, 0, 1) == [0, 0, 3]  # 1 0 3      0 0 3      1 0 0
    # Meant 5 3 3, sent 4 3 3.
    assert memory_of(tmp_path, "j.3.d").tolist() == [1, 0, 0]


def test_a_dropped_round_takes_nothing_with_it_but_its_own_move(tmp_path: Path) -> None:
    sent_prompt(tmp_path, 1, 0, 4, 2, 1)
    sent_prompt(tmp_path, 2, 1, 1, 1, 1)  # never accepted
    # The memory is still 0 2 1, not 1 0 2, and not 0 0 0.
    assert sent_prompt(tmp_path, 3, 1, 0, 0, 5) == [0, 0, 6]
    assert memory_of(tmp_path, "j.3.d").tolist() == [0, 2, 0]


def test_a_task_that_is_done_again_begins_with_the_same_memory(tmp_path: Path) -> None:
    sent_prompt(tmp_path, 1, 0, 4, 2, 1)
    for _ in range(3):
        assert sent_prompt(tmp_path, 2, 1, 1, 1, 1) == [0, 3, 0]
    assert memory_of(tmp_path, "j.2.d").tolist() == [1, 0, 2]


def test_an_agent_that_never_heard_of_its_success_learns_it_from_the_next_offer(
    tmp_path: Path,
) -> None:
    # Killed between the upload and the answer: on disk there is a pending residual, and no more.
    sent_prompt(tmp_path / "yes", 1, 0, 4, 2, 1)
    sent_prompt(tmp_path / "no", 1, 0, 4, 2, 1)
    assert sent_prompt(tmp_path / "yes", 2, 1, 0, 0, 0) == [0, 2, 0]
    assert sent_prompt(tmp_path / "no", 2, 0, 0, 0, 3) == [0, 0, 3]


def descend(folder: Path, how: str, rounds: int, rate: float) -> float:
    """Return how far one device still is from a product, relatively, after gradient descent.

    The hub turns the factors at random after each round, as an SVD does.
    """
    rng = np.random.default_rng(1)
    goal = rng.standard_normal((OUT, RANK)) @ rng.standard_normal((RANK, IN)) / 64
    b, a = 0.1 * rng.standard_normal((OUT, RANK)), np.eye(RANK, IN)
    for round_ in range(1, rounds + 1):
        left = goal - b @ a
        steps = {"q.lora_A": rate * b.T @ left, "q.lora_B": rate * left @ a.T}
        moves = {name: step.astype(np.float32) for name, step in steps.items()}
        start = Start(b.astype(np.float32), a.astype(np.float32))
        if how != "whole":
            accepted = round_ - 1 if how == "feedback" else 0
            moves = send(folder, round_, accepted, moves, start, codec=top_k)[1]
        b, a = start.b + moves["q.lora_B"], start.a + moves["q.lora_A"]
        q, r = np.linalg.qr(a.T.astype(np.float64))
        turn = np.linalg.qr(rng.standard_normal((RANK, RANK)))[0]
        b, a = b @ r.T @ turn.T, turn @ q.T  # the same product; rows of A are orthonormal
    return float(np.linalg.norm(goal - b @ a) / np.linalg.norm(goal))


def test_descent_in_bases_that_turn_comes_as_far_as_with_whole_updates(tmp_path: Path) -> None:
    ends = {how: descend(tmp_path / how, how, 240, 0.03) for how in ("whole", "feedback", "none")}
    assert ends["whole"] < 0.5
    assert abs(ends["feedback"] - ends["whole"]) < 0.05
    assert ends["none"] > 0.9  # a thirty-second of each step, and the rest forgotten


def test_the_memory_of_factors_is_the_product_that_is_lacking(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    start = Start(rng.standard_normal((OUT, RANK)).astype(np.float32))
    moves = {
        "q.lora_A": rng.standard_normal((RANK, IN)).astype(np.float32),
        "q.lora_B": rng.standard_normal((OUT, RANK)).astype(np.float32),
    }
    _, sent = send(tmp_path, 1, 0, moves, start, codec=top_k)
    meant = (start.b + moves["q.lora_B"]) @ (start.a + moves["q.lora_A"])
    made = (start.b + sent["q.lora_B"]) @ (start.a + sent["q.lora_A"])
    found = Residuals(tmp_path).begin("j.1.d")
    assert found is not None
    lacking = found.get("q.left") @ found.get("q.right")
    assert lacking == pytest.approx(meant - made, abs=1e-4)
    # The next task starts elsewhere, with another rank, and adds what brings that about there.
    turn = np.linalg.qr(rng.standard_normal((RANK, RANK)))[0].astype(np.float32)
    other = Start((start.b @ turn.T)[:, :3], (turn @ start.a)[:3])
    own = {name: np.zeros_like(other.factor(name)) for name in moves}
    wanted, _ = send(tmp_path, 2, 1, own, other, codec=top_k)
    residual = difference(
        start.b,
        start.a,
        (moves["q.lora_B"], moves["q.lora_A"]),
        (sent["q.lora_B"], sent["q.lora_A"]),
    )
    d_b, d_a = reproject(residual, other.b, other.a)
    assert np.array_equal(wanted["q.lora_B"], d_b)
    assert np.array_equal(wanted["q.lora_A"], d_a)


def test_a_factor_that_is_not_trained_keeps_its_part_of_the_memory(tmp_path: Path) -> None:
    def only(end: str, *values: float) -> dict[str, Array]:
        shape = (1, 3) if end == "lora_A" else (3, 1)
        return {f"q.{end}": np.array(values, np.float32).reshape(shape)}

    # Rank 1; nobody turns the factors, and nothing is applied: a memory is turned by 1.
    start = Start(np.ones((3, 1), np.float32), np.ones((1, 3), np.float32))
    for at, (end, moves, kept) in enumerate(
        [
            # By hand, the largest of three:   u          left of B   left of A
            ("lora_B", (4, 2, 1), (4, 0, 0)),  # 4 2 1    0 2 1
            ("lora_A", (1, 7, 3), (0, 7, 0)),  # 1 7 3    0 2 1       1 0 3
            ("lora_A", (2, 0, 1), (0, 0, 4)),  # 3 0 4    0 2 1       3 0 0
            ("lora_B", (0, 0, 2), (0, 0, 3)),  # 0 2 3    0 2 0       3 0 0
        ],
        start=1,
    ):
        _, sent = send(tmp_path, at, at - 1, only(end, *moves), start)
        assert list(sent) == [f"q.{end}"]
        assert sent[f"q.{end}"].ravel().tolist() == pytest.approx(kept)
    found = Residuals(tmp_path).begin("j.4.d")
    assert found is not None
    # (B + (0 2 3)) (A + (3 0 0)) - (B + (0 0 3)) A
    meant = np.outer([1, 3, 4], [4, 1, 1]) - np.outer([1, 1, 4], [1, 1, 1])
    assert found.get("q.left") @ found.get("q.right") == pytest.approx(meant)


def test_a_device_of_lower_rank_moves_its_leading_components(tmp_path: Path) -> None:
    start = Start(np.ones((OUT, RANK), np.float32))
    moves = {"q.lora_A": np.ones((2, IN), np.float32), "q.lora_B": np.ones((OUT, 2), np.float32)}
    send(tmp_path, 1, 0, moves, start)
    found = Residuals(tmp_path).begin("j.1.d")
    assert found is not None
    assert found.shapes == {"q.left": (OUT, 4), "q.right": (4, IN)}


def test_what_another_role_left_out_waits_for_its_turn(tmp_path: Path) -> None:
    moves = {"q.lora_A": np.ones((4, IN), np.float32), "q.lora_B": np.ones((OUT, 4), np.float32)}
    send(tmp_path, 1, 0, moves)
    before = Residuals(tmp_path).begin("j.1.d")
    assert before is not None
    left = before.get("q.left")
    assert sent_prompt(tmp_path, 2, 1, 4, 2, 1) == [4, 0, 0]
    after = Residuals(tmp_path).begin("j.2.d")
    assert after is not None
    assert np.array_equal(after.get("q.left"), left)
    assert after.get("prompt")[0].tolist() == [0, 2, 1]
    # And the prompt's waits while factors are trained.
    send(tmp_path, 3, 2, moves)
    assert memory_of(tmp_path, "j.3.d").tolist() == [0, 2, 1]


def test_a_memory_of_another_shape_is_passed_over(tmp_path: Path) -> None:
    sent_prompt(tmp_path, 1, 0, 4, 2, 1)
    wider = {"prompt": np.array([[0, 0, 0, 7]], np.float32)}
    assert send(tmp_path, 2, 1, wider)[1]["prompt"].tolist() == [[0, 0, 0, 7]]


def test_a_memory_that_is_many_rounds_old_is_dropped(tmp_path: Path) -> None:
    sent_prompt(tmp_path / "new", 1, 0, 4, 2, 1)
    sent_prompt(tmp_path / "old", 1, 0, 4, 2, 1)
    assert sent_prompt(tmp_path / "new", 1 + MOST_ROUNDS, 1, 0, 0, 0) == [0, 2, 0]
    assert sent_prompt(tmp_path / "old", 2 + MOST_ROUNDS, 1, 0, 0, 0) == [0, 0, 0]


def test_no_memory_moves_further_than_the_hub_would_believe(tmp_path: Path) -> None:
    sent_prompt(tmp_path, 1, 0, 4000, 3000, 0)  # leaves 3000 in one of three entries
    wanted, _ = send(tmp_path, 2, 1, prompt(0, 0, 0), reach=1.0)
    assert wanted["prompt"][0] == pytest.approx([0, REACHES * np.sqrt(3), 0])


@pytest.mark.parametrize("damage", [b"", b"x" * 500])
def test_a_damaged_file_costs_its_memory_and_not_the_task(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    sent_prompt(tmp_path, 1, 0, 4, 2, 1)
    (tmp_path / "pending.safetensors").write_bytes(damage)
    assert sent_prompt(tmp_path, 2, 1, 1, 1, 3) == [0, 0, 3]
    assert "dropped" in caplog.text
    assert memory_of(tmp_path, "j.2.d").tolist() == [1, 1, 0]


def test_a_disk_that_takes_nothing_costs_the_memory_and_not_the_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "file").write_bytes(b"")
    assert sent_prompt(tmp_path / "file" / "job", 1, 0, 4, 2, 1) == [4, 0, 0]
    assert "residual is dropped" in caplog.text


def test_an_update_whose_own_memory_could_not_be_written_does_not_send_the_old_one_twice(
    tmp_path: Path,
) -> None:
    sent_prompt(tmp_path, 1, 0, 4, 2, 1)
    memory = ErrorFeedback(tmp_path, Facts("j.2.d", 1), "j.1.d", Start(), FAR)
    wanted = memory.added(prompt(0, 0, 0))
    assert wanted["prompt"][0].tolist() == [0, 2, 1]

    def broken(_: str) -> Array:
        raise OSError("no space left on device")

    memory.keep(wanted, broken)
    assert sent_prompt(tmp_path, 3, 2, 0, 0, 1) == [0, 0, 1]


def test_moves_of_what_is_no_number_are_given_up(tmp_path: Path) -> None:
    bad = Product(np.full((OUT, 2), np.nan, np.float32), np.zeros((2, IN), np.float32))
    with pytest.raises(np.linalg.LinAlgError):
        reproject(bad, np.full((OUT, RANK), np.nan, np.float32), Start().a)
    start = Start(np.full((OUT, RANK), np.nan, np.float32))
    moves = {"q.lora_A": np.ones((4, IN), np.float32), "q.lora_B": np.ones((OUT, 4), np.float32)}
    wanted, _ = send(tmp_path, 1, 0, moves, start)
    assert np.array_equal(wanted["q.lora_A"], moves["q.lora_A"])
    assert Residuals(tmp_path).begin("j.1.d") is None


def test_weights_are_remembered_as_a_prompt_is(tmp_path: Path) -> None:
    """By hand, the largest entry of each being sent: (3, 1) and (2); then (0, 1) is left over."""
    moves = {"w.weight": np.array([[3, 1]], np.float32), "norm.weight": np.array([2], np.float32)}
    still = {name: np.zeros_like(value) for name, value in moves.items()}
    _, first = send(tmp_path, 1, 0, moves)
    assert first["w.weight"].tolist() == [[3, 0]]
    _, second = send(tmp_path, 2, 1, still)
    assert second["w.weight"].tolist() == [[0, 1]]
    assert second["norm.weight"].tolist() == [0]

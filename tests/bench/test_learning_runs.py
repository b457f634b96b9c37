"""Runs are judged on all institutes, and kept."""

from pathlib import Path

import msgspec
import pytest

from bench.learning_rows import QUICK_RATES, Plan
from bench.learning_runs import Outcome, Run, Setting, fleet, measure, measure_all

RUN = Run(kind="federated", seed=7, lr=2e-2, rule="stack_svd")
BASE = Run(kind="base", seed=0)


def test_a_federation_comes_below_the_base_and_one_place_too(setting: Setting) -> None:
    base = measure(setting, BASE).loss
    together = measure(setting, RUN)
    one = Run(kind="alone", seed=7, lr=1e-2, institutes=("ear",), steps=8)
    assert together.loss < base
    assert set(together.losses) == set(setting.institutes)
    assert len(together.curve) == setting.rounds
    assert measure(setting, one).losses["ear"] < base


def test_an_outcome_that_was_kept_is_not_measured_again(setting: Setting, tmp_path: Path) -> None:
    first = measure_all(setting, [BASE], tmp_path)
    (kept,) = tmp_path.iterdir()
    other = msgspec.structs.replace(first[BASE], losses=dict.fromkeys(setting.institutes, 9.0))
    kept.write_bytes(msgspec.json.encode(other))
    assert measure_all(setting, [BASE], tmp_path)[BASE].loss == pytest.approx(9.0)


def test_a_loss_is_the_mean_over_tokens_not_over_institutes() -> None:
    # (1.0 · 30 + 2.0 · 10) / 40
    assert Outcome(losses={"a": 1.0, "b": 2.0}, tokens={"a": 30, "b": 10}).loss == 1.25


def test_who_has_which_role_turns_with_the_seed(setting: Setting) -> None:
    runs = [Run(kind="federated", seed=seed, rule="stack_svd", mixed=True) for seed in range(6)]
    who = [next(one.name for one in fleet(setting, run) if not one.trains) for run in runs]
    assert sorted(who) == setting.institutes


def test_central_training_takes_as_many_steps_as_all_devices_together(setting: Setting) -> None:
    plan = Plan(setting, [7], QUICK_RATES)
    assert plan.central(7, mixed=False).steps == 6 * 2 * 4
    mixed = plan.central(7, mixed=True)
    assert mixed.steps == 5 * 2 * 4  # one device of six only infers
    assert len(mixed.institutes) == 5

"""What is demanded is checked on numbers worked by hand."""

from pathlib import Path

import pytest

from bench.learning_plots import write_plots
from bench.learning_rows import QUICK_RATES, RULES, Plan, alone_rows, gap_rows, rules_rows
from bench.learning_runs import Outcome, Run, Setting
from bench.report import Row


def outcome(*losses: float, setting: Setting) -> Outcome:
    """Return losses of the institutes, which all have the same text; one for all is enough."""
    values = losses * 6 if len(losses) == 1 else losses
    names = setting.institutes
    return Outcome(
        losses=dict(zip(names, values, strict=True)), tokens=dict.fromkeys(names, 10), curve=[3, 2]
    )


def row(rows: list[Row], figure: str) -> Row:
    """Return the row of a figure, or the only one that begins like that."""
    exact = [one for one in rows if one.figure == figure]
    (found,) = exact or [one for one in rows if one.figure.startswith(figure)]
    return found


@pytest.mark.parametrize(("federated", "gap", "ok"), [(2.05, 0.95, True), (2.2, 0.8, False)])
def test_the_gap_is_what_central_training_gains(
    setting: Setting, federated: float, gap: float, ok: bool
) -> None:
    plan = Plan(setting, [7, 8], QUICK_RATES)
    outcomes = {plan.base(): outcome(3.0, setting=setting)}
    for seed in plan.seeds:
        for mixed in (False, True):
            run = plan.best(seed, mixed=mixed)
            outcomes[run] = outcome(federated, setting=setting)
            outcomes[plan.central(seed, mixed=mixed)] = outcome(2.0, setting=setting)
        outcomes[plan.wide(seed)] = outcome(2.0, setting=setting)
    rows = gap_rows(plan, outcomes)
    found = row(rows, "all LoRA r=16: gap closed")
    assert found.value == pytest.approx(gap)
    assert found.ok is ok
    assert row(rows, "mixed fleet: gap closed").ok is None


def test_each_institute_is_compared_on_its_own_text(setting: Setting) -> None:
    plan = Plan(setting, [7], QUICK_RATES)
    outcomes = {plan.best(7): outcome(2.0, setting=setting)}
    for place, name in enumerate(setting.institutes):
        # Each alone has 2.1 on its own text and 2.6 elsewhere, but for the last: 1.9.
        losses = [2.6] * 6
        losses[place] = 1.9 if place == 5 else 2.1
        outcomes[plan.alone(name, 7)] = outcome(*losses, setting=setting)
    rows = alone_rows(plan, outcomes)
    assert row(rows, "own text: alone minus federated, mean").value == pytest.approx(
        0.4 / 6, abs=1e-4
    )
    assert row(rows, "own text: alone minus federated, least").value == pytest.approx(-0.1)
    worst = row(rows, "own text: federated, worst")
    assert (worst.value, worst.ok) == (2.0, True)
    # (5 · 2.6 + 2.1) / 6 = 2.51667, and with the last one's 1.9 a mean of 2.511 over all.
    assert row(rows, "all text: alone, mean").value == pytest.approx(
        (5 * (5 * 2.6 + 2.1) + 5 * 2.6 + 1.9) / 36, abs=1e-4
    )


@pytest.mark.parametrize("better", [True, False])
def test_a_rule_must_be_better_beyond_chance_at_mixed_ranks(setting: Setting, better: bool) -> None:
    plan = Plan(setting, [7, 8, 9], QUICK_RATES)
    outcomes: dict[Run, Outcome] = {}
    for place, seed in enumerate(plan.seeds):
        for mixed in (False, True):
            for rule in RULES:
                loss = 2.0 + 0.01 * place
                if rule != "stack_svd":
                    # Paired differences −0.1, −0.11, −0.12; or −0.1, +0.1, −0.1.
                    loss += 0.1 + 0.01 * place if better else (0.1, -0.1, 0.1)[place]
                outcomes[plan.federated(rule, seed, mixed=mixed)] = outcome(loss, setting=setting)
    rows = rules_rows(plan, outcomes)
    # −0.11 ± 4.303 · 0.01 / √3 = 0.0248.
    found = row(rows, "mixed ranks: stack_svd minus fedit")
    assert found.ok is better
    if better:
        assert found.value == "-0.1100 [-0.1348, -0.0852]"
    assert row(rows, "equal ranks: stack_svd minus the best other").ok


def test_pictures_are_drawn_of_what_was_measured(setting: Setting, tmp_path: Path) -> None:
    plan = Plan(setting, [7], QUICK_RATES)
    outcomes = {
        plan.federated(rule, 7, mixed=True): outcome(2.0 + place, setting=setting)
        for place, rule in enumerate(RULES)
    }
    places = write_plots(plan, outcomes, tmp_path)
    assert [one.name for one in places] == ["rules-mixed.svg", "rounds-mixed.svg"]
    drawn = places[0].read_text()
    assert drawn.count("<circle") == len(RULES)
    assert "fedsvd 6.000" in drawn

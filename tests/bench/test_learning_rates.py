"""The best rate of a grid is taken, for each kind of run by itself."""

from bench.learning_rates import ALONE_GRID, B_GRID, GRID, Search
from bench.learning_runs import Outcome, Run, Setting


def loss_of(run: Run) -> float:
    """Return a loss that is least at another rate for each kind of run."""
    best = {"fedit": GRID[0], "freeze_a": B_GRID[1], "stack_svd": GRID[1], "": ALONE_GRID[2]}[
        run.rule
    ]
    if run.strategy == "fedavgm":
        return 1.9 + abs(run.lr - GRID[0])
    if run.rule == "fedit" and run.mixed:
        best = GRID[2]
    return 2.0 + abs(run.lr - best)


def test_each_kind_of_run_gets_its_own_best_rate(setting: Setting) -> None:
    found = Search(setting, ["freeze_a", "fedit"])
    outcomes = {run: Outcome(losses={"a": loss_of(run)}, tokens={"a": 1}) for run in found.runs()}
    rates = found.rates(outcomes)
    assert rates.equal == {"fedit": GRID[0], "freeze_a": B_GRID[1]}
    assert rates.mixed == {"fedit": GRID[2], "freeze_a": B_GRID[1]}
    assert (rates.strategy, rates.strategy_rate) == ("fedavgm", GRID[0])
    assert rates.central == rates.alone == ALONE_GRID[2]
    assert {run.seed for run in found.runs()} == {1}
    assert len(found.rows(outcomes)) == 8

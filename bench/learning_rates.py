"""Which learning rate serves each kind of run best, on a seed that no table uses.

Rules differ in the rate that they want: those that train B alone take larger steps. So each rule
gets the best of a grid, in each fleet, and so does training in one place. The fleet of equal ranks
that is compared with the latter also gets the better strategy of two.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from bench.learning_rows import STRATEGIES, Plan, Rates
from bench.learning_runs import Outcome, Run, Setting
from bench.report import Row, told
from hub.aggregation.rules import product_rule

#: Of federations whose devices train both factors, of those that train B alone, and of training in
#: one place, where steps add up instead of being averaged.
GRID = (6e-3, 1e-2, 1.6e-2)
B_GRID = (1e-2, 2e-2, 4e-2)
ALONE_GRID = (1e-3, 2.5e-3, 6e-3)
_SEED = 1


class Search:
    """The runs that find rates, and what they find.

    Args:
        setting: of all runs.
        rules: that rates are wanted for.
    """

    def __init__(self, setting: Setting, rules: Collection[str]) -> None:
        self._setting = setting
        self._rules = sorted(rules)
        fleets = [(mixed, rule) for mixed in (False, True) for rule in self._rules]
        self._kinds: dict[str, dict[float, Run]] = {
            _name(rule, mixed=mixed): {
                rate: self._plan(rate).federated(rule, _SEED, mixed=mixed)
                for rate in (B_GRID if product_rule(rule).trains(1) == "b" else GRID)
            }
            for mixed, rule in fleets
        }
        for strategy in STRATEGIES:
            self._kinds[strategy] = {rate: self._plan(rate, strategy).best(_SEED) for rate in GRID}
        self._kinds["central"] = {
            rate: self._plan(rate).central(_SEED, mixed=False) for rate in ALONE_GRID
        }
        self._kinds["alone"] = {
            rate: self._plan(rate).alone(setting.institutes[0], _SEED) for rate in ALONE_GRID
        }

    def runs(self) -> list[Run]:
        """Return what must be measured."""
        return [run for by_rate in self._kinds.values() for run in by_rate.values()]

    def rates(self, outcomes: Mapping[Run, Outcome]) -> Rates:
        """Return the best rate of each kind of run."""
        best = {kind: self._best(by_rate, outcomes) for kind, by_rate in self._kinds.items()}
        strategy = min(STRATEGIES, key=lambda name: outcomes[self._kinds[name][best[name]]].loss)
        return Rates(
            equal={rule: best[_name(rule, mixed=False)] for rule in self._rules},
            mixed={rule: best[_name(rule, mixed=True)] for rule in self._rules},
            central=best["central"],
            alone=best["alone"],
            strategy=strategy,
            strategy_rate=best[strategy],
        )

    def rows(self, outcomes: Mapping[Run, Outcome]) -> list[Row]:
        """Return the loss of each kind of run at each rate."""
        rows = []
        for kind, by_rate in self._kinds.items():
            losses = (f"{rate:g}: {outcomes[run].loss:.4f}" for rate, run in by_rate.items())
            figure = f"best rate, seed {_SEED}: {kind} ({', '.join(losses)})"
            rows.append(told(figure, f"{self._best(by_rate, outcomes):g}"))
        return rows

    def _plan(self, rate: float, strategy: str = STRATEGIES[0]) -> Plan:
        every = dict.fromkeys(self._rules, rate)
        rates = Rates(every, every, rate, rate, strategy, rate)
        return Plan(self._setting, [_SEED], rates)

    @staticmethod
    def _best(by_rate: Mapping[float, Run], outcomes: Mapping[Run, Outcome]) -> float:
        return min(by_rate, key=lambda rate: outcomes[by_rate[rate]].loss)


def search(
    setting: Setting,
    rules: Collection[str],
    measure: Callable[[Sequence[Run]], Mapping[Run, Outcome]],
) -> tuple[Rates, list[Row]]:
    """Return the best rates, and the rows that tell how they were found."""
    found = Search(setting, rules)
    outcomes = measure(found.runs())
    return found.rates(outcomes), found.rows(outcomes)


def _name(rule: str, *, mixed: bool) -> str:
    return f"{rule}, {'mixed' if mixed else 'equal'} ranks"

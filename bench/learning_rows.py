"""The rows that federations make: gap closed, against each institute alone, and rule by rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import msgspec

from bench.learning_runs import Outcome, Run, Setting, fleet
from bench.report import Row, above, at_least, below, checked, told
from bench.spread import interval, spread_text

RULES = ("stack_svd", "fedit", "flexlora", "raflora", "fedsvd", "freeze_a")
STRATEGIES = ("fedavg", "fedavgm")
_OURS, _OTHERS = RULES[0], RULES[1:]
_LOSS = "nats/token"


@dataclass(frozen=True)
class Rates:
    """AdamW's rate of each kind of run.

    Attributes:
        equal, mixed: of each rule, by fleet.
        central: of all institutes' text in one place.
        alone: of one institute.
        strategy: the better one for our rule at equal ranks, of `STRATEGIES`.
        strategy_rate: with that.
    """

    equal: Mapping[str, float]
    mixed: Mapping[str, float]
    central: float
    alone: float
    strategy: str
    strategy_rate: float


#: For a look at the bench itself, which finds its rates otherwise (`bench.learning_rates`).
QUICK_RATES = Rates(
    equal=dict.fromkeys(RULES, 1e-2),
    mixed=dict.fromkeys(RULES, 1e-2),
    central=2.5e-3,
    alone=2.5e-3,
    strategy="fedavg",
    strategy_rate=1e-2,
)


class Plan:
    """Which runs the parts need, and what they came to.

    Args:
        setting: of all runs.
        seeds: of each kind of run.
        rates: of each kind of run.
    """

    def __init__(self, setting: Setting, seeds: Sequence[int], rates: Rates) -> None:
        self.setting = setting
        self.seeds = seeds
        self.rates = rates

    def base(self) -> Run:
        """Return the run that trains nothing."""
        return Run(kind="base", seed=0)

    def federated(self, rule: str, seed: int, *, mixed: bool) -> Run:
        """Return a fleet's run."""
        rates = self.rates.mixed if mixed else self.rates.equal
        return Run(kind="federated", seed=seed, lr=rates[rule], rule=rule, mixed=mixed)

    def best(self, seed: int, *, mixed: bool = False) -> Run:
        """Return our rule's run: at equal ranks with the better strategy."""
        if mixed:
            return self.federated(_OURS, seed, mixed=True)
        rates = self.rates
        return Run(
            kind="federated",
            seed=seed,
            lr=rates.strategy_rate,
            rule=_OURS,
            strategy=rates.strategy,
        )

    def central(self, seed: int, *, mixed: bool) -> Run:
        """Return as many steps as a fleet takes together, on the text of those that train."""
        devices = fleet(self.setting, Run(kind="federated", seed=seed, mixed=mixed))
        names = tuple(one.name for one in devices if one.trains)
        steps = len(names) * self.setting.rounds * self.setting.steps
        return Run(
            kind="alone",
            seed=seed,
            lr=self.rates.central,
            institutes=tuple(sorted(names)),
            steps=steps,
        )

    def wide(self, seed: int) -> Run:
        """Return as many steps as one device takes, each of the batches of all six at once."""
        run = self.central(seed, mixed=False)
        steps = self.setting.rounds * self.setting.steps
        return msgspec.structs.replace(run, steps=steps, times=len(run.institutes))

    def alone(self, institute: str, seed: int) -> Run:
        """Return an institute's own steps of a federation, without the others."""
        steps = self.setting.rounds * self.setting.steps
        return Run(
            kind="alone", seed=seed, lr=self.rates.alone, institutes=(institute,), steps=steps
        )

    def gap_runs(self) -> list[Run]:
        """Return the runs of `gap_rows`."""
        both = [(seed, mixed) for seed in self.seeds for mixed in (False, True)]
        return [
            self.base(),
            *(self.best(seed, mixed=mixed) for seed, mixed in both),
            *(self.central(seed, mixed=mixed) for seed, mixed in both),
            *(self.wide(seed) for seed in self.seeds),
        ]

    def alone_runs(self) -> list[Run]:
        """Return the runs of `alone_rows`."""
        return [
            *(self.best(seed) for seed in self.seeds),
            *(self.alone(one, seed) for seed in self.seeds for one in self.setting.institutes),
        ]

    def rules_runs(self) -> list[Run]:
        """Return the runs of `rules_rows`."""
        return [
            self.federated(rule, seed, mixed=mixed)
            for mixed in (True, False)
            for seed in self.seeds
            for rule in RULES
        ]


def gap_rows(plan: Plan, outcomes: Mapping[Run, Outcome]) -> list[Row]:
    """Return how much of what central training gains the federation gains, for both fleets."""
    base = outcomes[plan.base()].loss
    rows = [told("base, held-out loss of all six institutes", base, _LOSS)]
    how = f"{plan.rates.strategy}, lr {plan.rates.strategy_rate:g}"
    rows.append(told("all LoRA r=16: strategy", how))
    for mixed, name in ((False, "all LoRA r=16"), (True, "mixed fleet")):
        federated = [outcomes[plan.best(s, mixed=mixed)].loss for s in plan.seeds]
        central = [outcomes[plan.central(s, mixed=mixed)].loss for s in plan.seeds]
        gaps = [(base - f) / (base - c) for f, c in zip(federated, central, strict=True)]
        figure = f"{name}: gap closed"
        steps = plan.central(plan.seeds[0], mixed=mixed).steps
        rows += [
            told(f"{name}: federated", spread_text(federated), _LOSS),
            told(f"{name}: central, {steps} steps in one run", spread_text(central), _LOSS),
            told(figure, fmean(gaps)) if mixed else at_least(figure, fmean(gaps), "", 0.9),
            told(f"{figure}, over seeds", spread_text(gaps)),
        ]
    together = [outcomes[plan.best(seed)].loss for seed in plan.seeds]
    wide = [outcomes[plan.wide(seed)].loss for seed in plan.seeds]
    gaps = [(base - f) / (base - c) for f, c in zip(together, wide, strict=True)]
    steps = plan.wide(plan.seeds[0]).steps
    return [
        *rows,
        told(f"central, {steps} steps of six batches", spread_text(wide), _LOSS),
        told("all LoRA r=16: gap closed to that", spread_text(gaps)),
    ]


def alone_rows(plan: Plan, outcomes: Mapping[Run, Outcome]) -> list[Row]:
    """Return the federation's loss against each institute's own training, on its own held-out text.

    Beside that stands the loss on all institutes' text, which is what a model for all is for.
    """
    names = plan.setting.institutes
    together = [outcomes[plan.best(seed)] for seed in plan.seeds]
    alone = {name: [outcomes[plan.alone(name, seed)] for seed in plan.seeds] for name in names}
    rows, mine, ours = [], [], []
    for name in names:
        mine.append(fmean(one.losses[name] for one in alone[name]))
        ours.append(fmean(one.losses[name] for one in together))
        rows.append(told(f"{name} alone, on its own text", mine[-1], _LOSS))
        rows.append(told(f"{name}: the federation's, same text", ours[-1], _LOSS))
    gains = [a - b for a, b in zip(mine, ours, strict=True)]
    whole = [fmean(one.loss for one in alone[name]) for name in names]
    federated = fmean(one.loss for one in together)
    return [
        *rows,
        above("own text: alone minus federated, mean of the six", fmean(gains), _LOSS, 0.0),
        below("own text: federated, worst institute", max(ours), _LOSS, max(mine)),
        told("own text: alone minus federated, least of the six", min(gains), _LOSS),
        above("all text: alone, mean of the six", fmean(whole), _LOSS, federated),
        above("all text: alone, best of the six", min(whole), _LOSS, federated),
    ]


def rules_rows(plan: Plan, outcomes: Mapping[Run, Outcome]) -> list[Row]:
    """Return each rule's loss in both fleets, and ours against the others, paired over seeds."""
    rows = []
    for mixed, name in ((True, "mixed ranks"), (False, "equal ranks")):
        losses = {
            rule: [outcomes[plan.federated(rule, seed, mixed=mixed)].loss for seed in plan.seeds]
            for rule in RULES
        }
        rates = plan.rates.mixed if mixed else plan.rates.equal
        for rule, found in losses.items():
            rows.append(told(f"{name}: {rule}, lr {rates[rule]:g}", spread_text(found), _LOSS))
        others = _OTHERS if mixed else [min(_OTHERS, key=lambda rule: fmean(losses[rule]))]
        for rule in others:
            rows.append(_compared(name, rule, losses[_OURS], losses[rule], better=mixed))
    return rows


def _compared(
    name: str, rule: str, ours: Sequence[float], theirs: Sequence[float], *, better: bool
) -> Row:
    """Return ours less theirs: the interval below zero if ours must be better, else reaching it."""
    mean, low, high = interval([a - b for a, b in zip(ours, theirs, strict=True)])
    figure = f"{name}: {_OURS} minus {rule if better else f'the best other ({rule})'}, 95 %"
    value = f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"
    must, ok = ("interval < 0", high < 0) if better else ("not above 0", low <= 0)
    return checked(figure, value, _LOSS, must, ok)

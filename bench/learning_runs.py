"""One run of the learning bench: a federation, or as many steps in one place; and its losses.

Runs don't depend on one another, so they are shared among processes of one thread each, and an
outcome that was kept is never measured again.
"""

import gc
import hashlib
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Literal

import msgspec

from bench.federation import Device, Federation
from bench.report import BenchError, say
from edge_agent.roles import catalogue
from edge_agent.training.bases import open_base
from edge_agent.training.contract import Base, Placed, Trained
from edge_agent.training.data import read
from edge_agent.training.drawn import training_rows
from edge_agent.training.evaluate import evaluate
from edge_agent.training.start import PackedStart
from edge_agent.training.tokens import Row
from edge_agent.training.train import train
from hub.hash_cache import HashCache
from hub.job_parts import CohortPart, LocalPart, LoraPart, ModelPart, PromptPart, ServerPart
from hub.jobs import JobFile
from hub.models import load_model
from wire.manifest import AdapterManifest
from wire.messages import LocalWork
from wire.messages.plan import Role

RANK = 16
#: Of the mixed fleet; the two institutes left train a prompt, and nothing.
RANKS = (2, 4, 8, 16)
_PROCESSES = 2
#: What strategies are set to. FedAvgM's own momentum, 0.9, lets a difference count ten times in the
#: long run, which takes tens of rounds; in so few as here it counts twice.
SERVERS = {"fedavg": ServerPart(), "fedavgm": ServerPart(lr=1.0, momentum=0.5)}


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What all runs of a table have in common.

    ``held_out`` is how many examples of each institute a final loss is taken on, ``glance`` how
    many after each round.
    """

    base: str  # folder
    data: str  # folder of the institutes
    rounds: int = 8
    steps: int = 10  # of each device in a round
    batch: int = 2
    seq_len: int = 64
    held_out: int = 24
    glance: int = 4

    @property
    def institutes(self) -> list[str]:
        """The institutes by name, sorted."""
        names = [one.name for one in Path(self.data).glob("*.train.jsonl")]
        return sorted(name.removesuffix(".train.jsonl") for name in names)

    def train_file(self, institute: str) -> Path:
        """Return what an institute trains on."""
        return Path(self.data) / f"{institute}.train.jsonl"

    def test_file(self, institute: str) -> Path:
        """Return what is held out from it."""
        return Path(self.data) / f"{institute}.test.jsonl"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    ``base``: no training. ``federated``: a fleet by a rule. ``alone``: LoRA of the full rank with
    one optimiser on the text of some institutes, mixed.
    """

    kind: Literal["base", "federated", "alone"]
    seed: int
    lr: float = 0.0
    rule: str = ""
    mixed: bool = False  # ranks, a prompt and an infer device; else all LoRA of one rank
    strategy: str = "fedavg"
    institutes: tuple[str, ...] = ()  # of ``alone``
    steps: int = 0  # of ``alone``
    times: int = 1  # that the setting's batch is taken, of ``alone``

    @property
    def title(self) -> str:
        """The run in words."""
        if self.kind == "federated":
            fleet = "mixed" if self.mixed else "equal"
            return f"{self.rule} {fleet} {self.strategy} lr={self.lr:g} seed {self.seed}"
        return f"{self.kind} {len(self.institutes)} lr={self.lr:g} seed {self.seed}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to, in nats per token.

    ``losses`` and ``tokens`` are by institute, ``curve`` over all after each round, on fewer
    examples.
    """

    losses: dict[str, float]
    tokens: dict[str, int]
    curve: list[float] = []
    update_bytes: float = 0.0  # of an update, in the mean

    @property
    def loss(self) -> float:
        """The mean over all institutes' held-out tokens."""
        total = sum(loss * self.tokens[name] for name, loss in self.losses.items())
        return total / sum(self.tokens.values())


def fleet(setting: Setting, run: Run) -> list[Device]:
    """Return the devices of a run; in a mixed fleet who has which role turns with the seed."""
    names = setting.institutes
    if not run.mixed:
        return [Device(name, "lora", RANK, (setting.train_file(name),)) for name in names]
    if len(names) != len(RANKS) + 2:
        raise BenchError(
            f"a mixed fleet has {len(RANKS) + 2} institutes; {setting.data} has {len(names)}."
        )
    turn = run.seed % len(names)
    found: list[Device] = []
    for place, name in enumerate(names[turn:] + names[:turn]):
        if place < len(RANKS):
            found.append(Device(name, "lora", RANKS[place], (setting.train_file(name),)))
        else:
            role: Role = "prompt" if place == len(RANKS) else "infer"
            found.append(Device(name, role, 0, (setting.train_file(name),)))
    return found


def job_of(setting: Setting, run: Run) -> JobFile:
    """Return the job file of a federated run."""
    return JobFile(
        job="learning",
        model=ModelPart(base=setting.base),
        method="lora+prompt" if run.mixed else "lora",
        lora=LoraPart(rank=RANK),
        prompt=PromptPart(tokens=8),
        strategy=run.strategy,
        server=SERVERS[run.strategy],
        rule=run.rule,
        rounds=setting.rounds,
        cohort=CohortPart(min=1),
        local=LocalPart(
            steps=setting.steps,
            batch=setting.batch,
            seq_len=setting.seq_len,
            min_seq_len=min(setting.seq_len, 128),
            lr=run.lr,
        ),
        seed=run.seed,
    )


def measure(setting: Setting, run: Run) -> Outcome:
    """Do a run in this process, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="lorikeet-bench-run-") as folder:
        return _Measuring(setting, run, Path(folder)).outcome()


class _Measuring:
    """A run, and the base that its adapters are judged on."""

    def __init__(self, setting: Setting, run: Run, folder: Path) -> None:
        self._setting, self._run = setting, run
        model = load_model(setting.base, HashCache(folder / "hashes.json"))
        self._base: Base = open_base(Path(setting.base), "resident")
        shown = run if run.kind == "federated" else msgspec.structs.replace(run, rule="stack_svd")
        job = job_of(setting, shown)
        self._federation = Federation(job, model, fleet(setting, shown), folder)
        self._rows = {name: self._examples(name) for name in setting.institutes}

    def outcome(self) -> Outcome:
        """Train and judge."""
        run, curve = self._run, list[float]()
        if run.kind == "federated":
            self._federation.run(lambda _: curve.append(self._glance()))
            placed = self._placed(Trained())
        elif run.kind == "alone":
            placed = self._trained_alone()
        else:
            placed = self._placed(Trained())
        losses, tokens = self._judge(placed, self._setting.held_out)
        sizes = self._federation.bytes_up
        return Outcome(
            losses=losses,
            tokens=tokens,
            curve=curve,
            update_bytes=sum(sizes) / len(sizes) if sizes else 0.0,
        )

    def _trained_alone(self) -> Placed:
        setting, run = self._setting, self._run
        placed = self._placed(Trained(rank=RANK))
        work = LocalWork(
            steps=run.steps,
            batch=setting.batch * run.times,
            seq_len=setting.seq_len,
            optimizer="adamw",
            lr=run.lr,
            seed=run.seed,
        )
        files = [str(setting.train_file(name)) for name in run.institutes]
        rows = training_rows(self._base.encoder, files, work)
        train(placed, rows, work, catalogue()["lora"].weight_decay, lambda *_: None)
        return placed

    def _placed(self, trained: Trained) -> Placed:
        """Return the federation's adapter in place."""
        files = self._federation.files()
        manifest = AdapterManifest.decode(files.manifest.read_bytes())
        paths = {sha256: Path(path) for sha256, path in files.parts.items()}
        return self._base.place(PackedStart(manifest, paths), trained)

    def _glance(self) -> float:
        placed = self._placed(Trained())
        losses, tokens = self._judge(placed, self._setting.glance)
        return Outcome(losses=losses, tokens=tokens).loss

    def _judge(self, placed: Placed, most: int) -> tuple[dict[str, float], dict[str, int]]:
        variant = "base" if self._run.kind == "base" else "adapter"
        losses, tokens = {}, {}
        for name, rows in self._rows.items():
            found = evaluate(placed, rows[:most], [variant], self._setting.batch, lambda _: None)
            if not found:
                raise BenchError(f"{self._run.title}: no finite loss on {name}.")
            losses[name], tokens[name] = found[0].loss, found[0].tokens
        return losses, tokens

    def _examples(self, institute: str) -> list[Row]:
        examples = [one for one in read([self._setting.test_file(institute)]) if one is not None]
        return self._base.encoder.rows(examples, self._setting.seq_len)


def measure_all(setting: Setting, runs: Collection[Run], kept: Path) -> dict[Run, Outcome]:
    """Return the outcome of each run.

    Args:
        setting: of all.
        runs: in any order; each is done once.
        kept: folder of outcomes: those that are there aren't measured again.
    """
    kept.mkdir(parents=True, exist_ok=True)
    places = {run: kept / f"{_digest(setting, run)}.json" for run in runs}
    waiting = [run for run, place in places.items() if not place.exists()]
    say(f"{len(waiting)} runs, {len(places) - len(waiting)} more are known")
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_PROCESSES, context, _begin) as pool:
        futures = {pool.submit(measure, setting, run): run for run in waiting}
        for number, future in enumerate(as_completed(futures), start=1):
            run, outcome = futures[future], future.result()
            _write(places[run], outcome)
            seconds = time.monotonic() - began
            say(f"{number}/{len(waiting)} {seconds:.0f} s: {run.title}: {outcome.loss:.4f}")
    return {
        run: msgspec.json.decode(place.read_bytes(), type=Outcome) for run, place in places.items()
    }


def _begin() -> None:
    """Make a process ready: one thread, and what is imported is never searched for garbage.

    A worker collects after each task, which takes a tenth of a second with torch in memory.
    """
    import torch
    import transformers  # noqa: F401 - now, so that it is among what isn't searched

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


def _write(place: Path, outcome: Outcome) -> None:
    """Put an outcome where it is kept; whole or not at all."""
    draft = place.with_suffix(f".{os.getpid()}")
    draft.write_bytes(msgspec.json.encode(outcome))
    shutil.move(draft, place)


def _digest(setting: Setting, run: Run) -> str:
    return hashlib.sha256(msgspec.json.encode([setting, run])).hexdigest()[:24]


Measure = Callable[[Sequence[Run]], dict[Run, Outcome]]

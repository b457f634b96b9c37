"""Training without backprop against backprop, on the same cores and for as many forward passes.

The demo's base and its devices' text. A backward pass counts two, so that a step of backprop is
three passes, and a direction is two, with one more wherever the rows are new. Backprop has the best
of some learning rates, by the very loss that is compared: the honest side to err on. An adapter is
either fresh, or the hub's after the five other devices trained LoRA for some rounds.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import msgspec
import torch

from bench.federation import Device, Federation
from bench.report import Row, at_least, at_most, say, skipped, told
from edge_agent.protocol import Cleaning
from edge_agent.training.bases import open_base
from edge_agent.training.contract import Base, Placed, Trained
from edge_agent.training.drawn import held_out_rows, training_rows
from edge_agent.training.evaluate import evaluate
from edge_agent.training.forward_only import train as train_forward
from edge_agent.training.placed_cores import PlacedCores
from edge_agent.training.start import FreshStart, PackedStart, Start
from edge_agent.training.tokens import Row as Tokens
from edge_agent.training.train import train
from hub.aggregation.check import reach
from hub.demo.base import cached_base
from hub.demo.texts import write_device_texts
from hub.hash_cache import HashCache
from hub.job_parts import ForwardPart
from hub.jobs import parse_job
from hub.models import load_model
from wire.forward_only import VERSION, pack_steps
from wire.manifest import AdapterManifest
from wire.messages import ForwardOnly, LocalWork

RANK, SEQ_LEN = 16, 256
#: Sequences of a pass, on both sides.
BATCH = 8
RATES = (0.01, 0.02, 0.04)
SEEDS = (1, 2, 3)
ROUNDS = 3  # of the others
_PART = ForwardPart()


@dataclass(frozen=True)
class Gain:
    """By how much the held-out loss fell, in nats a token, and what would travel."""

    forward: float
    backprop: float
    payload_bytes: int

    @property
    def share(self) -> float:
        """Of backprop's gain."""
        return self.forward / self.backprop


def forward_rows(*, quick: bool) -> list[Row]:
    """Return the share of backprop's gain and the payload, fresh and after others' rounds."""
    with TemporaryDirectory() as folder:
        texts = [one.path for one in write_device_texts(Path(folder) / "texts")]
        base = open_base(cached_base(), "streamed")
        try:
            fresh = [_fresh(base, texts[0], seed, quick=quick) for seed in _seeds(quick=quick)]
            later: list[Gain] = []
            if not quick:
                start = _after_others(Path(folder), texts[1:])
                later = [_gain(base, start, texts[0], seed, quick=quick) for seed in SEEDS]
        finally:
            base.close()
    after = "forward-only core, after others' rounds of backprop: gain over backprop's"
    return [
        at_least(
            "forward-only core of a fresh adapter: gain over backprop's, for as many passes",
            100 * mean(one.share for one in fresh),
            "%",
            30,
            aim=50,
        ),
        told(after, 100 * mean(one.share for one in later), "%")
        if later
        else skipped(after, "%", ""),
        at_most(
            "forward-only core: upload of a round",
            max(one.payload_bytes for one in fresh + later),
            "bytes",
            1024,
        ),
    ]


def _seeds(*, quick: bool) -> tuple[int, ...]:
    return SEEDS[:1] if quick else SEEDS


def _fresh(base: Base, text: Path, seed: int, *, quick: bool) -> Gain:
    start = FreshStart(base.targets, RANK, 0, base.hidden_size, seed)
    return _gain(base, start, text, seed, quick=quick)


def _gain(base: Base, start: Start, text: Path, seed: int, *, quick: bool) -> Gain:
    directions = _PART.steps
    passes = 2 * directions + -(-directions // _PART.fresh)
    work = LocalWork(
        steps=directions,
        batch=BATCH,
        seq_len=SEQ_LEN,
        optimizer="adamw",
        lr=0.0,
        seed=seed,
        trains="core",
        forward=ForwardOnly(
            version=VERSION,
            epsilon=_PART.epsilon,
            fresh=_PART.fresh,
            reach=reach(0.003, 20),
        ),
    )
    held_out = held_out_rows(base.encoder, [str(text)], SEQ_LEN, Cleaning())
    rows = training_rows(base.encoder, [str(text)], _with(work, steps=passes), Cleaning())
    trained = Trained(rank=_PART.side, factors="core")

    placed = base.place(start, trained)
    before = _loss(placed, held_out)
    session = PlacedCores(placed, start, BATCH)
    done = train_forward(session, rows, session.sides, work, lambda *_: None)
    gained = before - _loss(placed, held_out)
    backprop = []
    for rate in RATES[1:2] if quick else RATES:
        placed = base.place(start, trained)
        train(placed, rows, _with(work, steps=passes // 3, lr=rate), 0.0, lambda *_: None)
        backprop.append(before - _loss(placed, held_out))
    found = Gain(gained, max(backprop), len(pack_steps(done.steps)))
    say(
        f"{start.name}, seed {seed}: {before:.4f}, {passes} passes: forward-only -{gained:.4f}, "
        f"backprop {', '.join(f'-{one:.4f}' for one in backprop)}"
    )
    return found


def _with(work: LocalWork, *, steps: int, lr: float = 0.0) -> LocalWork:
    return msgspec.structs.replace(work, steps=steps, lr=lr)


def _loss(placed: Placed, held_out: list[Tokens]) -> float:
    with torch.no_grad():
        return evaluate(placed, held_out, ["adapter"], 4, lambda _: None)[0].loss


def _after_others(folder: Path, texts: list[Path]) -> Start:
    """Return the hub's adapter after some rounds in which the other devices trained LoRA."""
    base = cached_base()
    job = parse_job(
        f"job: forward\nmodel: {{base: {base}}}\nseed: 7\nrounds: {ROUNDS}\n"
        f"lora: {{rank: {RANK}}}\n"
        f"local: {{steps: 12, batch: 8, seq_len: {SEQ_LEN}, lr: 0.003}}\n"
    )
    devices = [Device(f"d{at}", "lora", RANK, (text,)) for at, text in enumerate(texts)]
    federation = Federation(
        job,
        load_model(str(base), HashCache(folder / "hashes.json")),
        devices,
        folder / "federation",
    )
    federation.run(lambda round_: say(f"round {round_} of the others"))
    files = federation.files()
    manifest = AdapterManifest.decode(files.manifest.read_bytes())
    return PackedStart(manifest, {sha: Path(path) for sha, path in files.parts.items()})

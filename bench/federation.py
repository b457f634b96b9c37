"""A job's rounds in one process: the devices' own code and the hub's own, without a broker.

Devices train one after the other through the worker's `Tasks`, as an offer would have them do, and
what they pack is combined by `combine_round`, from blobs to blobs. Left out is what stands between:
messages, scheduling, deadlines. So losses are those of a real job whose devices all deliver.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from bench.adapter_files import AdapterFiles
from bench.report import BenchError
from edge_agent.errors import AgentError
from edge_agent.protocol import Event, Feedback, Finished, Work
from edge_agent.training.task import Tasks
from hub.aggregation.contract import Trained
from hub.aggregation.rules import orders, product_rule
from hub.jobs import JobFile
from hub.models import BaseModel
from hub.rounds.actions import Combine
from hub.rounds.adapters import Adapters
from hub.rounds.asked import counted_tokens, forward_of, local_seed, trains_of
from hub.rounds.combining import combine_round
from hub.rounds.job_run import start_manifest
from hub.rounds.state import Update
from hub.scheduling.codec_choice import choose_codec
from hub.scheduling.contract import FORWARD_ONLY
from wire.blobs import BlobStore
from wire.codecs import catalogue
from wire.messages import LocalWork
from wire.messages.plan import Role

#: On which rung each role is done here: the fastest for a base that fits into memory.
RUNGS: dict[Role, str] = {
    "lora": "resident",
    "full": "resident",
    "prompt": "prompt",
    "infer": "infer",
}


@dataclass(frozen=True)
class Device:
    """One device of a fleet.

    Attributes:
        name: as its updates are called.
        role: what it does in every round.
        rank: of its LoRA factors, or the side of its cores; 0 for other roles.
        data: files of its private text. A device that infers trains without backprop, if it has a
            side and the job has a ``local.forward``.
    """

    name: str
    role: Role
    rank: int
    data: tuple[Path, ...]

    @property
    def trains(self) -> bool:
        """Whether it sends updates."""
        return self.role != "infer" or self.rank > 0

    @property
    def rung(self) -> str:
        """On which it trains here."""
        return FORWARD_ONLY if self.role == "infer" and self.rank else RUNGS[self.role]


class Federation:
    """A job and its devices.

    Args:
        job: with a seed.
        base: its model.
        devices: of the fleet; those that don't train are passed over.
        folder: for blobs and updates; made.
    """

    def __init__(
        self, job: JobFile, base: BaseModel, devices: Sequence[Device], folder: Path
    ) -> None:
        if job.seed is None:
            raise BenchError("a job without a seed is another one each time; set seed.")
        if job.chosen_strategy().local.control is not None or job.local.adversarial is not None:
            raise BenchError("control variates and adversarial steps are not simulated here.")
        self._job, self._seed, self._base, self._folder = job, job.seed, base, folder
        self._devices = sorted((one for one in devices if one.trains), key=lambda one: one.name)
        self._store = BlobStore(folder / "blobs")
        self._adapters = Adapters(self._store)
        self._rule = product_rule(job.rule)
        self._strategy = job.chosen_strategy()
        self._start = start_manifest(job, base)
        self.adapter = self._adapters.begin(
            self._start, self._seed, job.codec, ordered=orders(self._rule)
        )
        self._state: str | None = None
        self._finished: Finished | None = None
        # Resident and streamed rungs hold a base each, so that none is loaded again and again.
        self._tasks = {
            rung: Tasks(self._take, lambda _: False) for rung in (*RUNGS.values(), FORWARD_ONLY)
        }
        self._last: dict[str, str] = {}  # each device's last accepted task
        self.bytes_up: list[int] = []  # of each update
        self.bytes_down: list[int] = []  # of each round's broadcast: what changed, or the whole

    def files(self) -> AdapterFiles:
        """Return the current adapter as files, whole."""
        parts = self._adapters.manifest(self.adapter).parts
        return AdapterFiles(
            self._path(self.adapter), {one.sha256: str(self._path(one.sha256)) for one in parts}
        )

    def run(self, on_round: Callable[[int], None]) -> None:
        """Do all rounds; ``on_round`` is told of each when it has ended."""
        for round_ in range(1, self._job.rounds + 1):
            updates = tuple(self._update(one, round_) for one in self._devices)
            combined = combine_round(
                self._store,
                self._adapters,
                Combine(round=round_, start=self.adapter, state=self._state, updates=updates),
                rule=self._job.rule,
                strategy=self._strategy,
                trained=lambda one, at: Trained(
                    one.device,
                    counted_tokens(one, self._job.local, self._start),
                    one.staleness(at),
                    steps=one.steps,
                    lr=self._lr(one.role),
                    momentum=self._job.local.momentum,
                ),
                codec=self._job.codec,
                seed=self._seed,
            )
            self.adapter, self._state = combined.manifest, combined.state
            sent = self._adapters.files(self.adapter).values()
            self.bytes_down.append(sum(path.stat().st_size for path in sent))
            on_round(round_)

    def _update(self, device: Device, round_: int) -> Update:
        """Train a device on the current adapter; return its update, as the hub would accept it."""
        rung, files = device.rung, self.files()
        task = f"{self._job.job}.{round_}.{device.name}"
        local = self._job.local
        forward = local.forward if rung == FORWARD_ONLY else None
        lora = device.role in ("lora", "infer")
        work = LocalWork(
            steps=forward.steps if forward else local.steps,
            batch=forward.batch if forward else local.batch,
            seq_len=local.seq_len,
            optimizer=local.optimizer,
            lr=self._lr(device.role),
            seed=local_seed(self._seed, round_),
            momentum=local.momentum,
            weight_decay=local.weight_decay,
            schedule=local.schedule,
            warmup_steps=local.warmup_steps,
            clip=local.clip,
            proximal_mu=self._strategy.local.proximal_mu,
            trains=trains_of(self._rule, rung, round_) if lora else "both",
            rest=self._rule.rest if lora else "frozen",
            forward=forward_of(local) if forward else None,
        )
        self._finished = None
        try:
            self._tasks[rung].run(
                Work(
                    task=task,
                    role=device.role,
                    rung=rung,
                    rank=device.rank,
                    base_folder=str(self._base.folder),
                    manifest=str(files.manifest),
                    parts=files.parts,
                    data=[str(path) for path in device.data],
                    codec=self._codec(device),
                    out=str(self._folder / "updates" / device.name),
                    batch=local.batch,
                    seq_len=local.seq_len,
                    work=work,
                    feedback=Feedback(
                        folder=str(self._folder / "residuals" / device.name),
                        accepted=self._last.get(device.name, ""),
                    ),
                )
            )
        except AgentError as error:
            raise BenchError(f"{task}: {error}") from error
        done: Finished | None = self._finished
        if done is None or done.update is None or done.train is None:
            raise BenchError(f"{task} ended without an update.")
        packed = Path(done.update).read_bytes()
        self.bytes_up.append(len(packed))
        self._last[device.name] = task
        return Update(
            device=device.name,
            round=round_,
            start=self.adapter,
            sha256=self._store.put(packed),
            size_bytes=len(packed),
            role=device.role,
            rank=device.rank,
            rung=rung,
            tokens=done.train.tokens,
            steps=work.steps,
            train=done.train,
            download_s=0.0,
            upload_s=0.0,
            peak_bytes=0,
        )

    def _take(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._finished = event

    def _lr(self, role: Role) -> float:
        return self._job.prompt.lr if role == "prompt" else self._job.local.lr

    def _codec(self, device: Device) -> str:
        if device.rung == FORWARD_ONLY:
            return "raw"
        manifest = self._adapters.manifest(self.adapter)
        shapes = {
            "lora": manifest.expected_lora(device.rank),
            "full": manifest.expected_full(),
            "prompt": manifest.expected_prompt(),
        }[device.role]
        numbers = sum(prod(shape) for shape in shapes.values())
        known = {name: one.bits_per_parameter for name, one in catalogue().items()}
        biased = [name for name, one in catalogue().items() if one.biased]
        chosen, why = choose_codec(
            self._job.codec, hub=known, device=known, parameters=numbers, biased=biased
        )
        if chosen is None:
            raise BenchError(why)
        return chosen

    def _path(self, sha256: str) -> Path:
        path = self._store.path(sha256)
        if path is None:
            raise BenchError(f"blob {sha256[:12]} is gone from {self._store.folder}.")
        return path

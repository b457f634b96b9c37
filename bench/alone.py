"""What would each device reach alone? As many steps as in the federation, on its own text only.

Everything else is as in the job: the same worker, role, rank, batch, length, learning rate and
seed, and the adapter that the job began with. The steps are one run, so the optimiser never starts
anew, which is in favour of training alone. Each result is then measured on the held-out text of
all six devices, with and without the soft prompt, and the better loss counts.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from bench.adapter_files import (
    AdapterFiles,
    peft_tensors,
    read_manifest,
    start_adapter,
    trained_alone,
    write_adapter,
)
from bench.demo_run import DemoRun, role_text
from bench.report import BenchError, Row, above, say, skipped, told
from bench.worker_session import WorkerSession
from edge_agent.protocol import Work
from hub.demo.summary import DeviceSummary
from hub.demo.texts import write_device_texts
from hub.jobs import JobFile, parse_job
from wire.messages import LocalWork

_LOSS = "nats/token"
_WORKERS = 2


class Alone:
    """Trains and measures with the files of one finished demo.

    Args:
        run: the demo.
        folder: for texts, adapters and updates.
    """

    def __init__(self, run: DemoRun, folder: Path) -> None:
        self._run = run
        self._folder = folder
        self._job: JobFile = parse_job((run.folder / "job.yaml").read_text())
        texts = write_device_texts(folder / "texts")
        devices = run.summary.devices
        for device, text in zip(devices, texts, strict=True):
            if device.packages != text.packages:
                raise BenchError(f"{device.id} read {device.packages}, not {text.packages}.")
        self._texts = {one.id: str(text.path) for one, text in zip(devices, texts, strict=True)}
        self._start = start_adapter(run.folder, run.summary, folder / "start")

    def federated_loss(self, worker: WorkerSession) -> float:
        """Return the published adapter's loss on all held-out text."""
        tensors = peft_tensors(self._run.folder / self._run.summary.adapter)
        files = write_adapter(tensors, read_manifest(self._start), self._folder / "federated")
        return self._losses(worker, "federated", files, ["adapter"])["adapter"]

    def loss_of(self, worker: WorkerSession, device: DeviceSummary) -> float:
        """Train one device alone; return its better loss on all held-out text."""
        update = self._train(worker, device)
        tensors = trained_alone(self._start, update, device.role, device.rank)
        folder = self._folder / "alone" / device.id
        files = write_adapter(tensors, read_manifest(self._start), folder)
        losses = self._losses(worker, device.id, files, ["adapter", "without_prompt"])
        say(f"{device.id} alone, {device.steps} steps: {losses}")
        return min(losses.values())

    def _train(self, worker: WorkerSession, device: DeviceSummary) -> Path:
        prompt = device.role == "prompt"
        work = LocalWork(
            steps=device.steps,
            batch=device.batch,
            seq_len=device.seq_len,
            optimizer=self._job.local.optimizer,
            lr=self._job.prompt.lr if prompt else self._job.local.lr,
            seed=self._run.summary.seed * 1_000_003 + 1,  # as in the job's first round
        )
        text = self._texts[device.id]
        _, finished = worker.do(
            self._work(
                task=device.id,
                device=device,
                adapter=self._start,
                text=text,
                work=work,
                variants=[],
            )
        )
        if finished.update is None:
            raise BenchError(f"{device.id} alone ended without an update.")
        return Path(finished.update)

    def _losses(
        self, worker: WorkerSession, name: str, files: AdapterFiles, variants: list[str]
    ) -> dict[str, float]:
        """Return the token-weighted mean loss of each variant over all devices' held-out text."""
        totals, tokens = dict.fromkeys(variants, 0.0), 0
        judge = next(one for one in self._run.summary.devices if one.role == "infer")
        for device, text in self._texts.items():
            work = self._work(
                task=f"{name}-on-{device}",
                device=judge,
                adapter=files,
                text=text,
                work=None,
                variants=variants,
            )
            found, _ = worker.do(work)
            for one in found:
                totals[one.variant] += one.loss * one.tokens
            tokens += found[0].tokens
        return {variant: total / tokens for variant, total in totals.items()}

    def _work(
        self,
        *,
        task: str,
        device: DeviceSummary,
        adapter: AdapterFiles,
        text: str,
        work: LocalWork | None,
        variants: list[str],
    ) -> Work:
        return Work(
            task=task,
            role=device.role,  # type: ignore[arg-type]  # the summary's roles are those of plans
            rung=device.rung,
            rank=device.rank,
            base_folder=self._job.model.base,
            manifest=str(adapter.manifest),
            parts=adapter.parts,
            data=[text],
            codec="raw",
            out=str(self._folder / "updates" / task),
            batch=device.batch,
            seq_len=device.seq_len,
            work=work,
            variants=variants,
        )


def alone_rows(run: DemoRun, folder: Path, *, quick: bool) -> list[Row]:
    """Return the federated loss, and each training device's alone, which must be higher.

    Args:
        run: a finished demo.
        folder: for what is made on the way.
        quick: train only the first device, the one with the most memory.
    """
    alone = Alone(run, folder)
    devices = run.training_devices[:1] if quick else run.training_devices
    say(f"training {len(devices)} devices alone")
    losses, federated = _measure(alone, devices, folder)
    rows = [
        told("federated adapter on all held-out text", federated, _LOSS),
        told("the same as the devices reported it", run.last_loss, _LOSS),
    ]
    for one in run.training_devices:
        figure = f"{one.id} alone ({role_text(one)}, {one.steps} steps), same text"
        if one.id in losses:
            rows.append(above(figure, losses[one.id], _LOSS, federated))
        else:
            rows.append(skipped(figure, _LOSS, "> federated"))
    return rows


def _measure(
    alone: Alone, devices: Sequence[DeviceSummary], folder: Path
) -> tuple[Mapping[str, float], float]:
    """Share the devices among two workers of one thread each."""
    free: SimpleQueue[WorkerSession] = SimpleQueue()
    workers = [WorkerSession(1, folder / f"worker-{n}.log") for n in range(_WORKERS)]

    def job(device: DeviceSummary | None) -> float:
        worker = free.get()
        try:
            return alone.federated_loss(worker) if device is None else alone.loss_of(worker, device)
        finally:
            free.put(worker)

    with workers[0], workers[1], ThreadPoolExecutor(_WORKERS) as pool:
        for worker in workers:
            free.put(worker)
        federated = pool.submit(job, None)
        losses = dict(zip([one.id for one in devices], pool.map(job, devices), strict=True))
        return losses, federated.result()

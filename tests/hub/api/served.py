"""A hub in memory behind a real HTTP server: what the tests of the API and the CLI talk to."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hub.api.app import create_app
from hub.api.control import (
    ENDED,
    DerivedBase,
    DeviceDetail,
    DeviceSummary,
    DoorNote,
    HubStatus,
    Identity,
    JobDetail,
    JobEvent,
    JobSummary,
    Member,
    Round,
    TokenOrder,
    Tokens,
)
from hub.api.server import HttpServer
from hub.errors import ConflictError, NotFoundError
from hub.jobs import parse_job
from wire.messages import DeviceInfo, RungPlan

JOB = "job: notes\nmodel: {base: ./base}\nrounds: 2\n"
REASON = "fits 700 MB [peak 612 MB]"


class MemoryHub:
    """Keeps jobs in a dictionary; each look at a running job ends one more of its rounds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, JobDetail] = {}
        self.texts: list[str] = []
        self.ends_as = "done"
        self.manifest = b'{"files":[]}'
        self.derived_asked = 0
        self.blobs: dict[str, Path] = {}
        self.identity = Identity(
            state="cloned", key="ab" * 32, asked_ts=1.0, serial="4711", not_after_ts=86_400.0,
            days_left=42.0, reason="two live machines",
        )  # fmt: skip
        self.orders: list[TokenOrder] = []
        self.decisions: list[tuple[str, str, str]] = []
        self._lock = threading.Lock()

    def add_blob(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self.blobs[sha256] = self.folder / sha256
        self.blobs[sha256].write_bytes(data)
        return sha256

    def status(self) -> HubStatus:
        return HubStatus(version="0.1.0", peak_bytes=123)

    def metrics(self) -> bytes:
        return b"lorikeet_devices 1.0\n"

    def submit_job(self, text: str) -> JobSummary:
        self.texts.append(text)
        file = parse_job(text)
        if file.job in self.jobs:
            raise ConflictError(f"job is {file.job!r}; there is one of this name. Choose another.")
        summary = JobSummary(
            job=file.job,
            phase="open",
            method=file.method,
            base="tiny",
            round=0,
            rounds=file.rounds,
            base_loss=2.5,
            base_digest=hashlib.sha256(self.manifest).hexdigest(),
        )
        self.jobs[file.job] = JobDetail(summary=summary, file=text)
        return summary

    def cancel_job(self, job: str) -> JobSummary:
        self._change(job, phase="cancelled", reason="cancelled by the user")
        return self._find(job).summary

    def list_jobs(self) -> list[JobSummary]:
        return [job.summary for job in self.jobs.values()]

    def show_job(self, job: str) -> JobDetail:
        with self._lock:
            detail = self._find(job)
            if detail.summary.phase not in ENDED:
                self._advance(detail)
            return self._find(job)

    def list_devices(self) -> list[DeviceSummary]:
        return [self._device()]

    def show_device(self, device: str) -> DeviceDetail:
        if device != "clinic-1":
            raise NotFoundError(f"device is {device!r}; it was never seen.")
        plan = RungPlan(
            role="lora",
            rung="streamed",
            rank=8,
            batch=1,
            seq_len=128,
            predicted_peak_bytes=612_000_000,
            fits=True,
            reason=REASON,
        )
        info = DeviceInfo(
            session="s",
            ts=0.0,
            agent_version="0.1.0",
            wire_version=1,
            machine="x86_64",
            cores=2.0,
            memory_limit_bytes=700_000_000,
            memory_reason="--memory",
            codecs=["raw"],
            plans={"notes": plan},
        )
        return DeviceDetail(
            summary=self._device(), info=info, identity=self.identity, door=self.door()
        )

    def make_tokens(self, order: TokenOrder) -> Tokens:
        if order.count > 12:
            raise ConflictError("this hub enrols no devices; set enrolment.listen.")
        self.orders.append(order)
        return Tokens(
            tokens=[f"lk1.{n}" for n in range(order.count)],
            expires_ts=order.expires_s,
            preauthorised=order.preauthorised,
            url="https://hub.lan:8443",
            ca_sha256="ab",
        )

    def decide(self, device: str, what: str, reason: str) -> DeviceDetail:
        detail = self.show_device(device)
        self.decisions.append((device, what, reason))
        states = {"approve": "enrolled", "reject": "rejected", "revoke": "revoked"}
        self.identity = msgspec.structs.replace(self.identity, state=states[what], reason=reason)
        return msgspec.structs.replace(detail, identity=self.identity)

    def door(self) -> list[DoorNote]:
        return [DoorNote(seq=1, ts=60.0, kind="asked", device="clinic-1", detail="from [here]")]

    def model_manifest(self, digest: str) -> bytes:
        if digest != hashlib.sha256(self.manifest).hexdigest():
            raise NotFoundError(f"model {digest[:12]} is no job's base.")
        return self.manifest

    def derived_base(self, digest: str, kind: str) -> DerivedBase:
        self.model_manifest(digest)
        if kind != "gguf-q8_0":
            raise NotFoundError(f"there is no {kind!r} of a base.")
        self.derived_asked += 1
        if self.derived_asked == 1:
            return DerivedBase(state="making", done_bytes=10, total_bytes=100)
        if self.derived_asked == 3:
            raise ConflictError("it can't be made of this base: its family is strange.")
        return DerivedBase(state="ready", digest=digest, done_bytes=100, total_bytes=100)

    def blob_path(self, sha256: str) -> Path:
        if sha256 not in self.blobs:
            raise NotFoundError(f"blob {sha256[:12]} is not here.")
        return self.blobs[sha256]

    def adapter_folder(self, job: str) -> Path:
        if self._find(job).summary.adapter_round is None:
            raise NotFoundError(f"job is {job!r}; it has published no adapter yet.")
        return self.folder / "adapter"

    def events(self, job: str) -> list[JobEvent]:
        self._find(job)
        return [JobEvent(seq=1, ts=12.0, kind="submitted", data={"rounds": 2})]

    def _device(self) -> DeviceSummary:
        return DeviceSummary(
            device="clinic-1",
            state="ready",
            seen_ts=0.0,
            memory_limit_bytes=700_000_000,
            roles={"notes": "lora, streamed, rank 8"},
            identity=self.identity.state,
        )

    def _find(self, job: str) -> JobDetail:
        if job not in self.jobs:
            raise NotFoundError(f"job is {job!r}; there is none of this name.")
        return self.jobs[job]

    def _change(self, job: str, **changes: object) -> None:
        detail = self._find(job)
        summary = msgspec.structs.replace(detail.summary, **changes)
        self.jobs[job] = msgspec.structs.replace(detail, summary=summary)

    def _advance(self, detail: JobDetail) -> None:
        summary = detail.summary
        if summary.round == summary.rounds:
            self._change(summary.job, phase=self.ends_as)
            return
        number = summary.round + 1
        member = Member(
            device="clinic-1",
            role="lora",
            rung="streamed",
            rank=8,
            steps=20,
            codec="int8",
            state="delivered",
            reason=REASON,
            loss_last=2.25,
            update_bytes=24_000,
        )
        loss = 2.5 - 0.25 * number
        done = Round(
            round=number,
            phase="published",
            heldout_loss=loss,
            worst_tenth=loss + 0.125,
            spread=0.0625,
            measured_by=2,
            members=[member, Member(device="clinic-3", role="infer", rung="infer")],
            left_out={"clinic-2": "it is asleep"},
        )
        self.jobs[summary.job] = msgspec.structs.replace(
            detail,
            rounds=[*detail.rounds, done],
            without_prompt_loss=loss + 0.0625,
            loss_before={"clinic-1": 2.625},
            loss_after={"clinic-1": 2.125},
        )
        self._change(
            summary.job, phase="training", round=number, heldout_loss=loss, adapter_round=number
        )


@contextmanager
def serving(hub: MemoryHub, token: str | None = None) -> Iterator[str]:
    """Serve a hub on a port of the system's choice; the URL is what comes back."""
    server = HttpServer(create_app(hub, token), "127.0.0.1", 0)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()

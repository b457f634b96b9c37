"""What the HTTP layer asks of the hub, and the documents that it passes on.

The command line reads the same documents, so this file imports no web framework.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec

from wire.messages import DeviceInfo, Telemetry
from wire.messages.device import State
from wire.messages.hub import JobPhase
from wire.messages.plan import Role

#: Phases after which a job doesn't change any more.
ENDED: tuple[JobPhase, ...] = ("done", "failed", "cancelled")


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON document; an unknown field is passed over, so that a newer hub may add one."""


class JobSummary(_Document, frozen=True, kw_only=True):
    """One line of the list of jobs."""

    job: str
    phase: JobPhase
    method: str
    base: str  # the base model's name
    round: int  # 0 before the first one opens
    rounds: int
    base_loss: float | None = None  # held out, before any training
    heldout_loss: float | None = None  # of the newest adapter that was measured
    adapter_round: int | None = None  # the newest published adapter's; None before the first
    created_ts: float = 0.0  # Unix time, seconds
    reason: str | None = None  # why it failed or was cancelled
    base_digest: str = ""  # of the base model's manifest, as /v1/models takes it


class Member(_Document, frozen=True, kw_only=True):
    """One device in one round."""

    device: str
    role: Role
    rung: str
    rank: int = 0
    steps: int = 0
    codec: str = ""
    state: str = "offered"  # offered, taken, delivered, failed, declined, missed, late, lost
    reason: str = ""  # why this role, rung and number of steps
    problem: str | None = None  # why it declined, failed or was refused
    loss_first: float | None = None  # while training
    loss_last: float | None = None
    heldout_loss: float | None = None  # of the adapter with which the round began
    update_bytes: int = 0


class Comparison(_Document, frozen=True, kw_only=True):
    """A round's adapter beside the released one that it had to stand up to."""

    metric: str  # of the job file's publish_if
    loss: float  # of the round's adapter
    reference: float  # of the released one, over the same devices
    reference_round: int  # after which that was released; 0: the start
    devices: int = 0  # that measured both; 0: measured on the hub's own text


class Round(_Document, frozen=True, kw_only=True):
    """One round of a job."""

    round: int
    phase: JobPhase | Literal["rolled_back"]
    opened_ts: float = 0.0
    closed_ts: float | None = None
    deadline_s: float | None = None
    heldout_loss: float | None = None  # of the adapter that the round made
    worst_tenth: float | None = None  # the same over the tenth of devices with the highest loss
    spread: float | None = None  # standard deviation of that loss over devices
    measured_by: int = 0  # devices
    comparison: Comparison | None = None  # by which it was published or rolled back
    members: list[Member] = []
    left_out: dict[str, str] = {}  # device -> why it is no member
    reason: str | None = None
    own_text: dict[str, float] = {}  # what the hub measured on its own text; docs/job-file.md
    problem: str | None = None  # why it did not


class JobDetail(_Document, frozen=True, kw_only=True):
    """All about one job."""

    summary: JobSummary
    file: str  # the job file, as it was submitted
    seed: int = 0  # the file's, or the one that was drawn
    rounds: list[Round] = []
    evaluation: Round | None = None  # the final one
    without_prompt_loss: float | None = None  # of the last adapter, its soft prompt taken away
    loss_before: dict[str, float] = {}  # by device: of the bare base
    loss_after: dict[str, float] = {}  # by device: of the newest adapter that it measured


class DeviceSummary(_Document, frozen=True, kw_only=True):
    """One line of the list of devices."""

    device: str
    state: State
    seen_ts: float  # Unix time of the last sign of life, seconds
    memory_limit_bytes: int | None = None
    roles: dict[str, str] = {}  # by job, as "lora, streamed, rank 8"
    reason: str | None = None
    identity: str | None = None  # see Identity.state; None: it never enrolled


class DeviceUsage(_Document, frozen=True, kw_only=True):
    """What a device used until its last result, since its agent started."""

    peak_bytes: int = 0  # resident, supervisor and worker together
    predicted_peak_bytes: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class Identity(_Document, frozen=True, kw_only=True):
    """A device's place in the fleet: its key, and what was decided of it."""

    state: str  # waiting, enrolled, rejected, revoked, cloned, expired
    key: str  # sha256 of its public key, hexadecimal
    asked_ts: float  # Unix time, seconds
    decided_ts: float | None = None
    reason: str = ""
    serial: str = ""  # of its newest certificate, hexadecimal
    not_after_ts: float | None = None  # when that expires
    days_left: float | None = None


class DoorNote(_Document, frozen=True, kw_only=True):
    """Something that happened at the door: who asked, was let in, was refused."""

    seq: int
    ts: float  # Unix time, seconds
    kind: str
    device: str | None = None
    detail: str = ""


class TokenOrder(_Document, frozen=True, kw_only=True):
    """How many tokens an operator wants."""

    count: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    expires_s: Annotated[float, msgspec.Meta(gt=0, le=365 * 86400)] = 86_400.0
    preauthorised: bool = False


class Tokens(_Document, frozen=True, kw_only=True):
    """New single-use tokens; they are shown this once."""

    tokens: list[str]
    expires_ts: float  # Unix time, seconds
    preauthorised: bool
    url: str  # where devices enrol
    ca_sha256: str  # of the hub's authority, hexadecimal


class Decision(_Document, frozen=True, kw_only=True):
    """An operator's reason."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


class DeviceDetail(_Document, frozen=True, kw_only=True):
    """All that a device told about itself."""

    summary: DeviceSummary
    info: DeviceInfo | None = None
    telemetry: Telemetry | None = None
    usage: DeviceUsage = DeviceUsage()
    identity: Identity | None = None
    door: list[DoorNote] = []  # the last that happened to it


class JobEvent(_Document, frozen=True, kw_only=True):
    """One entry of a job's record."""

    seq: int
    ts: float  # Unix time, seconds
    kind: str
    data: dict[str, Any] = {}


class HubStatus(_Document, frozen=True, kw_only=True):
    """How the hub's own process fares."""

    version: str
    peak_bytes: int  # greatest resident memory so far
    ok: bool = True


class DerivedBase(_Document, frozen=True, kw_only=True):
    """Files that are made of a base for devices without torch (`wire.derived`)."""

    state: Literal["making", "ready"]
    digest: str = ""  # of their manifest, as /v1/models takes it; once they are ready
    done_bytes: int = 0
    total_bytes: int = 0  # while they are made: about so many


class Failure(_Document, frozen=True, kw_only=True):
    """The body of every answer that is an error."""

    error: str
    kind: Literal["config", "not_found", "conflict", "failed"] = "failed"
    path: str | None = None
    value: Any = None
    allowed: str | None = None


class HubControl(Protocol):
    """The hub, as the HTTP layer sees it. Methods are called from several threads at once."""

    def status(self) -> HubStatus:
        """Return how the hub itself fares."""

    def metrics(self) -> bytes:
        """Return the hub's numbers in Prometheus' text format."""

    def submit_job(self, text: str) -> JobSummary:
        """Start the job that a job file describes.

        Raises:
            ConfigError: the file isn't allowed, or its base model can't be used.
            ConflictError: there is a job of this name.
        """

    def cancel_job(self, job: str) -> JobSummary:
        """Stop a job; what it published stays. One that has ended stays as it is.

        Raises:
            NotFoundError: there is no such job.
        """

    def list_jobs(self) -> list[JobSummary]:
        """Return all jobs, the newest first."""

    def show_job(self, job: str) -> JobDetail:
        """Return all about a job.

        Raises:
            NotFoundError: there is no such job.
        """

    def list_devices(self) -> list[DeviceSummary]:
        """Return every device that was ever seen, by id."""

    def show_device(self, device: str) -> DeviceDetail:
        """Return all about a device.

        Raises:
            NotFoundError: it was never seen.
        """

    def make_tokens(self, order: TokenOrder) -> Tokens:
        """Return new tokens.

        Raises:
            ConflictError: the hub has no enrolment.
        """

    def decide(
        self, device: str, what: Literal["approve", "reject", "revoke"], reason: str
    ) -> DeviceDetail:
        """Let a device in, send it away, or take its certificates back.

        Raises:
            NotFoundError: it never asked to enrol.
            ConflictError: that can't be decided of it now, or the hub has no enrolment.
        """

    def door(self) -> list[DoorNote]:
        """Return what happened at the door last, the oldest first."""

    def model_manifest(self, digest: str) -> bytes:
        """Return the bytes whose sha256 is a base model's digest.

        Raises:
            NotFoundError: no job uses that model.
        """

    def derived_base(self, digest: str, kind: str) -> DerivedBase:
        """Return what is made of a base for devices without torch, or how far that is.

        Args:
            digest: of the base's manifest.
            kind: of `wire.derived.DERIVED`.

        Raises:
            NotFoundError: no job uses that base, or such files aren't made.
            ConflictError: they can't be made of this base; the message says why.
            HubError: they could not be made this time.
        """

    def blob_path(self, sha256: str) -> Path:
        """Return the file of that content: part of a base model or of what is made of it.

        Raises:
            NotFoundError: there is none that devices may fetch.
        """

    def adapter_folder(self, job: str) -> Path:
        """Return the PEFT folder of a job's newest adapter.

        Raises:
            NotFoundError: there is no such job, or it has published none yet.
        """

    def events(self, job: str) -> list[JobEvent]:
        """Return a job's record, oldest first.

        Raises:
            NotFoundError: there is no such job.
        """

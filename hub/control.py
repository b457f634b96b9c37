"""The running hub as its HTTP layer sees it; see `hub.api.control.HubControl`.

Methods come from several threads. What touches jobs or devices is done on the coordinator's.
"""

import logging
import resource
import secrets
import sys
from pathlib import Path
from typing import Literal

import msgspec

from hub.api.control import (
    DerivedBase,
    DeviceDetail,
    DeviceSummary,
    DoorNote,
    HubStatus,
    JobDetail,
    JobEvent,
    JobSummary,
    TokenOrder,
    Tokens,
)
from hub.derived.bases import DerivedBases
from hub.documents import job_detail, job_event, job_summary
from hub.errors import ConflictError, HubError, NotFoundError
from hub.fleet_control import FleetControl
from hub.hash_cache import HashCache
from hub.jobs import JobFile, parse_job
from hub.metrics.exposition import Exposition, Snapshot
from hub.models import BaseModel, load_model, target_shapes
from hub.own_text.checks import check_own_text
from hub.pretrain.base import pretrain_base
from hub.rounds import events
from hub.rounds.coordinator import Coordinator
from hub.rounds.job_run import JobRun, JobSpec
from hub.rounds.state import JobState
from hub.store.database import Store
from hub.whole_job import check_whole
from wire.version import LORIKEET_VERSION

log = logging.getLogger(__name__)


class LiveHub:
    """Implements `HubControl` on a coordinator.

    Args:
        coordinator: runs in another thread.
        store: for the record.
        hashes: of base models' files.
        derived: what is made of them.
        enrolment_url: where devices enrol.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        store: Store,
        hashes: HashCache,
        derived: DerivedBases,
        enrolment_url: str = "",
    ) -> None:
        self._fleet = FleetControl(coordinator, store.identities, enrolment_url)
        self._coordinator = coordinator
        self._store = store
        self._hashes = hashes
        self._derived = derived
        self._exposition = Exposition()

    def status(self) -> HubStatus:
        """Return how the hub itself fares."""
        return HubStatus(version=LORIKEET_VERSION, peak_bytes=peak_bytes())

    def metrics(self) -> bytes:
        """Return the hub's numbers; they are counted on the caller's thread."""

        def taken() -> Snapshot:
            runs = self._coordinator.jobs.values()
            return Snapshot(
                [(run.file.job, run.state, run.file.rounds) for run in runs],
                list(self._coordinator.sessions.devices.values()),
                self._coordinator.link.connected,
            )

        return self._exposition.text(self._coordinator.call(taken))

    # Jobs

    def submit_job(self, text: str) -> JobSummary:
        """Start the job that a job file describes."""
        file = parse_job(text)
        seed = file.seed if file.seed is not None else secrets.randbelow(2**31)
        # On the caller's thread: hashing or making a large base takes a while.
        base = self._loaded(self._base_of(file, seed))
        target_shapes(base.chosen_targets(file.lora.targets), file.lora.rank_pattern)
        check_whole(file, base)
        texts = check_own_text(file.hub)
        return self._coordinator.call(lambda: self._begin(text, file, base, seed, texts))

    def _loaded(self, base: str) -> BaseModel:
        found = load_model(base, self._hashes)
        return msgspec.structs.replace(found, derived=self._derived.kinds_of(found.digest))

    def _base_of(self, file: JobFile, seed: int) -> str:
        """Return where a job's base is; one from scratch is made first."""
        if file.model.base is not None:
            return file.model.base
        folder = self._coordinator.desk.folder / "bases"
        return str(pretrain_base(file.pretrain, seed, folder, self._hashes))

    def _begin(
        self, text: str, file: JobFile, base: BaseModel, seed: int, texts: dict[str, str]
    ) -> JobSummary:
        if file.job in self._coordinator.jobs:
            raise ConflictError(
                f"there is a job {file.job!r} already; choose another name for this one."
            )
        desk = self._coordinator.desk
        spec = JobSpec(
            file=text,
            base=str(base.folder),
            digest=base.digest,
            seed=seed,
            created_ts=desk.now(),
            texts=texts,
        )
        self._store.add_job(file.job, spec, desk.now())
        job = JobRun(desk, spec, file, base, JobState())
        job.begin()
        self._coordinator.add(job)
        log.info("job %s: %d rounds on %s", file.job, file.rounds, base.name)
        return job_summary(job)

    def restore(self) -> None:
        """Take up the jobs of the store; called before the coordinator runs."""
        for row in self._store.jobs():
            name, spec = row.job, msgspec.convert(row.spec, JobSpec)
            file = parse_job(spec.file)
            try:
                base = self._loaded(spec.base)
            except HubError as error:
                log.error("job %s can't go on, and isn't listed: %s", name, error)
                continue
            if base.digest != spec.digest:
                log.error(
                    "job %s: the base in %s has changed (%s, not %s); the job stays as it is",
                    name, spec.base, base.digest[:12], spec.digest[:12],
                )  # fmt: skip
                continue
            desk = self._coordinator.desk
            job = JobRun(desk, spec, file, base, self._store.replay(name))
            if job.state.rules is None:
                job.begin()  # the hub was killed between the two writes of a submission
            self._coordinator.add(job)
        self._derived.keep({run.base.digest for run in self._coordinator.jobs.values()})

    def cancel_job(self, job: str) -> JobSummary:
        """Stop a job; what it published stays."""

        def cancel() -> JobSummary:
            run = self._job(job)
            if not run.over:
                run.record(events.Cancelled(reason="cancelled by a person"))
            return job_summary(run)

        return self._coordinator.call(cancel)

    def list_jobs(self) -> list[JobSummary]:
        """Return all jobs, the newest first."""

        def listed() -> list[JobSummary]:
            runs = self._coordinator.jobs.values()
            return [job_summary(run) for run in sorted(runs, key=lambda r: -r.spec.created_ts)]

        return self._coordinator.call(listed)

    def show_job(self, job: str) -> JobDetail:
        """Return all about a job."""
        return self._coordinator.call(lambda: job_detail(self._job(job)))

    def events(self, job: str) -> list[JobEvent]:
        """Return a job's record, oldest first."""
        self._coordinator.call(lambda: self._job(job))
        found: list[JobEvent] = []
        while page := self._store.events(job, found[-1].seq if found else 0):
            found += [job_event(row) for row in page]
        return found

    def adapter_folder(self, job: str) -> Path:
        """Return the folder of a job's newest adapter: PEFT's, or a whole model's."""
        folder = self._coordinator.call(lambda: self._job(job).folder)
        if not folder.is_dir():
            raise NotFoundError(f"job {job!r} has published no adapter yet.")
        return folder

    def _job(self, job: str) -> JobRun:
        run = self._coordinator.jobs.get(job)
        if run is None:
            known = ", ".join(sorted(self._coordinator.jobs)) or "none"
            raise NotFoundError(f"there is no job {job!r}; jobs here: {known}.")
        return run

    # Devices

    def list_devices(self) -> list[DeviceSummary]:
        """Return every device that was ever seen, or asked to enrol, by id."""
        return self._coordinator.call(self._fleet.list_devices)

    def show_device(self, device: str) -> DeviceDetail:
        """Return all about a device."""
        return self._coordinator.call(lambda: self._fleet.show_device(device))

    def make_tokens(self, order: TokenOrder) -> Tokens:
        """Return new single-use tokens."""
        return self._coordinator.call(lambda: self._fleet.make_tokens(order))

    def decide(
        self, device: str, what: Literal["approve", "reject", "revoke"], reason: str
    ) -> DeviceDetail:
        """Let a device in, send it away, or take its certificates back."""
        return self._coordinator.call(lambda: self._fleet.decide(device, what, reason))

    def door(self) -> list[DoorNote]:
        """Return what happened at the door last, the oldest first."""
        return self._coordinator.call(self._fleet.door)

    # Models and blobs

    def model_manifest(self, digest: str) -> bytes:
        """Return the bytes whose sha256 is a base model's digest."""
        for job in list(self._coordinator.jobs.values()):
            if job.base.digest == digest:
                return job.base.manifest.encode()
        made = self._derived.manifest(digest)
        if made is not None:
            return made
        raise NotFoundError(f"no job uses a base model {digest[:12]!r}.")

    def derived_base(self, digest: str, kind: str) -> DerivedBase:
        """Return what is made of a job's base for devices without torch, or how far that is."""
        for job in list(self._coordinator.jobs.values()):
            if job.base.digest == digest:
                try:
                    return self._derived.find(job.base, kind)
                except ConflictError:
                    if kind in job.base.derived:
                        self._coordinator.call(lambda: self._announce_less(digest))
                    raise
        raise NotFoundError(f"no job uses a base model {digest[:12]!r}.")

    def _announce_less(self, digest: str) -> None:
        """Speak no more of kinds of files that can't be made of a base."""
        kinds = self._derived.kinds_of(digest)
        for run in self._coordinator.jobs.values():
            if run.base.digest == digest:
                run.base = msgspec.structs.replace(run.base, derived=kinds)

    def blob_path(self, sha256: str) -> Path:
        """Return a file of a base model, or of what was made of it.

        Updates and adapters travel over MQTT alone.
        """
        for job in list(self._coordinator.jobs.values()):
            path = job.base.path_of(sha256)
            if path is not None:
                return path
        path = self._derived.path_of(sha256)
        if path is not None:
            return path
        raise NotFoundError(f"no base model has a file {sha256[:12]!r}.")


def peak_bytes() -> int:
    """Return the greatest resident memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

"""Is there room on the disk, is there memory, and does the state folder take files?"""

import os
import tempfile
from pathlib import Path

from edge_agent.doctor.contract import Finding, Subject, fail, ok, warn
from edge_agent.heartbeat import read_sign
from edge_agent.planner import needed_bytes
from edge_agent.probe.disk import disk
from edge_agent.probe.memory import memory_limit
from edge_agent.probe.reading import UnreadableError

#: Below it, not even adapters of a small model have room.
_LEAST_BYTES, _LITTLE_BYTES = 100_000_000, 1_000_000_000


def check_disk(subject: Subject) -> list[Finding]:
    """Write a file where the agent would, and look at the room that is left."""
    found = disk(subject.folder)
    try:
        with tempfile.TemporaryFile(dir=_first_there(subject.folder)) as file:
            file.write(b"\0")
            os.fsync(file.fileno())
    except OSError as error:
        todo = "give the agent's user this folder, or name another one with --state."
        return [fail("disk", f"{subject.folder} takes no file: {error.strerror}", todo)]
    if found.free_bytes is None:
        return [warn("disk", "its room can't be read", "see lorikeet-agent probe.")]
    told = f"{found.free_bytes / 1e9:.1f} GB free below {subject.folder}"
    if found.free_bytes < _LEAST_BYTES:
        return [fail("disk", told, "delete what is not needed; a base model has to fit.")]
    if found.free_bytes < _LITTLE_BYTES:
        return [warn("disk", told, "models of a gigabyte and more won't fit.")]
    return [ok("disk", told)]


def check_memory(subject: Subject) -> list[Finding]:
    """Compare the memory there is with what the chosen rungs take."""
    asked = subject.settings.memory_bytes if subject.settings is not None else None
    sign = read_sign(subject.folder)
    plans = {} if sign is None else {j: p for j, p in sign.plans.items() if p.role != "none"}
    try:
        # The agent's own processes hold some of it already, which is theirs.
        limit = memory_limit(asked, subject.root)
    except UnreadableError as error:
        return [warn("memory", str(error), "say how much there is with --memory.")]
    told = f"{limit.limit_bytes / 1e6:.0f} MB ({limit.reason})"
    short = {
        job: needed_bytes(plan.predicted_peak_bytes)
        for job, plan in plans.items()
        if needed_bytes(plan.predicted_peak_bytes) > limit.limit_bytes
    }
    if short:
        job, needs = max(short.items(), key=lambda one: one[1])
        todo = "end other programs, or let the agent take a smaller rung: start it again."
        rung = plans[job].rung
        return [warn("memory", f"{told}; job {job} at {rung} needs {needs / 1e6:.0f} MB", todo)]
    return [ok("memory", told)]


def _first_there(folder: Path) -> Path:
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())

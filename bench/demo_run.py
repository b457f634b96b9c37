"""Runs the demo as anybody would, and checks the numbers of its ``summary.json``."""

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from bench.report import (
    MIB,
    BenchError,
    Row,
    above,
    at_least,
    at_most,
    below,
    checked,
    fall_percent,
    say,
    skipped,
    told,
)
from hub.demo.fleet import command_beside
from hub.demo.summary import DeviceSummary, Summary

_LOSS = "nats/token"


class DemoRun(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run of the demo."""

    folder: Path  # runs/<name>
    summary: Summary
    seconds: float  # of the whole command, the base's training included where it was needed
    others_percent: float  # of the machine's processor time that went to other programs meanwhile

    @property
    def last_loss(self) -> float | None:
        """The held-out loss after the last round."""
        losses = self.summary.heldout_loss
        return losses[-1] if losses else None

    @property
    def training_devices(self) -> list[DeviceSummary]:
        """Those that trained, in the demo's order."""
        return [one for one in self.summary.devices if one.role in ("lora", "prompt")]

    @property
    def roles(self) -> dict[str, tuple[str, str, int]]:
        """What each device picked: role, rung and rank."""
        return {one.id: (one.role, one.rung, one.rank) for one in self.summary.devices}


def run_demo(out: Path, name: str, seed: int, cache: Path | None) -> DemoRun:
    """Run ``lorikeet-hub demo`` to its end.

    Args:
        out: gets the run's folder.
        name: of the run.
        seed: of the job.
        cache: where bases are cached; None: where the user has them.

    Raises:
        BenchError: it failed.
    """
    command = [command_beside("lorikeet-hub"), "demo", "--seed", str(seed), "--json"]
    command += ["--out", str(out), "--name", name]
    say(f"demo {name}: {' '.join(command[1:])}")
    environment = dict(os.environ) | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
    began, busy, ours = time.monotonic(), _busy_s(), _children_s()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.monotonic() - began
    others_s = max(0.0, (_busy_s() - busy) - (_children_s() - ours))
    others_percent = 100.0 * others_s / (seconds * (os.cpu_count() or 1))
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise BenchError(f"the demo ended with exit code {done.returncode}:\n{last}")
    summary = msgspec.json.decode((out / name / "summary.json").read_bytes(), type=Summary)
    say(f"demo {name}: {seconds:.0f} s, losses {summary.base_loss} -> {summary.heldout_loss}")
    return DemoRun(
        folder=out / name, summary=summary, seconds=seconds, others_percent=others_percent
    )


def demo_rows(run: DemoRun, *, cold: bool) -> list[Row]:
    """Return what one run must show.

    Args:
        run: the run.
        cold: whether the base was trained within it.
    """
    summary, last = run.summary, run.last_loss
    first = summary.heldout_loss[0] if summary.heldout_loss else None
    without = summary.loss_without_prompt
    peak = summary.total_peak_bytes
    base = "trained in it" if cold else "cached"
    rows = [
        told("demo: base_loss", summary.base_loss, _LOSS),
        told("demo: held-out loss after the last round", last, _LOSS),
        at_least("demo: fall under base_loss", fall_percent(summary.base_loss, last), "%", 8),
        below("demo: last minus first round's loss", _minus(last, first), _LOSS, 0),
        above("demo: loss without the soft prompt, minus last", _minus(without, last), _LOSS, 0),
        *(
            below(
                f"demo: {one.id} ({role_text(one)}): loss_after minus loss_before",
                _minus(one.loss_after, one.loss_before),
                _LOSS,
                0,
            )
            for one in run.training_devices
        ),
        _roles_row(run),
        *_time_rows(run, base),
        at_most("demo: memory peak of all processes", peak and peak / MIB, "MiB", 4096),
    ]
    hub_peak = summary.hub.peak_bytes
    return [
        *rows,
        told("demo: hub's peak", hub_peak and hub_peak / MIB, "MiB"),
        told("demo: offers that brought no update in time", _undelivered(summary)),
    ]


def repeat_rows(first: DemoRun, second: DemoRun | None) -> list[Row]:
    """Return how far two runs with one seed agree; None: there was only one."""
    roles, loss = "two runs, one seed: role, rung, rank", "two runs, one seed: last loss differs by"
    if second is None:
        return [skipped(roles, "", "same"), skipped(loss, "%", "<= 1")]
    differ = [one for one in first.roles if first.roles[one] != second.roles.get(one)]
    gap = fall_percent(first.last_loss, second.last_loss)
    return [
        checked(
            roles, f"differ: {', '.join(differ)}" if differ else "same", "", "same", not differ
        ),
        at_most(loss, None if gap is None else abs(gap), "%", 1),
        *_time_rows(second, "cached"),
    ]


def role_text(device: DeviceSummary) -> str:
    """Return role and rank in words."""
    return f"{device.role} r={device.rank}" if device.rank else device.role


def _roles_row(run: DemoRun) -> Row:
    picked = run.roles.values()
    ranks = {rank for role, _, rank in picked if role == "lora"}
    roles = {role for role, _, _ in picked}
    text = "; ".join(_by_role(role, run.summary.devices) for role in sorted(roles))
    must = "2 ranks, prompt, infer"
    ok = len(ranks) >= 2 and {"prompt", "infer"} <= roles
    return checked("demo: roles picked", text, "", must, ok)


def _time_rows(run: DemoRun, base: str) -> list[Row]:
    """Return the seconds, and what else kept the machine busy: it explains slow runs."""
    return [
        at_most(f"demo: seconds in all, base {base}", round(run.seconds, 1), "s", 180),
        told("other programs' share of the cores meanwhile", round(run.others_percent, 1), "%"),
    ]


def _busy_s() -> float:
    """Return the processor seconds that all programs of the machine used since its start."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _children_s() -> float:
    """Return the processor seconds of our children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _undelivered(summary: Summary) -> str:
    """Name the offers without a result: a busy machine's devices miss deadlines."""
    missed = [
        f"{member.device} in round {one.round}"
        for one in summary.rounds_detail
        for member in one.members
        if member.state != "delivered"
    ]
    return ", ".join(missed) or "none"


def _by_role(role: str, devices: Sequence[DeviceSummary]) -> str:
    ranks = sorted({one.rank for one in devices if one.role == role} - {0})
    return f"{role} r={','.join(map(str, ranks))}" if ranks else role


def _minus(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other

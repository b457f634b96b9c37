"""Is an agent running on this state folder, and does the hub know it?"""

from collections.abc import Mapping

from edge_agent.doctor.contract import Finding, Subject, fail, ok, warn
from edge_agent.heartbeat import STALE_S, read_sign
from wire.messages import RungPlan

NAME = "agent"


def check_agent(subject: Subject) -> list[Finding]:
    """Read the last sign of life."""
    sign = read_sign(subject.folder)
    if sign is None:
        return [
            fail(
                NAME,
                f"no agent runs with state folder {subject.folder}",
                "start it with lorikeet-agent run, or name its folder with --state.",
            )
        ]
    age_s = subject.now - sign.ts
    if age_s > STALE_S:
        return [
            fail(
                NAME,
                f"the last sign of life is {age_s:.0f} s old (process {sign.pid})",
                "look at its log, and start it again.",
            )
        ]
    if not sign.welcomed:
        return [
            warn(
                NAME,
                f"process {sign.pid} runs; no hub has taken it yet",
                "see broker and hub below; on the hub, lorikeet-hub device list.",
            )
        ]
    state = f"{sign.state}: {sign.reason}" if sign.reason else sign.state
    return [ok(NAME, f"process {sign.pid}, {state}"), *_jobs(sign.plans)]


def _jobs(plans: Mapping[str, RungPlan]) -> list[Finding]:
    found: list[Finding] = []
    for job, plan in sorted(plans.items()):
        if plan.role == "none":
            todo = "free memory, raise --memory, or lower the job's floors (min_rank, min_seq_len)."
            found.append(warn(f"job {job}", plan.reason, todo))
        else:
            found.append(ok(f"job {job}", f"role {plan.role}, {plan.reason}"))
    return found

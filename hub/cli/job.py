"""``lorikeet-hub job``: submit, list, show, cancel."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.options import DEFAULT_HUB, AsJson, HubUrl
from hub.cli.output import loss, print_json, print_line, print_table, size, updates
from hub.errors import NotFoundError

if TYPE_CHECKING:
    from hub.api.control import JobDetail, Member, Round

app = typer.Typer(no_args_is_help=True, help="Submit jobs and see how they fare.")

JobName = Annotated[str, typer.Argument(help="The job's name.", show_default=False)]


@app.command(epilog="Example: lorikeet-hub job submit job.yaml --wait")
def submit(
    file: Annotated[
        Path, typer.Argument(help="The job file; - reads it from stdin.", show_default=False)
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it ends.")] = False,
    hub: HubUrl = DEFAULT_HUB,
    as_json: AsJson = False,
) -> None:
    """Start a job. With --wait, exit 1 if it fails or is cancelled."""
    from hub.cli.client import HubClient
    from hub.cli.follow import follow
    from hub.cli.local_paths import with_local_paths

    with HubClient(hub) as client:
        text, folder = _job_text(file)
        summary = client.submit(with_local_paths(text, folder))
        if not as_json:
            print_line(f"{summary.job}: submitted, {summary.rounds} rounds on {summary.base}.")
        if not wait:
            if as_json:
                print_json(summary)
            else:
                there = "" if hub == DEFAULT_HUB else f" --hub {hub}"
                print_line(f"Follow it with: lorikeet-hub job show {summary.job}{there}")
            return
        detail = follow(client, summary.job)
    if as_json:
        print_json(detail)
    else:
        _print_job(detail, None)
    if detail.summary.phase != "done":
        raise typer.Exit(1)


@app.command("list", epilog="Example: lorikeet-hub job list --json")
def list_(hub: HubUrl = DEFAULT_HUB, as_json: AsJson = False) -> None:
    """List all jobs."""
    from hub.cli.client import HubClient

    with HubClient(hub) as client:
        jobs = client.jobs()
    if as_json:
        print_json(jobs)
        return
    print_table(
        "",
        ["job", "phase", "round", "held-out loss", "untuned", "method", "base"],
        (
            (
                job.job,
                job.phase,
                f"{job.round}/{job.rounds}",
                loss(job.heldout_loss),
                loss(job.base_loss),
                job.method,
                job.base,
            )
            for job in jobs
        ),
    )


@app.command(epilog="Example: lorikeet-hub job show clinic-notes --round 3")
def show(
    job: JobName,
    number: Annotated[
        int | None, typer.Option("--round", min=1, help="Whose devices. Default: the newest.")
    ] = None,
    hub: HubUrl = DEFAULT_HUB,
    as_json: AsJson = False,
) -> None:
    """Show a job's rounds, losses and devices, each with its role and the reason for it."""
    from hub.cli.client import HubClient

    with HubClient(hub) as client:
        detail = client.job(job)
    if as_json:
        print_json(detail)
    else:
        _print_job(detail, number)


@app.command(epilog="Example: lorikeet-hub job cancel clinic-notes")
def cancel(job: JobName, hub: HubUrl = DEFAULT_HUB, as_json: AsJson = False) -> None:
    """Stop a job. The adapters that it published stay."""
    from hub.cli.client import HubClient

    with HubClient(hub) as client:
        summary = client.cancel(job)
    if as_json:
        print_json(summary)
    else:
        print_line(f"{summary.job}: {summary.phase} after {summary.round} rounds.")


def _job_text(file: Path) -> tuple[str, Path]:
    """Return the job file's text and the folder from which its paths count."""
    from hub.yaml_file import MAX_FILE_BYTES, decode_text, read_text

    if str(file) == "-":
        return decode_text(sys.stdin.buffer.read(MAX_FILE_BYTES + 1), "stdin"), Path.cwd()
    return read_text(file), file.resolve().parent


def _print_job(detail: "JobDetail", number: int | None) -> None:
    job = detail.summary
    newest = detail.rounds[-1] if detail.rounds else None
    chosen = next((r for r in detail.rounds if r.round == number), None) if number else newest
    if number and chosen is None:
        raise NotFoundError(f"--round is {number}; {job.job} has had {len(detail.rounds)} rounds.")
    print_line(f"{job.job}: {job.phase}, round {job.round} of {job.rounds}")
    print_line(f"base {job.base}, method {job.method}, untuned loss {loss(job.base_loss) or '–'}")
    if job.reason:
        print_line(f"reason: {job.reason}")
    if chosen is None:
        return
    print_table(
        "rounds",
        [
            "round",
            "phase",
            "held-out loss",
            "worst tenth",
            "spread",
            "validation",
            "updates",
            "reason",
        ],
        (_round_row(entry) for entry in detail.rounds),
    )
    for line in _own_text_lines(chosen):
        print_line(line)
    print_table(
        f"devices of round {chosen.round}",
        ["device", "role", "rung", "rank", "steps", "codec", "state", "loss", "up", "reason"],
        (_member_row(member) for member in chosen.members),
    )
    for device, reason in chosen.left_out.items():
        print_line(f"{device} was left out: {reason}")
    if detail.without_prompt_loss is not None:
        print_line(f"loss without the soft prompt: {loss(detail.without_prompt_loss)}")
    if detail.loss_after:
        print_table(
            "held-out loss of each device",
            ["device", "untuned", "newest adapter"],
            (
                (device, loss(detail.loss_before.get(device)), loss(after))
                for device, after in detail.loss_after.items()
            ),
        )


def _own_text_lines(entry: "Round") -> list[str]:
    """Return what the hub did with its own text in a round, in words."""
    found, lines = entry.own_text, []
    if "public_tokens" in found:
        lines.append(
            f"round {entry.round} on the hub's public text: training loss "
            f"{loss(found['public_loss_first'])} to {loss(found['public_loss_last'])}, "
            f"{found['public_tokens']:.0f} tokens in {found['public_s']:.1f} s"
        )
    if "validation_base_loss" in found:
        lines.append(f"untuned loss on the hub's text: {loss(found['validation_base_loss'])}")
    if entry.problem:
        lines.append(f"round {entry.round} went on without: {entry.problem}")
    return lines


def _round_row(entry: "Round") -> tuple[object, ...]:
    return (
        entry.round,
        entry.phase,
        loss(entry.heldout_loss),
        loss(entry.worst_tenth),
        loss(entry.spread),
        loss(entry.own_text.get("validation_loss")),
        updates(entry.members),
        entry.reason,
    )


def _member_row(member: "Member") -> tuple[object, ...]:
    reason = f"{member.problem}; {member.reason}" if member.problem else member.reason
    return (
        member.device,
        member.role,
        member.rung,
        member.rank or None,
        member.steps or None,
        member.codec or None,
        member.state,
        loss(member.loss_last),
        size(member.update_bytes) if member.update_bytes else None,
        reason,
    )

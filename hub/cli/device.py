"""``lorikeet-hub device``: list, show."""

from typing import Annotated

import typer

from hub.cli.options import DEFAULT_HUB, AsJson, HubUrl
from hub.cli.output import age, print_json, print_line, print_table, size

app = typer.Typer(no_args_is_help=True, help="See the fleet's devices.")


@app.command("list", epilog="Example: lorikeet-hub device list")
def list_(hub: HubUrl = DEFAULT_HUB, as_json: AsJson = False) -> None:
    """List all devices, with the role that each has in each job."""
    from hub.cli.client import HubClient

    with HubClient(hub) as client:
        devices = client.devices()
    if as_json:
        print_json(devices)
        return
    print_table(
        "",
        ["device", "state", "seen", "memory", "roles", "reason"],
        (
            (
                device.device,
                device.state,
                age(device.seen_ts),
                size(device.memory_limit_bytes),
                "; ".join(f"{job}: {role}" for job, role in device.roles.items()) or None,
                device.reason,
            )
            for device in devices
        ),
    )


@app.command(epilog="Example: lorikeet-hub device show clinic-1")
def show(
    device: Annotated[str, typer.Argument(help="The device's id.", show_default=False)],
    hub: HubUrl = DEFAULT_HUB,
    as_json: AsJson = False,
) -> None:
    """Show what a device has, and which rung it takes in each job and why."""
    from hub.cli.client import HubClient

    with HubClient(hub) as client:
        detail = client.device(device)
    if as_json:
        print_json(detail)
        return
    seen = age(detail.summary.seen_ts) or "–"
    print_line(f"{detail.summary.device}: {detail.summary.state}, last seen {seen}")
    info = detail.info
    if info is None:
        return
    print_line(f"{info.machine}, {info.cores:g} cores, agent {info.agent_version}")
    print_line(f"memory {size(info.memory_limit_bytes)} ({info.memory_reason})")
    if info.data is not None:
        data = info.data
        left_out = data.duplicates + data.near_duplicates + data.too_short + data.garbled
        print_line(
            f"{data.examples} examples, {data.held_out} held out, {data.skipped} skipped, "
            f"{left_out} left out, {data.redacted} redacted"
        )
    print_table(
        "jobs",
        ["job", "role", "rung", "rank", "batch", "seq_len", "peak", "reason"],
        (
            (
                job,
                plan.role,
                plan.rung,
                plan.rank or None,
                plan.batch,
                plan.seq_len,
                size(plan.predicted_peak_bytes),
                plan.reason,
            )
            for job, plan in info.plans.items()
        ),
    )

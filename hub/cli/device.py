"""``lorikeet-hub device``: list, show, and who may be in the list."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.options import DEFAULT_HUB, AsJson, HubUrl
from hub.cli.output import age, moment, print_json, print_line, print_table, size
from hub.errors import ConfigError

if TYPE_CHECKING:
    from hub.api.control import DeviceDetail

app = typer.Typer(no_args_is_help=True, help="See the fleet's devices, and let them in.")

Device = Annotated[str, typer.Argument(help="The device's id.", show_default=False)]
Reason = Annotated[str | None, typer.Option(help="Is told to it.", show_default=False)]
#: As people are told of an identity's state.
_STATES = {"cloned": "must re-enrol"}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d)\Z")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


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
        ["device", "state", "identity", "seen", "memory", "roles", "reason"],
        (
            (
                device.device,
                device.state,
                _STATES.get(device.identity or "", device.identity),
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
    device: Device,
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
    _show_identity(detail)
    _show_plans(detail)


def _show_identity(detail: "DeviceDetail") -> None:
    identity = detail.identity
    if identity is not None:
        state = _STATES.get(identity.state, identity.state)
        print_line(f"identity: {state}" + (f" ({identity.reason})" if identity.reason else ""))
        print_line(f"key {identity.key[:16]}…, asked {age(identity.asked_ts) or '–'}")
    if identity is not None and identity.not_after_ts is not None:
        left = f"{identity.days_left:.1f} days left" if identity.days_left is not None else ""
        print_line(f"certificate {identity.serial} until {moment(identity.not_after_ts)}, {left}")
    if detail.door:
        rows = ((moment(one.ts), one.kind, one.detail) for one in detail.door)
        print_table("at the door", ["time", "what", "detail"], rows)


def _show_plans(detail: "DeviceDetail") -> None:
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


@app.command(epilog="Example: lorikeet-hub device token --expires 24h --count 12")
def token(
    expires: Annotated[
        str, typer.Option(help="How long each may be used for the first time: 30min, 24h, 7d.")
    ] = "24h",
    count: Annotated[int, typer.Option(min=1, max=1000, help="One for each device.")] = 1,
    preauthorise: Annotated[
        bool, typer.Option("--preauthorise", help="Its device needs no approval.")
    ] = False,
    hub: HubUrl = DEFAULT_HUB,
    as_json: AsJson = False,
) -> None:
    """Make single-use tokens, with which devices ask to enrol. They are shown this once."""
    from hub.api.control import TokenOrder
    from hub.cli.client import HubClient

    order = TokenOrder(count=count, expires_s=_seconds(expires), preauthorised=preauthorise)
    with HubClient(hub) as client:
        made = client.make_tokens(order)
    if as_json:
        print_json(made)
        return
    for one in made.tokens:
        print_line(one)
    rest = "no approval is needed" if preauthorise else "then: lorikeet-hub device approve DEVICE"
    typer.echo(
        f"each for one device, until {moment(made.expires_ts)}; {rest}\n"
        f"on the device: LORIKEET_TOKEN=... lorikeet-agent enroll --hub {made.url}",
        err=True,
    )


@app.command(epilog="Example: lorikeet-hub device approve ward")
def approve(device: Device, hub: HubUrl = DEFAULT_HUB, as_json: AsJson = False) -> None:
    """Let a device in that waits, was rejected, or must re-enrol since a copy of it was seen."""
    _decide(device, "approve", None, hub, as_json=as_json)


@app.command(epilog="Example: lorikeet-hub device reject ward --reason 'not one of ours'")
def reject(
    device: Device, reason: Reason = None, hub: HubUrl = DEFAULT_HUB, as_json: AsJson = False
) -> None:
    """Send a device in the waiting room away."""
    _decide(device, "reject", reason, hub, as_json=as_json)


@app.command(epilog="Example: lorikeet-hub device revoke ward --reason stolen")
def revoke(
    device: Device, reason: Reason = None, hub: HubUrl = DEFAULT_HUB, as_json: AsJson = False
) -> None:
    """Take a device's certificates back, for good; its id is never given again."""
    _decide(device, "revoke", reason, hub, as_json=as_json)


@app.command(epilog="Example: lorikeet-hub device events")
def events(hub: HubUrl = DEFAULT_HUB, as_json: AsJson = False) -> None:
    """Show what happened at the door: who asked, was let in, was refused, and why."""
    from hub.cli.client import HubClient

    with HubClient(hub) as client:
        notes = client.door()
    if as_json:
        print_json(notes)
        return
    rows = ((moment(one.ts), one.kind, one.device, one.detail) for one in notes)
    print_table("", ["time", "what", "device", "detail"], rows)


def _decide(device: str, what: str, reason: str | None, hub: str, *, as_json: bool) -> None:
    from hub.cli.client import HubClient

    with HubClient(hub) as client:
        detail = client.decide(device, what, reason or "")
    if as_json:
        print_json(detail)
    elif detail.identity is not None:
        state = detail.identity.state
        print_line(f"{device}: {_STATES.get(state, state)}")


def _seconds(text: str) -> float:
    match = _SPAN.match(text)
    if not match:
        raise ConfigError("--expires", text, "a number with s, min, h or d, such as 24h")
    return float(match[1]) * _SECONDS[match[2]]

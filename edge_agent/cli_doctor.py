"""The options of ``lorikeet-agent doctor``."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edge_agent.errors import UsageError
from edge_agent.option_values import absolute, check_among, default_device, default_state

EXAMPLES = (
    "Examples: lorikeet-agent doctor   |   "
    "lorikeet-agent doctor --broker mqtt://10.0.0.2:1883 --fleet clinics --json"
)


def doctor(  # noqa: PLR0917  (options)
    state: Annotated[
        Path | None,
        typer.Option(help="The agent's state folder. Default: the XDG state folder."),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(help="Try this one. Default: that of the agent's last start."),
    ] = None,
    fleet: Annotated[
        str | None, typer.Option(help="The hub's fleet. Default: as with --broker.")
    ] = None,
    broker_ca_file: Annotated[
        Path | None, typer.Option(help="Who signs the broker's certificate (PEM).")
    ] = None,
    broker_cert_file: Annotated[
        Path | None, typer.Option(help="This device's certificate (PEM).", show_default=False)
    ] = None,
    broker_key_file: Annotated[
        Path | None, typer.Option(help="Its key (PEM).", show_default=False)
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="One check by its name; may be given more than once.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what would keep this device's agent from its work, and what to do about it.

    Looks at a running agent, the clock, certificate, broker and hub, disk, memory, libraries,
    models, text and temperature. Exit code 1 if a line failed; a warning is no failure.
    """
    from edge_agent.doctor_command import CHECKS, show_doctor
    from edge_agent.kept_settings import kept_settings
    from edge_agent.task_run import Settings
    from wire.broker_settings import BrokerSettings

    for name in only or []:
        check_among("--only", name, CHECKS)
    device = default_device()
    folder = state or default_state(device)
    settings = kept_settings(folder)
    given = (fleet, broker_ca_file, broker_cert_file, broker_key_file)
    if broker is not None:
        connect = BrokerSettings(
            url=broker,
            ca_file=absolute(broker_ca_file),
            cert_file=absolute(broker_cert_file),
            key_file=absolute(broker_key_file),
        )
        if settings is None:
            empty = Settings(
                broker=connect, fleet="default", device=device, data=[], state_folder=str(folder)
            )
            settings = empty
        settings = msgspec.structs.replace(settings, broker=connect, fleet=fleet or settings.fleet)
    elif any(given):
        raise UsageError("--fleet and the --broker-… files go with --broker; name it, too.")
    show_doctor(folder, settings, only or [], as_json=as_json)

"""``lorikeet-hub broker-config``."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.options import AsJson
from hub.cli.output import print_json, print_line
from hub.errors import ConfigError, HubError

EXAMPLE = (
    "Example: lorikeet-hub broker-config --config hub.yaml --out broker --listen 8883 "
    "--websocket 8884, then mosquitto -c broker/mosquitto.conf"
)


class BrokerVersion(StrEnum):
    """Of mosquitto: its keys differ."""

    OLD = "2.0"
    NEW = "2.1"


def broker_config(  # noqa: PLR0917  (options)
    out: Annotated[
        Path,
        typer.Option(help="The folder to write; files of ours there are replaced.",
                     show_default=False),
    ],
    config: Annotated[Path, typer.Option(help="The hub's settings.")] = Path("hub.yaml"),
    listen: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of MQTT over TLS.")
    ] = 8883,
    websocket: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of MQTT over WebSocket over TLS.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="The address to listen on.", show_default=False)
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A name or address by which devices reach it. Repeatable.",
                     show_default=False),
    ] = None,
    broker_version: Annotated[
        BrokerVersion, typer.Option(help="Of mosquitto: 2.0 or 2.1 (and later).")
    ] = BrokerVersion.OLD,
    user: Annotated[
        str, typer.Option(help="The user that mosquitto becomes when it is started as root.")
    ] = "mosquitto",
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the broker will see the files.", show_default=False),
    ] = None,
    denied_log: Annotated[
        bool,
        typer.Option("--no-denied-log", help="Write no log file of what was forbidden to whom."),
    ] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Write a mosquitto configuration with TLS, client certificates and an access list.

    Certificates come from the hub's own authority; the hub need not run.
    """
    from hub.broker_configuration import BrokerOptions
    from hub.broker_files import write_broker_files
    from hub.config import load_hub_file

    settings = load_hub_file(config, insecure=True)  # nothing is listened on here
    if not settings.enrolment.on:
        raise ConfigError(
            "enrolment.listen",
            None,
            "host:port",
            message=f"enrolment.listen is missing in {config}; without enrolment no device has a "
            "certificate to show. Set it to HOST:PORT.",
        )
    options = BrokerOptions(
        folder=(folder or out).absolute(),
        listen=listen,
        websocket=websocket,
        address=address or "",
        version=broker_version.value,
        user=user,
        log_denied=not denied_log,
    )
    try:
        written = write_broker_files(out, settings, options, name or [], time.time())
    except OSError as error:
        raise HubError(
            f"--out is {out}; {error.strerror or error}. Choose another folder."
        ) from error
    if as_json:
        print_json({"out": str(out), "files": written})
        return
    for one in written:
        print_line(str(out / one))

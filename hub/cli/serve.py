"""``lorikeet-hub serve``."""

from pathlib import Path
from typing import Annotated

import typer

from hub.cli.options import AsJson
from hub.cli.output import print_json

EXAMPLE = "Example: lorikeet-hub serve --config hub.yaml"


def serve(
    config: Annotated[Path, typer.Option(help="The hub's settings.")] = Path("hub.yaml"),
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow to listen for others, without credentials.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the hub until stopped (Ctrl-C). With --json, print the settings in force first."""
    from hub.config import load_hub_file

    settings = load_hub_file(config, insecure=insecure)
    from hub.serve import run

    if as_json:
        print_json(
            {
                "fleet": settings.fleet,
                "broker": settings.broker.shown_url,
                "embedded_broker": settings.broker.embedded,
                "http": settings.http.public_url or settings.http.address.url,
                "database": settings.store.database,
                "blobs": str(settings.store.blobs),
            }
        )
    run(settings)

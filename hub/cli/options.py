"""Options that several verbs share."""

from typing import Annotated

import typer

DEFAULT_HUB = "http://127.0.0.1:8080"

HubUrl = Annotated[
    str,
    typer.Option("--hub", envvar="LORIKEET_HUB", help="Where the hub listens, http://host:port."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document, and nothing else, on stdout.")
]

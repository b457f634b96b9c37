"""``lorikeet-hub demo``."""

from pathlib import Path
from typing import Annotated

import typer

from hub.cli.options import AsJson

EXAMPLE = "Example: lorikeet-hub demo --seed 7 --name first"


def demo(
    *,
    model: Annotated[
        Path | None,
        typer.Option(help="A Hugging Face folder. Default: a small base that the hub trains."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the run's folder goes.")] = Path("runs"),
    name: Annotated[
        str | None, typer.Option(help="The run's name. Default: the date and time.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds to run.")] = 5,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Fixes roles and training. Default: drawn.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the hub's and the devices' state and logs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a broker, a hub and six devices of different memory on this machine, for some rounds."""
    from hub.demo.run import main

    code = main(
        model=model, out=out, name=name, rounds=rounds, seed=seed, keep=keep, as_json=as_json
    )
    raise typer.Exit(code)

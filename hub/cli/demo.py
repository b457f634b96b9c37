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
    split: Annotated[
        str,
        typer.Option(
            help="By what the devices' texts are divided: holder (a device has packages of its "
            "own), label (unlike mixtures of packages), length (of short and long passages), "
            "quantity (unlike amounts)."
        ),
    ] = "holder",
    alpha: Annotated[
        float,
        typer.Option(
            min=1e-6,
            max=1e9,
            help="Dirichlet's concentration, for all splits but holder: the smaller, the more "
            "unlike are the devices.",
        ),
    ] = 0.5,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the hub's and the devices' state and logs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a broker, a hub and six devices of different memory on this machine, for some rounds."""
    from hub.demo.run import main
    from hub.demo.splits import SPLITS
    from hub.errors import ConfigError
    from hub.yaml_file import one_of

    chosen = next((one for one in SPLITS if one == split), None)
    if chosen is None:
        raise ConfigError("--split", split, one_of(SPLITS))
    code = main(
        model=model,
        out=out,
        name=name,
        rounds=rounds,
        seed=seed,
        split=chosen,
        alpha=alpha,
        keep=keep,
        as_json=as_json,
    )
    raise typer.Exit(code)

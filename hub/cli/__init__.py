"""``lorikeet-hub``: the hub's command line. Only what a verb needs is imported, when it runs."""

import sys

import typer

from hub.cli import adapter, aggregate, broker_config, demo, device, job, serve, watch
from hub.errors import ConfigError, HubError
from wire.errors import WireError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The hub: tunes language models on the devices that hold the data.",
    epilog="Example: lorikeet-hub serve --config hub.yaml, then in another terminal "
    "lorikeet-hub job submit job.yaml --wait",
)
app.command(epilog=serve.EXAMPLE)(serve.serve)
app.command(epilog=demo.EXAMPLE)(demo.demo)
app.command(epilog=watch.EXAMPLE)(watch.watch)
app.command(epilog=aggregate.EXAMPLE)(aggregate.aggregate)
app.command("broker-config", epilog=broker_config.EXAMPLE)(broker_config.broker_config)
app.add_typer(job.app, name="job")
app.add_typer(device.app, name="device")
app.add_typer(adapter.app, name="adapter")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit 0, 1 (failed) or 2 (usage).

    Args:
        arguments: what stands after the program's name; None takes the process's own.
    """
    try:
        app(arguments, prog_name="lorikeet-hub")
    except (HubError, WireError) as error:
        sys.stderr.write(f"lorikeet-hub: {error}\n")
        sys.exit(2 if isinstance(error, ConfigError) else 1)

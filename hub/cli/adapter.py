"""``lorikeet-hub adapter``: list, export."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.options import DEFAULT_HUB, AsJson, HubUrl
from hub.cli.output import loss, print_json, print_line, print_table
from hub.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="See and fetch what jobs have trained.")


class Format(StrEnum):
    """As what an adapter is written."""

    PEFT = "peft"
    MODEL = "model"


@app.command("list", epilog="Example: lorikeet-hub adapter list")
def list_(hub: HubUrl = DEFAULT_HUB, as_json: AsJson = False) -> None:
    """List the newest adapter of each job that has published one."""
    from hub.cli.client import HubClient

    with HubClient(hub) as client:
        jobs = [job for job in client.jobs() if job.adapter_round is not None]
    if as_json:
        print_json(
            [
                {
                    "job": job.job,
                    "round": job.adapter_round,
                    "base": job.base,
                    "heldout_loss": job.heldout_loss,
                }
                for job in jobs
            ]
        )
        return
    print_table(
        "",
        ["job", "round", "held-out loss", "base"],
        ((job.job, job.adapter_round, loss(job.heldout_loss), job.base) for job in jobs),
    )


@app.command(
    epilog="Example: lorikeet-hub adapter export clinic-notes --out adapter, then "
    "peft.PeftModel.from_pretrained(model, 'adapter')"
)
def export(
    job: Annotated[str, typer.Argument(help="The job's name.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A folder that isn't there yet.", show_default=False)],
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="As what. Default: what the job has trained."),
    ] = None,
    hub: HubUrl = DEFAULT_HUB,
    as_json: AsJson = False,
) -> None:
    """Write a job's newest adapter as a folder that PEFT loads, or a whole model."""
    from hub.cli.client import HubClient
    from hub.cli.unpack import unpack

    if out.exists():
        message = f"--out is {out}; it exists. Name a folder that isn't there yet."
        raise ConfigError("--out", str(out), "a folder that isn't there yet", message=message)
    with HubClient(hub) as client:
        found = _format(next((one.method for one in client.jobs() if one.job == job), ""))
        if format_ is not None and format_ != found:
            message = f"--format is {format_.value}; job {job} has trained a {found.value}."
            raise ConfigError("--format", format_.value, found.value, message=message)
        files = unpack(lambda target: client.adapter(job, target), out)
    if as_json:
        print_json({"job": job, "format": found.value, "out": str(out), "files": files})
    else:
        print_line(f"{out}: {', '.join(files)}")


def _format(method: str) -> Format:
    """Return as what a job's method is exported."""
    from hub.jobs import WHOLE_METHODS

    return Format.MODEL if method in WHOLE_METHODS else Format.PEFT

"""``lorikeet-hub adapter``: list, export."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.options import DEFAULT_HUB, AsJson, HubUrl
from hub.cli.output import loss, print_json, print_line, print_table
from hub.errors import ConfigError
from hub.export.base_type import GGUF_TYPES, ONNX_TYPES, BaseType

app = typer.Typer(no_args_is_help=True, help="See and fetch what jobs have trained.")


class Format(StrEnum):
    """As what an adapter is written."""

    PEFT = "peft"
    MODEL = "model"
    GGUF = "gguf"
    ONNX = "onnx"
    MERGED = "merged"


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
    epilog="Example: lorikeet-hub adapter export clinic-notes --format gguf --base-type q8_0 "
    "--out notes, then llama-cli -m notes/base-q8_0.gguf --lora notes/adapter.gguf"
)
def export(  # noqa: PLR0917  (options)
    job: Annotated[str, typer.Argument(help="The job's name.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A folder that isn't there yet.", show_default=False)],
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="As what. Default: what the job has trained."),
    ] = None,
    base_type: Annotated[
        BaseType, typer.Option(help="With gguf and onnx: how the base's matrices are stored.")
    ] = BaseType.F16,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="With gguf and onnx: leave the base out.")
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option(
            help="With gguf, onnx and merged: the base's folder on this machine.",
            show_default="fetched from the hub",
        ),
    ] = None,
    hub: HubUrl = DEFAULT_HUB,
    as_json: AsJson = False,
) -> None:
    """Write a job's newest adapter: as it was trained, for an engine, or merged into its base."""
    from hub.cli.client import HubClient

    if out.exists():
        message = f"--out is {out}; it exists. Name a folder that isn't there yet."
        raise ConfigError("--out", str(out), "a folder that isn't there yet", message=message)
    _check_type(format_, base_type)
    with HubClient(hub) as client:
        if format_ in (Format.GGUF, Format.ONNX, Format.MERGED):
            from hub.cli.export import export_gguf, export_merged, export_onnx

            stored = None if adapter_only else base_type
            if format_ is Format.MERGED:
                made = export_merged(client, job, out, base)
            elif format_ is Format.ONNX:
                made = export_onnx(client, job, out, stored, base)
            else:
                made = export_gguf(client, job, out, stored, base)
            files, notes = made.files, made.notes
            told = {"base": made.base_sha256, "sha256": made.sha256, "notes": notes}
        else:
            from hub.cli.unpack import unpack

            trained = _trained(next((one.method for one in client.jobs() if one.job == job), ""))
            if format_ is not None and format_ is not trained:
                message = f"--format is {format_.value}; job {job} has trained a {trained.value}."
                raise ConfigError("--format", format_.value, trained.value, message=message)
            format_ = trained
            files, notes, told = unpack(lambda target: client.adapter(job, target), out), [], {}
    if as_json:
        print_json({"job": job, "format": format_.value, "out": str(out), "files": files, **told})
        return
    print_line(f"{out}: {', '.join(files)}")
    for note in notes:
        print_line(f"Note: {note}")


def _check_type(format_: Format | None, base_type: BaseType) -> None:
    """Refuse a type that a format doesn't have."""
    types = {Format.GGUF: GGUF_TYPES, Format.ONNX: ONNX_TYPES}.get(format_ or Format.PEFT)
    if types is not None and base_type not in types:
        known = ", ".join(types)
        message = f"--base-type is {base_type.value}; {format_} has {known}."
        raise ConfigError("--base-type", base_type.value, known, message=message)


def _trained(method: str) -> Format:
    """Return as what a job's method is exported, where nothing else is asked for."""
    from hub.jobs import WHOLE_METHODS

    return Format.MODEL if method in WHOLE_METHODS else Format.PEFT

"""``lorikeet-agent``: the device's command line."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from edge_agent import cli_doctor, cli_enroll, cli_serve, cli_train
from edge_agent.errors import UsageError
from edge_agent.option_values import (
    absolute,
    cap_bytes_of,
    check_floors,
    check_optimizer,
    default_device,
    default_state,
    memory_bytes_of,
    rate_of,
)
from wire.broker_profile import PROFILES, ProfileName
from wire.broker_settings import BrokerSettings, Protocol

_PROTOCOLS: dict[str, Protocol] = {name: name for name in get_args(Protocol)}
_NAMES: dict[str, ProfileName] = {name: name for name in PROFILES}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The agent on a device: takes the role that its memory allows, trains on text that "
    "never leaves it, and exchanges adapter updates with a hub over MQTT.",
)


@app.command(
    epilog="Example: lorikeet-agent run --broker mqtt://127.0.0.1:1883 --fleet clinics "
    "--data my.jsonl --memory 700MB"
)
def run(  # noqa: PLR0917  (options)
    data: Annotated[
        list[Path],
        typer.Option(
            help="Private text: .jsonl (prompt/response or text), .txt, or a folder of either. "
            "May be given more than once.",
            show_default=False,
        ),
    ],
    broker: Annotated[
        str | None,
        typer.Option(
            help="mqtt://host:port, mqtts:// with TLS, ws:// or wss:// for WebSocket. Default: "
            "as this device was enrolled.",
            show_default=False,
        ),
    ] = None,
    redact: Annotated[
        bool,
        typer.Option("--redact", help="Replace e-mail addresses, phone and card numbers by words."),
    ] = False,
    drop_near_duplicates: Annotated[
        bool,
        typer.Option("--drop-near-duplicates", help="Leave out text nearly as some before."),
    ] = False,
    min_letters: Annotated[
        int, typer.Option(min=1, help="Leave out text with fewer letters and digits.")
    ] = 1,
    fleet: Annotated[
        str | None,
        typer.Option(help="The hub's fleet. Default: as enrolled, or else default."),
    ] = None,
    device_id: Annotated[
        str | None,
        typer.Option("--id", help="This device's id. Default: as enrolled, or the host's name."),
    ] = None,
    broker_username: Annotated[
        str | None, typer.Option(help="This device's name at the broker.", show_default=False)
    ] = None,
    broker_password_file: Annotated[
        Path | None, typer.Option(help="Its first line is the password.", show_default=False)
    ] = None,
    broker_ca_file: Annotated[
        Path | None,
        typer.Option(help="Who signs the broker's certificate (PEM). Default: the system's list."),
    ] = None,
    broker_cert_file: Annotated[
        Path | None, typer.Option(help="This device's certificate (PEM).", show_default=False)
    ] = None,
    broker_key_file: Annotated[
        Path | None, typer.Option(help="Its key (PEM). Default: in the certificate's file.")
    ] = None,
    broker_profile: Annotated[
        str, typer.Option(help=f"Whose limits to keep: {', '.join(PROFILES)}.")
    ] = "generic",
    broker_protocol: Annotated[
        str, typer.Option(help=f"Version of MQTT: {', '.join(_PROTOCOLS)}.")
    ] = "auto",
    memory: Annotated[
        str | None,
        typer.Option(help="Limit for the whole agent, e.g. 700MB. Default: all that is free."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Where the agent keeps its files. Default: the XDG state folder."),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads for training; 0: one for each core.")
    ] = 0,
    min_battery: Annotated[
        int, typer.Option(min=0, max=100, help="Percent below which training rests off mains.")
    ] = 20,
    max_temperature: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=150,
            help="°C at which training rests. Default: 5 below the device's own limit.",
        ),
    ] = None,
    up_limit: Annotated[
        str | None, typer.Option(help="Most bits a second sent, e.g. 250kbit. Default: no limit.")
    ] = None,
    down_limit: Annotated[
        str | None, typer.Option(help="Most bits a second received, e.g. 1mbit.")
    ] = None,
    data_cap: Annotated[
        str | None,
        typer.Option(help="Most bytes a day (until 00:00 UTC), sent and received, e.g. 50MB."),
    ] = None,
    accelerate_config: Annotated[
        Path | None,
        typer.Option(
            help="For several GPUs: start the worker through accelerate launch with this file.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document at the end.")
    ] = False,
) -> None:
    """Connect to a hub and take part in its jobs until stopped (Ctrl-C)."""
    from edge_agent.enrolment.connecting import connecting
    from edge_agent.metering import Limits
    from edge_agent.pausing import Comfort
    from edge_agent.probe.machine import cores
    from edge_agent.run_command import become_agent
    from edge_agent.silo import read_silo
    from edge_agent.task_run import Settings
    from wire.broker_tls import check_files
    from wire.work import Cleaning

    if broker_profile not in PROFILES:
        raise UsageError(
            f"--broker-profile is {broker_profile!r}; allowed are {', '.join(PROFILES)}."
        )
    if broker_protocol not in _PROTOCOLS:
        raise UsageError(
            f"--broker-protocol is {broker_protocol!r}; allowed are {', '.join(_PROTOCOLS)}."
        )
    given = BrokerSettings(
        url=broker or "",
        username=broker_username,
        password_file=absolute(broker_password_file),
        ca_file=absolute(broker_ca_file),
        cert_file=absolute(broker_cert_file),
        key_file=absolute(broker_key_file),
        profile=_NAMES[broker_profile],
        protocol=_PROTOCOLS[broker_protocol],
    )
    folder = state or default_state(device_id or default_device())
    connect = connecting(given, fleet, device_id, folder, default_device())
    check_files(connect.broker)
    for path in data:
        if not path.exists():
            raise UsageError(f"--data is {path}; there is no such file or folder.")
    settings = Settings(
        broker=connect.broker,
        fleet=connect.fleet,
        device=connect.device,
        enrolled=connect.enrolled,
        data=[str(path) for path in data],
        cleaning=Cleaning(
            redact=redact, near_duplicates=drop_near_duplicates, min_letters=min_letters
        ),
        state_folder=str(folder),
        memory_bytes=memory_bytes_of(memory),
        threads=threads or int(cores()),
        comfort=Comfort(min_battery_percent=min_battery, max_temperature_c=max_temperature),
        limits=Limits(
            up_bits_per_s=rate_of("--up-limit", up_limit),
            down_bits_per_s=rate_of("--down-limit", down_limit),
            data_cap_bytes=cap_bytes_of(data_cap),
        ),
        silo=read_silo(accelerate_config) if accelerate_config is not None else None,
    )
    become_agent(settings, as_json=as_json)


@app.command(
    epilog="Example: lorikeet-agent plan --model ./base --memory 700MB --rank 16 --batch 4"
)
def plan(  # noqa: PLR0917  (options)
    model: Annotated[
        Path, typer.Option(help="A Hugging Face folder (config.json suffices) or a GGUF file.")
    ],
    memory: Annotated[
        str | None, typer.Option(help="Limit for the whole agent. Default: all that is free.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="Of a hub's job: lora, prompt or lora+prompt. Or local: all that train can do."
        ),
    ] = "local",
    rank: Annotated[int, typer.Option(min=1)] = 16,
    min_rank: Annotated[int, typer.Option(min=1)] = 2,
    batch: Annotated[int, typer.Option(min=1)] = 4,
    min_batch: Annotated[int, typer.Option(min=1)] = 1,
    seq_len: Annotated[int, typer.Option(min=8, help="tokens")] = 256,
    min_seq_len: Annotated[int, typer.Option(min=8, help="tokens")] = 32,
    prompt_tokens: Annotated[int, typer.Option(min=1)] = 16,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd")] = "adamw",
    momentum: Annotated[float, typer.Option(help="of sgd")] = 0.0,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Parts that a step's batch goes through in.")
    ] = 1,
    adversarial: Annotated[
        bool, typer.Option("--adversarial", help="With local.adversarial, which takes two passes.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Every line, not only each rung's first and best.")
    ] = False,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads for training; 0: one for each core.")
    ] = 0,
    state: Annotated[
        Path | None,
        typer.Option(help="Where the agent keeps its files. Default: the XDG state folder."),
    ] = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Measure this device again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show every rung of a model's ladder, its predicted peak, and the one this device takes.

    The first time on a device, a short training on made-up numbers measures it.
    """
    from edge_agent.plan_command import LOCAL, PlanOptions, show_plan
    from edge_agent.probe.machine import cores
    from wire.messages import JobKnobs

    if method not in (LOCAL, "lora", "prompt", "lora+prompt", "full"):
        raise UsageError(
            f"--method is {method!r}; allowed are {LOCAL}, lora, prompt, lora+prompt and full."
        )
    check_floors(
        {
            "rank": (min_rank, rank),
            "batch": (min_batch, batch),
            "seq-len": (min_seq_len, seq_len),
        }
    )
    check_optimizer(optimizer, momentum)
    knobs = JobKnobs(
        method=method,
        rank=rank,
        min_rank=min_rank,
        batch=batch,
        min_batch=min_batch,
        seq_len=seq_len,
        min_seq_len=min_seq_len,
        prompt_tokens=0 if method in ("lora", "full") else prompt_tokens,
        optimizer=optimizer,
        momentum=momentum,
        accumulate=accumulate,
        adversarial=adversarial,
    )
    show_plan(
        PlanOptions(
            model=model,
            knobs=knobs,
            memory_bytes=memory_bytes_of(memory),
            threads=threads or int(cores()),
            state=state or default_state(default_device()),
            every=every,
            recalibrate=recalibrate,
            as_json=as_json,
        )
    )


app.command(epilog=cli_train.EXAMPLES)(cli_train.train)
app.command(epilog=cli_serve.SERVE_EXAMPLES)(cli_serve.serve)
app.command(epilog=cli_serve.CHAT_EXAMPLES)(cli_serve.chat)
app.command(epilog=cli_doctor.EXAMPLES)(cli_doctor.doctor)
app.command(epilog=cli_enroll.EXAMPLE)(cli_enroll.enroll)


@app.command(epilog="Example: lorikeet-agent probe --memory 700MB --json")
def probe(
    memory: Annotated[
        str | None, typer.Option(help="Limit for the whole agent. Default: all that is free.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Whose disk to look at. Default: where the agent would keep its files."),
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Text to be counted, as for run.", show_default=False)
    ] = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Count it as with run --redact.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what this device has: memory, cores, accelerator, temperature, battery, disk, link."""
    from edge_agent.probe_command import show_probe
    from wire.work import Cleaning

    folder = state or default_state(default_device())
    show_probe(
        folder,
        memory_bytes_of(memory),
        as_json=as_json,
        data=data or [],
        cleaning=Cleaning(redact=redact),
    )


def main() -> None:
    """Run the command line; exit 0, 1 (failed) or 2 (usage)."""
    from edge_agent.endings import exit_codes

    with exit_codes():
        app()

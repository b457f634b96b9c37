"""``lorikeet-agent``: the device's command line."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from edge_agent.errors import UsageError
from edge_agent.option_values import (
    absolute,
    cap_bytes_of,
    check_floors,
    default_device,
    default_state,
    memory_bytes_of,
    rate_of,
)
from wire.broker_profile import PROFILES, ProfileName
from wire.broker_settings import BrokerSettings, Protocol

_ROLES: dict[str, Literal["lora", "prompt"]] = {"lora": "lora", "prompt": "prompt"}
_PROTOCOLS: dict[str, Protocol] = {name: name for name in get_args(Protocol)}
_NAMES: dict[str, ProfileName] = {name: name for name in PROFILES}
_PROMPT_KINDS: dict[str, Literal["soft", "prefix"]] = {"soft": "soft", "prefix": "prefix"}
#: By role. A prompt's entries are few and small: they need larger steps.
_LEARNING_RATES = {"lora": 1e-3, "prompt": 2e-2}

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
    broker: Annotated[
        str,
        typer.Option(
            help="mqtt://host:port, mqtts:// with TLS, ws:// or wss:// for WebSocket.",
            show_default=False,
        ),
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            help="Private text: .jsonl (prompt/response or text), .txt, or a folder of either. "
            "May be given more than once.",
            show_default=False,
        ),
    ],
    fleet: Annotated[str, typer.Option(help="The hub's fleet.")] = "default",
    device_id: Annotated[
        str | None,
        typer.Option("--id", help="This device's id. Default: the host's name."),
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document at the end.")
    ] = False,
) -> None:
    """Connect to a hub and take part in its jobs until stopped (Ctrl-C)."""
    from edge_agent.metering import Limits
    from edge_agent.pausing import Comfort
    from edge_agent.probe.machine import cores
    from edge_agent.run_command import become_agent
    from edge_agent.task_run import Settings
    from wire.broker_tls import check_files

    if broker_profile not in PROFILES:
        raise UsageError(
            f"--broker-profile is {broker_profile!r}; allowed are {', '.join(PROFILES)}."
        )
    if broker_protocol not in _PROTOCOLS:
        raise UsageError(
            f"--broker-protocol is {broker_protocol!r}; allowed are {', '.join(_PROTOCOLS)}."
        )
    connect = BrokerSettings(
        url=broker,
        username=broker_username,
        password_file=absolute(broker_password_file),
        ca_file=absolute(broker_ca_file),
        cert_file=absolute(broker_cert_file),
        key_file=absolute(broker_key_file),
        profile=_NAMES[broker_profile],
        protocol=_PROTOCOLS[broker_protocol],
    )
    check_files(connect)
    device = device_id or default_device()
    for path in data:
        if not path.exists():
            raise UsageError(f"--data is {path}; there is no such file or folder.")
    folder = state or default_state(device)
    settings = Settings(
        broker=connect,
        fleet=fleet,
        device=device,
        data=[str(path) for path in data],
        state_folder=str(folder),
        memory_bytes=memory_bytes_of(memory),
        threads=threads or int(cores()),
        comfort=Comfort(min_battery_percent=min_battery, max_temperature_c=max_temperature),
        limits=Limits(
            up_bits_per_s=rate_of("--up-limit", up_limit),
            down_bits_per_s=rate_of("--down-limit", down_limit),
            data_cap_bytes=cap_bytes_of(data_cap),
        ),
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

    if method not in (LOCAL, "lora", "prompt", "lora+prompt"):
        raise UsageError(
            f"--method is {method!r}; allowed are {LOCAL}, lora, prompt and lora+prompt."
        )
    check_floors(
        {
            "rank": (min_rank, rank),
            "batch": (min_batch, batch),
            "seq-len": (min_seq_len, seq_len),
        }
    )
    knobs = JobKnobs(
        method=method,
        rank=rank,
        min_rank=min_rank,
        batch=batch,
        min_batch=min_batch,
        seq_len=seq_len,
        min_seq_len=min_seq_len,
        prompt_tokens=0 if method == "lora" else prompt_tokens,
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


@app.command(
    epilog="Examples: lorikeet-agent train --model ./base --data my.jsonl --memory 700MB · "
    "lorikeet-agent train --model base-q4_0.gguf --data notes/ --rung streamed --steps 100 "
    "--out ./adapter --json"
)
def train(  # noqa: PLR0917  (options)
    model: Annotated[
        Path,
        typer.Option(help="A Hugging Face folder, or a GGUF file.", show_default=False),
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            help="Private text: .jsonl (prompt/response or text), .txt, or a folder of either. "
            "May be given more than once.",
            show_default=False,
        ),
    ],
    memory: Annotated[
        str | None,
        typer.Option(help="Limit for the whole command, e.g. 700MB. Default: all that is free."),
    ] = None,
    role: Annotated[str, typer.Option(help="lora or prompt")] = "lora",
    rung: Annotated[
        str,
        typer.Option(
            help="How the role is fitted into memory: auto, or resident, checkpointed, streamed, "
            "core, prompt to begin there even where the plan says that it won't fit."
        ),
    ] = "auto",
    rank: Annotated[int, typer.Option(min=1, help="of LoRA's factors")] = 16,
    min_rank: Annotated[
        int | None, typer.Option(min=1, help="Where memory is short. Default: 2, or --rank.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="sequences a step")] = 1,
    min_batch: Annotated[int, typer.Option(min=1)] = 1,
    seq_len: Annotated[int, typer.Option(min=8, help="tokens")] = 256,
    min_seq_len: Annotated[
        int | None, typer.Option(min=8, help="tokens. Default: 32, or --seq-len.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1)] = 20,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate. Default: 0.001 for lora, 0.02 for prompt."),
    ] = None,
    prompt_kind: Annotated[
        str, typer.Option(help="For prompt: soft (embeddings in front) or prefix (in every layer).")
    ] = "soft",
    prompt_tokens: Annotated[int, typer.Option(min=1, help="length of the prompt")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="fixes start and order")] = 0,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads for training; 0: one for each core.")
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the adapter, in PEFT's format.")] = Path(
        "adapter"
    ),
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is in the adapter's folder.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training that was stopped in --out.")
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option(help="Where the agent keeps its files. Default: the XDG state folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Train an adapter on this device alone, without a hub, in the memory that there is."""
    from edge_agent.probe.machine import cores
    from edge_agent.train_command import TrainOptions, become_training
    from wire.messages import JobKnobs

    if role not in _ROLES:
        raise UsageError(f"--role is {role!r}; allowed are lora and prompt.")
    if prompt_kind not in _PROMPT_KINDS:
        raise UsageError(f"--prompt-kind is {prompt_kind!r}; allowed are soft and prefix.")
    if lr is not None and not 0 < lr <= 10:
        raise UsageError(f"--lr is {lr}; must be above 0 and at most 10.")
    floors = {
        "rank": (min_rank or min(2, rank), rank),
        "batch": (min_batch, batch),
        "seq-len": (min_seq_len or min(32, seq_len), seq_len),
    }
    check_floors(floors)
    become_training(
        TrainOptions(
            model=str(model),
            data=[str(path) for path in data],
            out=str(out),
            state=str(state or default_state(default_device())),
            role=_ROLES[role],
            rung=rung,
            knobs=JobKnobs(
                method=role,
                rank=rank,
                min_rank=floors["rank"][0],
                batch=batch,
                min_batch=min_batch,
                seq_len=seq_len,
                min_seq_len=floors["seq-len"][0],
                prompt_tokens=prompt_tokens if role == "prompt" else 0,
            ),
            prompt_kind=_PROMPT_KINDS[prompt_kind],
            steps=steps,
            lr=lr or _LEARNING_RATES[role],
            seed=seed,
            memory_bytes=memory_bytes_of(memory),
            threads=threads or int(cores()),
            force=force,
            resume=resume,
            as_json=as_json,
        )
    )


@app.command(epilog="Example: lorikeet-agent probe --memory 700MB --json")
def probe(
    memory: Annotated[
        str | None, typer.Option(help="Limit for the whole agent. Default: all that is free.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Whose disk to look at. Default: where the agent would keep its files."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what this device has: memory, cores, accelerator, temperature, battery, disk, link."""
    from edge_agent.probe_command import show_probe

    folder = state or default_state(default_device())
    show_probe(folder, memory_bytes_of(memory), as_json=as_json)


def main() -> None:
    """Run the command line; exit 0, 1 (failed) or 2 (usage)."""
    from edge_agent.endings import exit_codes

    with exit_codes():
        app()

"""``lorikeet-agent serve`` and ``lorikeet-agent chat``."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from edge_agent.errors import UsageError
from edge_agent.option_values import absolute, check_among, default_device, default_state
from edge_agent.serve_command import Engine, ServeSettings, address_of, become, check_token

_ENGINES: dict[str, Engine] = {name: name for name in get_args(Engine)}
SERVE_EXAMPLES = (
    "Example: lorikeet-agent serve --listen 127.0.0.1:8090, beside a running agent. "
    "Or: lorikeet-agent serve --model base-q4_0.gguf --adapter ./adapter"
)
CHAT_EXAMPLES = (
    "Example: lorikeet-agent chat --url http://127.0.0.1:8090. "
    "Or: lorikeet-agent chat --model base-q4_0.gguf"
)

State = Annotated[
    Path | None,
    typer.Option(help="The agent's --state. Default: as for run."),
]
Job = Annotated[str | None, typer.Option(help="Whose adapter. Default: the one announced last.")]
Model = Annotated[
    Path | None,
    typer.Option(help="A GGUF or ONNX file in place of the agent's base.", show_default=False),
]
AdapterFolder = Annotated[
    Path | None,
    typer.Option(help="PEFT folder in place of the agent's adapter.", show_default=False),
]
EngineName = Annotated[
    str | None, typer.Option(help=f"{' or '.join(_ENGINES)}. Default: by the file.")
]
Context = Annotated[int, typer.Option(min=16, help="Tokens of a question with its answer.")]
Threads = Annotated[int, typer.Option(min=0, help="For computing; 0: one for each core.")]
Repack = Annotated[
    bool,
    typer.Option(help="Hold Q4_0 weights twice: faster with llama.cpp, twice the memory."),
]


def serve(  # noqa: PLR0917  (options)
    state: State = None,
    job: Job = None,
    listen: Annotated[
        str, typer.Option(help="Address; others than this machine's need a token.")
    ] = "127.0.0.1:8090",
    token_file: Annotated[
        Path | None,
        typer.Option(help="Its first line is what callers give as API key.", show_default=False),
    ] = None,
    model: Model = None,
    adapter: AdapterFolder = None,
    engine: EngineName = None,
    slots: Annotated[int, typer.Option(min=1, max=64, help="Answers at a time.")] = 4,
    context: Context = 1024,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait for a slot.")] = 32,
    threads: Threads = 0,
    repack: Repack = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document at the end.")
    ] = False,
) -> None:
    """Serve the agent's model on this device, by OpenAI's interface, until stopped (Ctrl-C).

    Each new adapter of a running agent is taken without stopping.
    """
    host, port = address_of(listen)
    check_token(host, absolute(token_file))
    settings = _settings(
        state=state,
        job=job,
        model=model,
        adapter=adapter,
        engine=engine,
        context=context,
        threads=threads,
        repack=repack,
    )
    become(
        "serve_main",
        _with(
            settings,
            slots=slots,
            queue=queue,
            host=host,
            port=port,
            token_file=absolute(token_file),
            as_json=as_json,
        ),
    )


def chat(  # noqa: PLR0917  (options)
    url: Annotated[
        str | None,
        typer.Option(help="A running server; without it, the model is opened here."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Its first line is the server's token.", show_default=False)
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="What the model is told first.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of each answer. Default: as many as fit.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, max=5, help="0: the likeliest words.")] = 0.7,
    state: State = None,
    job: Job = None,
    model: Model = None,
    adapter: AdapterFolder = None,
    engine: EngineName = None,
    context: Context = 1024,
    threads: Threads = 0,
    repack: Repack = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Read standard input as one question; print one document."),
    ] = False,
) -> None:
    """Chat with the agent's model in the terminal; an empty line or Ctrl-D ends it."""
    settings = _settings(
        state=state,
        job=job,
        model=model,
        adapter=adapter,
        engine=engine,
        context=context,
        threads=threads,
        repack=repack,
    )
    become(
        "chat_main",
        _with(
            settings,
            slots=1,
            url=url or "",
            token_file=absolute(token_file),
            system=system or "",
            max_tokens=max_tokens,
            temperature=temperature,
            as_json=as_json,
        ),
    )


def _settings(
    *,
    state: Path | None,
    job: str | None,
    model: Path | None,
    adapter: Path | None,
    engine: str | None,
    context: int,
    threads: int,
    repack: bool,
) -> ServeSettings:
    from edge_agent.probe.machine import cores

    if engine is not None:
        check_among("--engine", engine, _ENGINES)
    for option, path in (("--model", model), ("--adapter", adapter)):
        if path is not None and not path.exists():
            raise UsageError(f"{option} is {path}; there is no such file or folder.")
    if adapter is not None and model is None:
        raise UsageError("--adapter was given without --model; an adapter needs its base.")
    return ServeSettings(
        state=str((state or default_state(default_device())).absolute()),
        job=job or "",
        model=absolute(model),
        adapter=absolute(adapter),
        engine=None if engine is None else _ENGINES[engine],
        context=context,
        threads=threads or int(cores()),
        repack=repack,
    )


def _with(settings: ServeSettings, **changes: object) -> ServeSettings:
    import msgspec

    return msgspec.structs.replace(settings, **changes)

"""``lorikeet-agent train``: its options, checked and handed on."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_agent.errors import UsageError
from edge_agent.option_values import (
    check_among,
    check_floors,
    check_optimizer,
    default_device,
    default_state,
    memory_bytes_of,
)

EXAMPLES = (
    "Examples: lorikeet-agent train --model ./base --data my.jsonl --memory 700MB · "
    "lorikeet-agent train --model base-q4_0.gguf --data notes/ --rung streamed --steps 100 "
    "--out ./adapter --json"
)
_ROLES: dict[str, Literal["lora", "prompt"]] = {"lora": "lora", "prompt": "prompt"}
_PROMPT_KINDS: dict[str, Literal["soft", "prefix"]] = {"soft": "soft", "prefix": "prefix"}
#: By role. A prompt's entries are few and small: they need larger steps.
_LEARNING_RATES = {"lora": 1e-3, "prompt": 2e-2}


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
    optimizer: Annotated[str, typer.Option(help="adamw or sgd")] = "adamw",
    momentum: Annotated[float, typer.Option(help="of sgd")] = 0.0,
    weight_decay: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Default: 0.01 for lora, 0 for prompt."),
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="Of the learning rate: constant, linear or cosine (down to 0).")
    ] = "constant",
    warmup_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Steps of a rising rate. Default: 3, at most a quarter."),
    ] = None,
    clip: Annotated[
        float, typer.Option(min=0, help="Greatest norm of all gradients together; 0: any.")
    ] = 1.0,
    accumulate: Annotated[
        int,
        typer.Option(min=1, help="Parts that a step's batch goes through in, to save memory."),
    ] = 1,
    adversarial: Annotated[
        float | None,
        typer.Option(help="Also on embeddings moved so far against the model (FGM's epsilon)."),
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
    from edge_agent.training.schedule import SCHEDULES
    from wire.messages import JobKnobs
    from wire.work import Cleaning

    check_among("--role", role, _ROLES)
    check_among("--prompt-kind", prompt_kind, _PROMPT_KINDS)
    check_among("--schedule", schedule, SCHEDULES)
    check_optimizer(optimizer, momentum)
    if lr is not None and not 0 < lr <= 10:
        raise UsageError(f"--lr is {lr}; must be above 0 and at most 10.")
    if adversarial is not None and not 0 < adversarial <= 1000:
        raise UsageError(f"--adversarial is {adversarial}; must be above 0 and at most 1000.")
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
            cleaning=Cleaning(
                redact=redact, near_duplicates=drop_near_duplicates, min_letters=min_letters
            ),
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
                optimizer=optimizer,
                momentum=momentum,
                accumulate=accumulate,
                adversarial=adversarial is not None,
            ),
            prompt_kind=_PROMPT_KINDS[prompt_kind],
            steps=steps,
            lr=lr or _LEARNING_RATES[role],
            weight_decay=weight_decay,
            schedule=schedule,
            warmup_steps=warmup_steps,
            clip=clip or None,
            adversarial=adversarial,
            seed=seed,
            memory_bytes=memory_bytes_of(memory),
            threads=threads or int(cores()),
            force=force,
            resume=resume,
            as_json=as_json,
        )
    )

"""The demo's base model: a small Llama-shaped byte-level model, trained where it is needed.

Nothing is downloaded: the text is `pydoc_data.topics`, the manual that every Python carries.
Training runs as a process of its own (``python -m hub.demo.base --out DIR``), so that torch and
transformers never enter the memory of the process that asks for the model.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hub.demo.byte_tokenizer import BOS, EOS, PAD, VOCAB_SIZE, save_byte_tokenizer
from hub.errors import HubError

#: Longest that training may take, in seconds; reached only where the machine is much slower.
CAP_S = 50.0


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides how the base comes out, besides the text and torch's version.

    400 steps took 36 to 42 s on two cores, imports included. Measured at this size:
    small batches with more steps beat larger ones, and a wide initialisation (0.05, near
    1/sqrt(hidden)) brings the loss down in half the steps that 0.02 takes.
    """

    version: int = 1
    vocabulary: int = VOCAB_SIZE  # tokens beyond the tokenizer's are never met
    hidden: int = 128
    layers: int = 4
    mlp: int = 344
    heads: int = 4
    init_std: float = 0.05
    seq_len: int = 256
    positions: int = 1024
    batch: int = 4
    steps: int = 400
    warmup: int = 20
    lr: float = 3e-3
    threads: int = 2
    seed: int = 7


class Text(NamedTuple):
    """Pages as token ids, and the ids of the tokens that no page has."""

    pages: Sequence[Sequence[int]]
    pad: int
    bos: int
    eos: int


class TrainStep(msgspec.Struct, frozen=True, kw_only=True):
    """One progress line of the training process; ``loss`` is the mean of the last steps."""

    step: int
    steps: int
    loss: float


class BaseTrainingError(HubError):
    """The base could not be made: what happened, and what to do."""


def topics_text() -> list[str]:
    """Return the pages of Python's manual, by name."""
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def cache_key(recipe: Recipe) -> str:
    """Return the name under which a trained base is kept: a hash of all that went into it."""
    parts = [msgspec.json.encode(recipe), importlib.metadata.version("torch").encode()]
    parts += [page.encode() for page in topics_text()]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """Return the folder for what can be made again, under ``XDG_CACHE_HOME`` or ``~/.cache``."""
    set_by_user = os.environ.get("XDG_CACHE_HOME", "")
    parent = Path(set_by_user) if Path(set_by_user).is_absolute() else Path.home() / ".cache"
    return parent / "lorikeet"


def cached_base(
    on_progress: Callable[[TrainStep], None] | None = None, *, recipe: Recipe | None = None
) -> Path:
    """Return the folder of the demo's base model, training it first if it isn't there.

    A second caller waits for the first one's training; a training that dies leaves nothing.

    Args:
        on_progress: called for each progress line while training; never on a cache hit.
        recipe: how to train; the default one if None.

    Raises:
        BaseTrainingError: the training process failed.
    """
    chosen = recipe or Recipe()
    root = cache_root() / "bases"
    folder = root / f"pydoc-{cache_key(chosen)}"
    if (folder / "config.json").is_file():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{folder.name}.lock"):
        if (folder / "config.json").is_file():
            return folder
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=root))
        try:
            _train_in_process(building, chosen, on_progress)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file lock, which the system frees when its holder dies."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _train_in_process(
    out: Path, recipe: Recipe, on_progress: Callable[[TrainStep], None] | None
) -> None:
    command = [sys.executable, "-m", "hub.demo.base", "--out", str(out)]
    command += ["--recipe", msgspec.json.encode(recipe).decode()]
    errors = out.with_name(out.name + ".log")
    try:
        with (
            errors.open("wb") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process,
        ):
            try:
                for line in process.stdout or ():
                    if on_progress is not None and line.startswith(b"{"):
                        on_progress(msgspec.json.decode(line, type=TrainStep))
            except BaseException:
                process.terminate()
                raise
        if process.returncode != 0:
            last = errors.read_text(errors="replace").strip().splitlines()[-1:]
            raise BaseTrainingError(
                f"training the demo's base ended with exit code {process.returncode}: "
                f"{''.join(last)} Install the extra 'train', or name a model with --model."
            )
    finally:
        errors.unlink(missing_ok=True)


def train(
    out: Path,
    recipe: Recipe,
    cap_s: float,
    on_progress: Callable[[TrainStep], None],
    text: Text | None = None,
) -> int:
    """Train the base and save it as a Hugging Face folder.

    Args:
        out: the folder, made if it is not there.
        recipe: shape, steps and seed.
        cap_s: training stops after so many seconds, finished or not; the model is then weaker.
        on_progress: called every 20 steps and at the last one.
        text: what it is trained on; None: the bytes of Python's manual. Whoever gives other text
            has put its tokenizer into the folder.

    Returns:
        the number of steps done.
    """
    import torch
    from torch.nn import functional
    from transformers import LlamaConfig, LlamaForCausalLM

    read = text or Text([page.encode() for page in topics_text()], PAD, BOS, EOS)
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        initializer_range=recipe.init_std,
        tie_word_embeddings=False,
        pad_token_id=read.pad,
        bos_token_id=read.bos,
        eos_token_id=read.eos,
    )
    model: Any = LlamaForCausalLM(config)
    stream = torch.tensor([token for page in read.pages for token in (read.bos, *page, read.eos)])
    draw = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.1
    )
    started, recent, done = time.monotonic(), list[float](), 0
    while done < recipe.steps and (time.monotonic() - started < cap_s or done == 0):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * learning_rate_share(done, recipe)
        starts = torch.randint(
            0, len(stream) - recipe.seq_len - 1, (recipe.batch,), generator=draw
        ).tolist()
        window = torch.stack([stream[at : at + recipe.seq_len + 1] for at in starts])
        logits = model(input_ids=window[:, :-1], use_cache=False).logits
        loss: Any = functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done += 1
        recent = [*recent[-19:], loss.item()]
        if done % 20 == 0 or done == recipe.steps:
            mean = sum(recent) / len(recent)
            on_progress(TrainStep(step=done, steps=recipe.steps, loss=round(mean, 4)))
    model.save_pretrained(out)
    if text is None:
        save_byte_tokenizer(out, recipe.positions)
    return done


def learning_rate_share(step: int, recipe: Recipe) -> float:
    """Return the share of the peak learning rate: a linear warm-up, then a linear way to zero."""
    return min(1.0, (step + 1) / recipe.warmup) * (1.0 - step / recipe.steps)


def main() -> None:
    """Train from the command line; each progress line is a JSON object."""
    parser = argparse.ArgumentParser(prog="python -m hub.demo.base", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--seconds", type=float, default=CAP_S, help="longest training time")
    parser.add_argument("--recipe", default="{}", help="JSON: what differs from the default recipe")
    arguments = parser.parse_args()
    try:
        recipe = msgspec.json.decode(arguments.recipe, type=Recipe)
    except msgspec.DecodeError as error:
        parser.error(f"--recipe {arguments.recipe!r}: {error}")
    # Waiting threads must not spin: one other busy process on two cores makes spinning threads
    # twenty times slower (0.06 -> 1.3 s a step, measured). Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments.out.mkdir(parents=True, exist_ok=True)
    train(arguments.out, recipe, arguments.seconds, _print_step)


def _print_step(step: TrainStep) -> None:
    sys.stdout.write(msgspec.json.encode(step).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

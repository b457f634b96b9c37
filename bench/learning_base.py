"""The base of the learning bench: a Llama of 5.3 M parameters that knows schools, not hospitals.

Hidden size 320, 2 layers, trained on the school questions of the data folder and on Python's
manual, pages of both mixed. Its 4,096 tokens are learnt from the same text (byte-level BPE): half
the parameters are then embeddings, and a token stands for three letters, so that a step of training
sees as much text as a byte-level model of that size would in three times the time.

Run as a program (``python -m bench.learning_base``), it trains in a process of its own.
"""

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.report import BenchError, say
from hub.demo.base import Recipe, Text, TrainStep, topics_text, train
from hub.pretrain.tokenizer import BOS, EOS, PAD, train_tokenizer

RECIPE = Recipe(
    vocabulary=4096, hidden=320, layers=2, mlp=960, heads=5,
    seq_len=128, batch=4, steps=2000, lr=2e-3, threads=1,
)  # fmt: skip
#: A model for tests of the bench itself; it knows next to nothing.
TINY = Recipe(vocabulary=300, hidden=32, layers=1, mlp=64, heads=2, seq_len=32, steps=30, threads=1)
_CAP_S = 1800.0


def public_pages(data: Path) -> list[str]:
    """Return the public text: school questions with their answers, and Python's manual, mixed.

    Args:
        data: folder with ``education/*.train.jsonl``.

    Raises:
        BenchError: there is no such file.
    """
    files = sorted((data / "education").glob("*.train.jsonl"))
    if not files:
        raise BenchError(f"{data}/education has no *.train.jsonl. Name another folder with --data.")
    lines = [line for file in files for line in file.read_text("utf-8").splitlines() if line]
    answered = [msgspec.json.decode(line, type=dict[str, str]) for line in lines]
    pages = [f"{one['prompt']}\n{one['response']}" for one in answered] + topics_text()
    random.Random(0).shuffle(pages)
    return pages


def base_for(data: Path, folder: Path, recipe: Recipe = RECIPE) -> Path:
    """Return the base's folder; it is trained when it is first asked for, in some minutes.

    Args:
        data: with the public text.
        folder: for bases; what is in it already is used again.
        recipe: how to train it.
    """
    digest = hashlib.sha256(msgspec.json.encode(recipe))
    for page in public_pages(data):
        digest.update(page.encode())
    path = folder / f"llama-public-{digest.hexdigest()[:12]}"
    if path.exists():
        return path
    say("training the base")
    began = time.monotonic()
    # A name of its own until it is whole, so that what was cut off is never used.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    command = [sys.executable, "-m", "bench.learning_base", "--data", str(data)]
    command += ["--out", str(unfinished), "--recipe", msgspec.json.encode(recipe).decode()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise BenchError(f"the base could not be trained: {done.stderr[-400:]}")
    unfinished.rename(path)
    say(f"trained in {time.monotonic() - began:.0f} s: {done.stdout.splitlines()[-1]}")
    return path


def make(out: Path, recipe: Recipe, pages: Sequence[str]) -> None:
    """Train tokenizer and model on some pages, and save both as a Hugging Face folder."""
    from tokenizers import Tokenizer

    train_tokenizer(pages, recipe.vocabulary, out, recipe.positions)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    ids = [tokenizer.encode(page).ids for page in pages]
    train(out, recipe, _CAP_S, _print_step, Text(ids, PAD, BOS, EOS))


def _print_step(step: TrainStep) -> None:
    sys.stdout.write(msgspec.json.encode(step).decode() + "\n")
    sys.stdout.flush()


def main() -> None:
    """Train the base; each progress line is a JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.learning_base", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", required=True, help="JSON")
    arguments = parser.parse_args()
    recipe = msgspec.json.decode(arguments.recipe, type=Recipe)
    arguments.out.mkdir(parents=True)
    make(arguments.out, recipe, public_pages(arguments.data))


if __name__ == "__main__":
    main()

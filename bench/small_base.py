"""The wire's benches train this model: about a million parameters, on text that Python has.

A Llama of hidden size 128, 4 layers, vocabulary 512: 983,040 parameters in matrices, and with
LoRA on all linear layers 10,240 a rank, so 163,840 at rank 16 (655,360 bytes in fp32). Its
tokens are bytes; the vocabulary's other half is never met.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from bench.report import BenchError, say
from hub.demo.base import Recipe
from hub.demo.byte_tokenizer import VOCAB_SIZE

VOCABULARY = 512
LORA_NUMBERS_PER_RANK = 10_240
_RECIPE = Recipe(hidden=128, layers=4, mlp=384, vocabulary=VOCABULARY)
#: Two layers of seven matrices, 1024 by 1024: much LoRA (28,672 numbers a rank), little work.
_WIDE = Recipe(
    hidden=1024, layers=2, mlp=1024, heads=8, vocabulary=VOCAB_SIZE, steps=1, batch=1, seq_len=32
)
WIDE_LORA_NUMBERS_PER_RANK = 28_672


class SmallBases:
    """The bases on disk, made when they are first asked for.

    Args:
        folder: for nothing else; what is in it already is used again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def trained(self) -> Path:
        """Return the model of a million parameters, trained for about a minute."""
        return self._made("llama-1m", _RECIPE)

    def wide(self) -> Path:
        """Return a model whose adapter can be large; it knows nothing."""
        return self._made("llama-wide", _WIDE)

    def _made(self, name: str, recipe: Recipe) -> Path:
        path = self._folder / name
        if path.exists():
            return path
        say(f"training {name}")
        began = time.monotonic()
        # A name of its own until it is whole, so that what was cut off is never used.
        unfinished = path.with_name(f"{name}.{os.getpid()}.unfinished")
        command = [sys.executable, "-m", "hub.demo.base", "--out", str(unfinished)]
        command += ["--recipe", msgspec.json.encode(recipe).decode(), "--seconds", "900"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"{name} could not be trained: {done.stderr[-400:]}")
        try:
            unfinished.rename(path)
        except OSError:
            shutil.rmtree(unfinished)
            if not path.exists():  # else another run was quicker
                raise
        say(f"trained {name} in {time.monotonic() - began:.0f} s: {done.stdout.splitlines()[-1]}")
        return path

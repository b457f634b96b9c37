"""Writes one model of random weights: ``python -m bench.write_model SHAPE STORED PATH``."""

import sys
from pathlib import Path

from bench.gguf_file import write_gguf
from bench.random_weights import write_folder
from bench.shapes import SHAPES, Shape
from bench.vocabulary import write_tokenizer


def write_model(shape: Shape, stored: str, path: Path) -> None:
    """Write a folder in bfloat16, or a GGUF file of another type."""
    if stored != "bf16":
        write_gguf(shape, path, stored)
        return
    path.mkdir()
    write_tokenizer(shape.config["vocab_size"], path)
    write_folder(shape, path)


if __name__ == "__main__":
    write_model(SHAPES[sys.argv[1]], sys.argv[2], Path(sys.argv[3]))

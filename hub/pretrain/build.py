"""A base from scratch, as a process of its own: ``python -m hub.pretrain.build --recipe JSON``.

A tokenizer's training takes far more memory than the hub otherwise has, and gives it back with the
process.
"""

import argparse
from pathlib import Path

import msgspec

from hub.pretrain.text import text_files, texts
from hub.pretrain.tokenizer import BOS, EOS, PAD, train_tokenizer
from hub.pretrain.weights import write_weights


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides how a base comes out, but for the text itself."""

    config: dict[str, object]  # of a model of a known family
    text: str  # a file or a folder
    vocabulary: int
    seed: int


def build(recipe: Recipe, out: Path) -> None:
    """Train the tokenizer, draw the weights, and write both as a Hugging Face folder.

    Args:
        recipe: what to make.
        out: an existing folder.
    """
    positions = recipe.config.get("max_position_embeddings")
    found = texts(text_files(Path(recipe.text)))
    longest = positions if isinstance(positions, int) else 2048
    tokens = train_tokenizer(found, recipe.vocabulary, out, longest)
    config = {key: value for key, value in recipe.config.items() if key != "torch_dtype"} | {
        "vocab_size": tokens,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "dtype": "float32",
    }
    write_weights(out, config, recipe.seed)
    (out / "config.json").write_bytes(msgspec.json.format(msgspec.json.encode(config)) + b"\n")


def main() -> None:
    """Build a base."""
    parser = argparse.ArgumentParser(prog="python -m hub.pretrain.build", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--recipe", required=True, help="JSON; see Recipe")
    arguments = parser.parse_args()
    build(msgspec.json.decode(arguments.recipe, type=Recipe), arguments.out)


if __name__ == "__main__":
    main()

"""Made-up updates are combined as a hub would, and leave the store as it was."""

from pathlib import Path

import msgspec

from bench.aggregation import combine, combine_layer, make_updates
from bench.shapes import Shape
from wire.blobs import BlobStore

SMALL = Shape(
    "small",
    {
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "intermediate_size": 48,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 64,
    },
)


def test_updates_are_made_once_and_combined_any_number_of_times(tmp_path: Path) -> None:
    made = make_updates(tmp_path, SMALL, 3)
    # One rank has 32 + 32 (q, o), twice 32 + 16 (k, v), three times 32 + 48: 464 numbers.
    assert made.size_bytes / 3 >= 4 * 16 * 464
    before = BlobStore(tmp_path / "blobs").all()
    assert set(made.updates) < set(before)
    for work in (combine, combine_layer):
        assert work(tmp_path, 3).processor_s > 0
        assert BlobStore(tmp_path / "blobs").all() == before
    assert make_updates(tmp_path, SMALL, 3) == made
    assert msgspec.json.encode(made) == (tmp_path / "updates.json").read_bytes()

"""Bytes on the link: by hand, as the hub chooses codecs, and as the wire packs them."""

import json

import numpy as np
import pytest

from edge_agent.planning import traffic
from edge_agent.planning.traffic import bytes_down, bytes_up
from hub.scheduling import codec_choice
from wire.codecs import CODEC_NAMES, by_name
from wire.shape import target_modules
from wire.tensors import pack

from .small_llama import CONFIG, case

PER_RANK = 352  # see `small_llama`


def packed_bytes(tensors, codec: str) -> int:
    """Return the bytes of the arrays in what is sent; the file's first eight tell its header's."""
    data = pack(tensors, by_name(codec), seed=0)
    header = int.from_bytes(data[:8], "little")
    assert "__metadata__" in json.loads(data[8 : 8 + header])
    return len(data) - 8 - header


def adapter(rank: int):
    """Return random factors of every target."""
    rng = np.random.default_rng(0)
    shapes = {
        f"{name}.{kind}": shape
        for name, (out, inp) in target_modules(CONFIG).items()
        for kind, shape in (("lora_A", (rank, inp)), ("lora_B", (out, rank)))
    }
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def chosen(numbers: int) -> str:
    """Return the codec that the hub chooses for an update over a link that it does not know."""
    known = {name: by_name(name).bits_per_parameter for name in CODEC_NAMES}
    codec, _ = codec_choice.choose_codec(
        "auto",
        hub=known,
        device=CODEC_NAMES,
        parameters=numbers,
        deadline_s=600,
        up_bytes_per_s=None,
    )
    return codec


def test_the_planners_bound_is_the_hubs():
    assert traffic.TINY_BYTES == codec_choice.TINY_BYTES


def test_updates_by_hand():
    # 2 · 352 = 704 numbers of four bytes; a core has 2 · 2 in each of 14 matrices, a prompt one
    # embedding of 8. An evaluation sends its losses in a message, no update.
    assert bytes_up(case(rank=2), "streamed") == 2816
    assert bytes_up(case(rank=2), "resident") == bytes_up(case(rank=2), "checkpointed") == 2816
    assert bytes_up(case(rank=2), "core") == 14 * 4 * 4
    assert bytes_up(case(), "prompt") == 8 * 4
    assert bytes_up(case(), "infer") == 0


def test_an_update_of_more_than_a_chunk_goes_at_half_the_bytes():
    # Four bytes for each of 8 · 2,048 = 16,384 numbers are a chunk exactly.
    assert bytes_up(case(prompt_tokens=2048), "prompt") == 65_536
    assert bytes_up(case(prompt_tokens=2049), "prompt") == 2 * 8 * 2049


def test_a_rounds_adapter_by_hand():
    # All of its four ranks and the prompt's one embedding, in two bytes each: whatever is trained.
    assert bytes_down(case(rank=2)) == 2 * (4 * 352 + 8)
    assert bytes_down(case(rank=0)) == bytes_down(case(rank=4)) == 2832
    assert bytes_down(case(method="prompt")) == 2 * 8
    assert bytes_down(case(method="lora", prompt_tokens=0)) == 2 * 4 * 352


@pytest.mark.parametrize("rank", [1, 2, 46, 47, 64])
def test_an_update_is_as_large_as_what_the_hub_asks_for(rank):
    # 46 · 352 · 4 = 64,768 fits into a chunk, 47 · 352 · 4 = 66,176 does not.
    codec = chosen(rank * PER_RANK)
    assert codec == ("raw" if rank <= 46 else "bf16")
    assert bytes_up(case(rank=rank), "streamed") == packed_bytes(adapter(rank), codec)


def test_what_a_round_begins_with_is_as_large_as_the_planner_says():
    prompt = {"prompt": np.ones((1, 8), np.float32)}
    assert bytes_down(case()) == packed_bytes(adapter(4) | prompt, "bf16")


def test_a_lower_rank_takes_fewer_bytes():
    sizes = [bytes_up(case(rank=rank), "streamed") for rank in (1, 2, 4, 8, 16, 32)]
    assert sizes == sorted(set(sizes))

"""Bytes on the link: by hand, as the hub chooses codecs, and as the wire packs them."""

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
    """Return the bytes of a packed set."""
    return len(pack(tensors, by_name(codec), seed=0))


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
    """Return the codec that the hub chooses for an update."""
    known = {name: by_name(name).bits_per_parameter for name in CODEC_NAMES}
    codec, _ = codec_choice.choose_codec("auto", hub=known, device=CODEC_NAMES, parameters=numbers)
    assert codec is not None
    return codec


def test_the_planners_bound_and_bits_are_the_hubs():
    assert traffic.FEW_NUMBERS == codec_choice.FEW_NUMBERS
    assert by_name(chosen(4096)).bits_per_parameter == traffic.FEW_BITS
    assert by_name(chosen(4097)).bits_per_parameter == traffic.MANY_BITS


def test_updates_by_hand():
    # 2 · 352 = 704 numbers of 8.5 bits; a core has 2 · 2 in each of 14 matrices, a prompt one
    # embedding of 8. An evaluation sends its losses in a message, no update.
    assert bytes_up(case(rank=2), "streamed") == 748
    assert bytes_up(case(rank=2), "resident") == bytes_up(case(rank=2), "checkpointed") == 748
    assert bytes_up(case(rank=2), "core") == 60  # 56 numbers, 59.5 bytes
    assert bytes_up(case(), "prompt") == 9
    assert bytes_up(case(), "infer") == 0


def test_an_update_of_many_numbers_takes_fewer_bits_for_each():
    # 8 · 512 = 4,096 numbers of 8.5 bits; 8 · 513 of 1.25.
    assert bytes_up(case(prompt_tokens=512), "prompt") == 4352
    assert bytes_up(case(prompt_tokens=513), "prompt") == 642  # 641.25


def test_a_rounds_adapter_by_hand():
    # All of its four ranks in 1.25 bits each, 220 bytes, and the prompt's one embedding in 8.5:
    # whatever is trained.
    assert bytes_down(case(rank=2)) == 220 + 9
    assert bytes_down(case(rank=0)) == bytes_down(case(rank=4)) == 229
    assert bytes_down(case(method="prompt")) == 9
    assert bytes_down(case(method="lora", prompt_tokens=0)) == 220


@pytest.mark.parametrize("rank", [1, 2, 11, 12, 64])
def test_an_update_is_about_as_large_as_what_the_hub_asks_for(rank):
    # 11 · 352 = 3,872 numbers are few, 12 · 352 = 4,224 are not.
    codec = chosen(rank * PER_RANK)
    assert codec == ("int8" if rank <= 11 else "entropy")
    # 28 small tensors, each with a length, and of the entropy code a scale, a table, a state.
    beside = 30 + 28 * (16 if codec == "entropy" else 6)
    found = packed_bytes(adapter(rank), codec)
    assert 0 <= found - bytes_up(case(rank=rank), "streamed") <= beside


def test_a_lower_rank_takes_fewer_bytes_in_the_same_codec():
    few = [bytes_up(case(rank=rank), "streamed") for rank in (1, 2, 4, 8)]
    many = [bytes_up(case(rank=rank), "streamed") for rank in (12, 16, 32, 64)]
    assert few == sorted(set(few))
    assert many == sorted(set(many))


def test_all_weights_travel_both_ways():
    # 2,472 numbers of 8.5 bits up; down 1.25 bits each, as a difference of many numbers.
    whole = case(method="full", prompt_tokens=0)
    assert bytes_up(whole, "resident") == 2627  # 2626.5
    assert bytes_up(whole, "infer") == 0
    assert bytes_down(whole) == 387  # 386.25

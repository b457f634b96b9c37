"""Memory of the resident rungs for a small Llama: what an optimiser keeps, what parts save."""

import pytest

from edge_agent.planning.resident import resident_terms

from .small_llama import case

RUNGS = ("resident", "checkpointed")


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize(
    ("knobs", "moments"),
    [
        ({}, 2),
        ({"optimizer": "sgd", "momentum": 0.9}, 1),
        ({"optimizer": "sgd"}, 0),
        ({"kept": 1}, 3),
        ({"optimizer": "sgd", "kept": 1}, 1),
    ],
)
def test_a_number_is_held_with_its_gradient_and_what_the_optimiser_keeps(rung, knobs, moments):
    # Two of four ranks are trained, 704 numbers each in both blocks; one prompt token of width 8.
    expected = 704 * (2 + moments) * 4 + 704 * 4 + 8 * 4
    assert resident_terms(case(batch=64, **knobs), rung)["adapter"] == expected


@pytest.mark.parametrize("rung", RUNGS)
def test_a_batch_in_parts_takes_the_memory_of_one_part(rung):
    parts = resident_terms(case(batch=64, accumulate=4), rung)
    assert parts == resident_terms(case(batch=16), rung)
    uneven = resident_terms(case(batch=10, accumulate=4), rung)
    assert uneven == resident_terms(case(batch=3), rung)


def test_an_adversary_holds_the_embeddings_twice_more():
    plain, moved = (
        resident_terms(case(batch=64, adversarial=on), "resident") for on in (False, True)
    )
    assert moved["activations"] - plain["activations"] == 2 * 64 * 6 * 8 * 2


@pytest.mark.parametrize("rung", RUNGS)
def test_all_weights_are_held_beside_the_base_in_float32(rung):
    # 2,472 numbers in bfloat16 from their file; value, gradient, and two moments in float32.
    found = resident_terms(case(method="full", rank=0, prompt_tokens=0, batch=64), rung)
    head = 32 * 8 * 2 // 2  # of an untied input embedding, half the rows are never read
    assert found["weights"] == 2472 * 2 - head
    assert found["adapter"] == 2472 * 4 * 4
    wide = resident_terms(
        case(method="full", rank=0, prompt_tokens=0, batch=64, compute_bytes=4), rung
    )
    assert found["activations"] == wide["activations"]

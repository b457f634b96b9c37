"""Random blocks of every format against the `gguf` package, which has ggml's own arithmetic."""

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from edge_agent.training.blockwise import dequantise
from edge_agent.training.blockwise.dequantise import Expander
from edge_agent.training.blockwise.quantised import FORMATS

#: Where the float16 scales of a block stand, in bytes.
SCALES = {"q4_1": (0, 2), "q5_1": (0, 2), "q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,)}


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take blocks in steps of which the last is a part; the same buffers serve for both."""
    monkeypatch.setattr(dequantise, "_CHUNK", 256 * 13)
    monkeypatch.setattr(dequantise, "_PART", 256 * 3)


def random_blocks(kind: str, count: int) -> NDArray[np.uint8]:
    """Return blocks in which every bit may be set, with scales of every size, zero among them."""
    rng = np.random.default_rng(7)
    raw = rng.integers(0, 256, (count, FORMATS[kind].block_bytes), dtype=np.uint8)
    for at in SCALES.get(kind, (0,)):
        scales = rng.standard_normal(count) * 10.0 ** rng.uniform(-6, 3, count)
        scales[::17] = 0
        raw[:, at : at + 2] = scales.astype(np.float16).view(np.uint8).reshape(count, 2)
    return raw


def expanded(kind: str, raw: NDArray[np.uint8], dtype: torch.dtype) -> torch.Tensor:
    out = torch.full((4, len(raw) // 4 * FORMATS[kind].block), torch.nan, dtype=dtype)
    Expander(dtype).expand(kind, torch.from_numpy(raw).view(4, -1), out)
    return out.view(len(raw), -1)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.usefixtures("small_steps")
def test_float32_is_what_the_gguf_package_computes_to_the_last_bit(kind: str) -> None:
    raw = random_blocks(kind, 1000)
    expected = torch.from_numpy(gguf.quants.dequantize(raw, Kind[kind.upper()]))
    found = expanded(kind, raw, torch.float32)
    assert torch.equal(found, expected)
    assert found.abs().max() > 1  # the blocks are not all next to nothing


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.usefixtures("small_steps")
def test_bfloat16_is_off_by_two_roundings_at_most(kind: str) -> None:
    raw = random_blocks(kind, 1000)
    expected = torch.from_numpy(gguf.quants.dequantize(raw, Kind[kind.upper()]))
    error = (expanded(kind, raw, torch.bfloat16).float() - expected).abs()
    assert (error <= expected.abs() * 2**-7).all()
    if len(SCALES.get(kind, ())) == 2:
        assert torch.equal(expanded(kind, raw, torch.bfloat16), expected.to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["bf16", "f16", "f32"])
def test_plain_numbers_are_rounded_once(
    kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dequantise, "_CHUNK", 100)
    plain = dequantise.plain_dtype(kind)
    stored = (torch.randn(7, 333, generator=torch.Generator().manual_seed(1)) * 3).to(plain)
    out = torch.full((7, 333), torch.nan, dtype=dtype)
    Expander(dtype).expand(kind, stored.view(torch.uint8), out)
    assert torch.equal(out, stored.to(dtype))


def test_buffers_of_inference_mode_serve_outside_of_it() -> None:
    raw = torch.from_numpy(random_blocks("q4_0", 8))
    expander, out = Expander(torch.float32), torch.empty(8, 32)
    with torch.inference_mode():
        expander.expand("q4_0", raw, out)
    again = torch.empty(8, 32)
    expander.expand("q4_0", raw, again)
    assert torch.equal(out, again)


def test_buffers_do_not_pile_up() -> None:
    expander = Expander(torch.bfloat16)
    raw = torch.from_numpy(random_blocks("q4_0", 400))
    for count in range(1, 400):
        expander.expand("q4_0", raw[:count], torch.empty(count, 32, dtype=torch.bfloat16))
    assert len(expander._prepared) <= dequantise._MAX_PREPARED
    kept = sum(len(buffer) for buffer in expander._storage.values())
    assert kept < 400 * 32 * 8

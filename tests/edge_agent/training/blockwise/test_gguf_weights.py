"""GGUF files of every family against transformers and against the `gguf` package."""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Kind

from edge_agent.errors import ModelError
from edge_agent.training.blockwise import mapped_weights
from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.open import open_weights
from tests.edge_agent.training.blockwise.families import SHAPES, SIZES, save_model
from tests.edge_agent.training.blockwise.gguf_models import write_gguf

#: What GGUF has no key for: Qwen2's windows. Gemma 2's scale of queries is head_dim there.
NAMES = [name for name in SHAPES if name not in ("qwen2 sliding", "gemma2")]


def whole(weights: Weights, name: str) -> torch.Tensor:
    if len(weights.shapes[name]) == 1:
        return weights.vector(name)
    return torch.cat([piece.clone() for _, piece in weights.pieces(name)])


def model_of(family: str, **sizes: object) -> transformers.PreTrainedModel:
    torch.manual_seed(5)
    made = transformers.AutoConfig.for_model(family, **{**SIZES, "pad_token_id": 0, **sizes})
    model = transformers.AutoModelForCausalLM.from_config(made)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.2)
    return model


def check_same(path: Path, model: transformers.PreTrainedModel) -> None:
    """Make a model of what the file says, with the file's tensors; it must answer the same."""
    weights = open_weights(path, torch.float32)
    made = transformers.AutoConfig.for_model(
        **{key: value for key, value in weights.config.items() if value is not None}
    )
    if weights.config.get("sliding_window", 1) is None:
        made.sliding_window = None
    again = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager")
    tensors = {name: whole(weights, name) for name in weights.shapes}
    missing = again.load_state_dict(tensors, strict=False)
    assert missing.unexpected_keys == []
    assert missing.missing_keys in ([], ["lm_head.weight"])
    again.tie_weights()
    ids = torch.arange(40).view(2, 20) % 30
    with torch.no_grad():
        expected, found = model.eval()(ids).logits, again.eval()(ids).logits
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_the_same_from_its_gguf_file(tmp_path: Path, name: str) -> None:
    model = save_model(name, tmp_path / "folder")
    write_gguf(model, tmp_path / "model.gguf")
    check_same(tmp_path / "model.gguf", model)


def test_gemma_2_is_the_same_from_its_gguf_file(tmp_path: Path) -> None:
    model = model_of(
        "gemma2",
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=5,
        attn_logit_softcapping=3.0,
    )
    write_gguf(model, tmp_path / "model.gguf")
    model.set_attn_implementation("eager")
    check_same(tmp_path / "model.gguf", model)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_tensors_are_those_that_transformers_reads_from_the_file(
    tmp_path: Path, family: str
) -> None:
    sizes = {"intermediate_size": 64}
    write_gguf(model_of(family, **sizes), tmp_path / "model.gguf", Kind.Q8_0)
    judge = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
    weights = open_weights(tmp_path, torch.float32)
    for name, value in judge.state_dict().items():
        assert torch.equal(whole(weights, name), value), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0])
def test_pieces_and_rows_are_what_the_gguf_package_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, dtype: torch.dtype
) -> None:
    model = model_of("llama", hidden_size=64, intermediate_size=96)
    stored = write_gguf(model, tmp_path / "model.gguf", kind)
    monkeypatch.setattr(mapped_weights, "PIECE_BYTES", 64 * 20 * dtype.itemsize)
    weights = open_weights(tmp_path / "model.gguf", dtype)
    assert weights.stored == kind.name.lower()

    def check(name: str, found: torch.Tensor, raw: np.ndarray) -> None:
        expected = torch.from_numpy(gguf.quants.dequantize(raw, kind))
        error = (found.float() - expected).abs()
        assert found.dtype == dtype
        assert (error <= expected.abs() * (0 if dtype == torch.float32 else 2**-7)).all(), name

    up = stored["blk.1.ffn_up.weight"]
    check("up", whole(weights, "model.layers.1.mlp.up_proj.weight"), up)
    ids = torch.tensor([3, 77, 3, 0])
    check("rows", weights.rows("model.layers.1.mlp.up_proj.weight", ids), up[ids])
    # Heads of 16 rows: rows 0 to 7 of a head in the model are its even rows in the file.
    q = stored["blk.0.attn_q.weight"]
    places = [
        16 * head + 2 * pair + half for head in range(4) for half in (0, 1) for pair in range(8)
    ]
    name = "model.layers.0.self_attn.q_proj.weight"
    check("q", whole(weights, name), q[places])
    check(
        "part of q", torch.cat([p.clone() for _, p in weights.pieces(name, 5, 50)]), q[places[5:50]]
    )
    check("rows of q", weights.rows(name, ids[[0, 2]]), q[[places[3], places[3]]])


_READ_ALL = """
import sys
from pathlib import Path
import torch
from edge_agent.training.blockwise.open import open_weights

torch.set_num_threads(1)  # as quick beside other tests as alone

def pages_kib():
    status = Path("/proc/self/status").read_text()
    return [int(status.partition(key)[2].split()[0]) for key in ("RssFile:", "RssAnon:")]

weights = open_weights(Path(sys.argv[1]), torch.bfloat16)
names = [name for name in weights.shapes if "embed" not in name]
for _, piece in weights.pieces(names[0]):  # torch's own code is in memory before it counts
    piece.sum().item()
before, peak = pages_kib(), [0, 0]
for name in names:
    for _, piece in weights.pieces(name):
        piece.sum().item()
        peak = [max(old, new) for old, new in zip(peak, pages_kib())]
print(*(new - old for old, new in zip(before, peak)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_reading_a_whole_file_keeps_only_a_piece_of_it_in_memory(tmp_path: Path) -> None:
    # Queries are read in another order than they are stored in, the other matrices are not.
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    sizes = (writer.add_block_count, writer.add_feed_forward_length, writer.add_context_length)
    for add in sizes:
        add(64)
    writer.add_embedding_length(4096)
    writer.add_head_count(32)
    writer.add_layer_norm_rms_eps(1e-6)
    raw = np.zeros((4096, 4096 // 32 * 18), np.uint8)
    writer.add_tensor("token_embd.weight", raw[:32], raw_dtype=Kind.Q4_0)
    for block in range(5):
        for name in ("attn_q", "attn_v"):
            writer.add_tensor(f"blk.{block}.{name}.weight", raw, raw_dtype=Kind.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert (tmp_path / "m.gguf").stat().st_size > 85 * 1024**2
    command = [sys.executable, "-c", _READ_ALL, str(tmp_path / "m.gguf")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    file_kib, anon_kib = map(int, run.stdout.split())
    assert file_kib < 16 * 1024  # a piece is 2.25 MiB as it is stored
    assert anon_kib < 16 * 1024  # buffers were made by the first matrix


def test_a_file_of_mixed_kinds_says_what_most_numbers_are(tmp_path: Path) -> None:
    model = model_of("qwen2", hidden_size=64, intermediate_size=96)
    mixed = {"token_embd.weight": Kind.Q8_0, "blk.0.ffn_down.weight": Kind.Q4_1}
    stored = write_gguf(model, tmp_path / "model.gguf", Kind.Q4_0, mixed)
    weights = open_weights(tmp_path / "model.gguf", torch.float32)
    assert weights.stored == "q4_0"
    for name, raw, kind in (
        ("model.embed_tokens.weight", stored["token_embd.weight"], Kind.Q8_0),
        ("model.layers.0.mlp.down_proj.weight", stored["blk.0.ffn_down.weight"], Kind.Q4_1),
    ):
        assert np.array_equal(whole(weights, name).numpy(), gguf.quants.dequantize(raw, kind))


def test_a_kind_that_is_not_known_is_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "qwen2")
    for add in (
        writer.add_block_count,
        writer.add_context_length,
        writer.add_embedding_length,
        writer.add_feed_forward_length,
        writer.add_head_count,
    ):
        add(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tensor("token_embd.weight", np.zeros((2, 84), np.uint8), raw_dtype=Kind.Q2_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"embed_tokens.weight is stored as q2_k; known are bf16,"):
        open_weights(tmp_path / "m.gguf", torch.float32)


def test_a_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    write_gguf(model_of("qwen3"), tmp_path / "m.gguf")
    path = tmp_path / "m.gguf"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"m.gguf was cut short"):
        open_weights(path, torch.float32)

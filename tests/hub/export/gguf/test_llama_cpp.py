"""llama.cpp itself loads what is exported, and computes what transformers and PEFT compute."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't built: make llama")

from bench.export_models import DIGEST, MODELS, save_adapter, save_base
from bench.llama_engine import LlamaCpp
from bench.report import BenchError
from bench.serving_logits import by_llama_cpp, by_peft, compared, exported, measured
from hub.export.base_type import BaseType
from hub.export.gguf.base import write_base
from hub.export.gguf.by_llama_cpp import quantise
from tests.hub.export.gguf.test_tokenizer import KINDS, TEXTS
from wire.errors import MalformedError

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_peft(tmp_path: Path, name: str) -> None:
    """What is left is llama.cpp's rounding of activations to float16."""
    found = measured(name, tmp_path)
    assert found.worst <= 1e-2
    assert found.percent >= 99.5


def test_the_adapter_is_what_makes_the_difference(tmp_path: Path) -> None:
    model = save_base(tmp_path / "base", *MODELS["llama"], dtype=torch.bfloat16)
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    rows = [list(range(60))]
    base, _ = exported(tmp_path, BaseType.F16)
    wanted = by_peft(model, tmp_path / "adapter", rows)
    assert compared(by_llama_cpp(base, None, rows), wanted).worst > 0.5


@pytest.mark.parametrize("stored", [BaseType.Q8_0, BaseType.Q4_0, BaseType.Q4_K_M])
def test_a_quantised_base_computes_with_its_own_numbers(tmp_path: Path, stored: BaseType) -> None:
    """The judge is transformers with the numbers that the file holds, as `gguf` reads them."""
    import gguf

    family, numbers = MODELS["qwen2"]
    wide = {"hidden_size": 256} if stored is BaseType.Q4_K_M else {}  # its blocks have 256 numbers
    model = save_base(tmp_path / "base", family, numbers | wide, dtype=torch.bfloat16)
    write_base(tmp_path / "base", tmp_path / "base.gguf", stored, DIGEST)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 3)
    held = {
        one.name: gguf.quants.dequantize(one.data, one.tensor_type)
        for one in gguf.GGUFReader(tmp_path / "base.gguf").tensors
    }
    with torch.no_grad():
        for name, value in model.named_parameters():
            renamed = names.get_name(name, try_suffixes=(".weight", ".bias"))
            value.copy_(torch.from_numpy(held[renamed].copy()).view_as(value))
        wanted = model(torch.arange(60)[None]).logits[0].numpy()
    found = by_llama_cpp(tmp_path / "base.gguf", None, [list(range(60))])
    # Activations have 8 bits in products with quantised matrices: half a step is 1/254. The wider
    # model's attention is sharper, so that Q8_0 itself is 0.06 away there.
    most = 0.15 if wide else 0.03
    assert np.linalg.norm(found - wanted) <= most * np.linalg.norm(wanted)


def test_a_k_quant_is_llama_cpps_own_and_names_its_base(tmp_path: Path) -> None:
    """Rows of 256 numbers are what K-quants are made of; 4.5 to 6.6 bits each (ggml-quants.h)."""
    import gguf

    save_base(tmp_path / "base", "llama", {"hidden_size": 256}, dtype=torch.bfloat16)
    made = [tmp_path / "a" / "base.gguf", tmp_path / "b" / "base.gguf"]
    for path in made:
        path.parent.mkdir()
        write_base(tmp_path / "base", path, BaseType.Q4_K_M, DIGEST)
        assert [one.name for one in path.parent.iterdir()] == ["base.gguf"]
    assert made[0].read_bytes() == made[1].read_bytes()
    reader = gguf.GGUFReader(made[0])
    kinds = {one.tensor_type.name for one in reader.tensors}
    assert "Q4_K" in kinds
    assert kinds <= {"F32", "Q4_K", "Q5_K", "Q6_K", "Q5_0", "Q5_1", "Q8_0"}
    assert reader.fields["lorikeet.base.sha256"].contents() == DIGEST
    assert reader.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q4_K_M


def test_what_llama_cpp_can_not_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF no")
    with pytest.raises(MalformedError, match=r"llama\.cpp can't store no\.gguf as q4_k_m"):
        quantise(tmp_path / "no.gguf", tmp_path / "out.gguf", BaseType.Q4_K_M)
    assert [one.name for one in tmp_path.iterdir()] == ["no.gguf"]


def test_an_adapter_of_another_family_is_refused(tmp_path: Path) -> None:
    for name in ("llama", "qwen2"):
        save_base(tmp_path / name / "base", *MODELS[name])
        save_adapter(tmp_path / name / "adapter", tmp_path / name / "base")
    base, _ = exported(tmp_path / "llama", BaseType.F16)
    _, adapter = exported(tmp_path / "qwen2", BaseType.F16)
    with pytest.raises(BenchError, match="can't load"), LlamaCpp(base, adapter):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_tokenizer_json(
    kind: str, tokenizer_folders: dict[str, Path], tmp_path: Path
) -> None:
    file = str(tokenizer_folders[kind] / "tokenizer.json")
    engine = Tokenizer.from_file(file)
    save_base(tmp_path / "base", "llama", {"vocab_size": engine.get_vocab_size() + 2})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "base" / name).write_bytes((tokenizer_folders[kind] / name).read_bytes())
    assert write_base(tmp_path / "base", tmp_path / "base.gguf", BaseType.F16, DIGEST) is None
    with LlamaCpp(tmp_path / "base.gguf") as llama:
        for text in filter(None, TEXTS):
            # llama.cpp leaves Unicode's forms as they are; Qwen's own tokenizer composes them.
            same = unicodedata.normalize("NFC", text) if kind == "qwen2" else text
            assert llama.ids(same, whole=True) == engine.encode(text).ids, repr(text)

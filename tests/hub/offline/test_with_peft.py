"""PEFT writes what is combined, reads what comes out, and computes the same by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.aggregation.rules import product_rule
from hub.offline.aggregate import aggregate

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

# PEFT 0.21 reads a property that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")

TARGETS = ["q_proj", "down_proj"]
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"r": 2, "lora_alpha": 4},
    "patterns": {
        "r": 4,
        "lora_alpha": 2,
        "rank_pattern": {"down_proj": 1, r"layers\.1\.self_attn\.q_proj": 3},
        "alpha_pattern": {"q_proj": 8},
    },
    "rslora": {"r": 4, "lora_alpha": 3, "use_rslora": True},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def base() -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        "llama", vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def made(folder: Path, seed: int, **config: Any) -> Path:
    """Let PEFT write an adapter with factors that are not zero."""
    model = peft.get_peft_model(
        base(), peft.LoraConfig(target_modules=TARGETS, task_type="CAUSAL_LM", **config)
    )
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    return folder


def merged(folder: Path) -> dict[str, Any]:
    """Return the weights of the base with an adapter of PEFT merged into them, in float64."""
    model = peft.PeftModel.from_pretrained(base().double(), folder)
    return dict(model.merge_and_unload().state_dict())


def test_the_outcome_is_the_mean_of_what_peft_merges(tmp_path: Path) -> None:
    folders = [made(tmp_path / name, at, **CONFIGS[name]) for at, name in enumerate(CONFIGS)]
    error = aggregate(folders, [2, 1, 1], product_rule("stack_svd"), 12, tmp_path / "out")
    parts, got = [merged(folder) for folder in folders], merged(tmp_path / "out")
    bare = base().double().state_dict()
    for name, weight in got.items():
        wanted = (2 * parts[0][name] + parts[1][name] + parts[2][name]) / 4
        torch.testing.assert_close(weight, wanted, rtol=1e-5, atol=1e-6)
    changed = {name for name in bare if not torch.equal(bare[name], got[name])}
    assert {name.rsplit(".", 2)[1] for name in changed} == set(TARGETS)
    assert error <= 1e-6


def test_a_truncation_is_the_one_that_peft_makes(tmp_path: Path) -> None:
    plain = {"r": 4, "lora_alpha": 4}
    folders = [made(tmp_path / str(seed), seed, **plain) for seed in (1, 2)]
    aggregate(folders, [3, 1], product_rule("stack_svd"), 3, tmp_path / "out")
    model = peft.PeftModel.from_pretrained(base(), folders[0], adapter_name="one")
    model.load_adapter(folders[1], adapter_name="two")
    model.add_weighted_adapter(
        ["one", "two"], [0.75, 0.25], "both", combination_type="svd", svd_rank=3
    )
    ours = peft.PeftModel.from_pretrained(base(), tmp_path / "out")
    for name, layer in ours.named_modules():
        if hasattr(layer, "lora_A"):
            wanted = model.get_submodule(name).get_delta_weight("both")
            torch.testing.assert_close(
                layer.get_delta_weight("default"), wanted, rtol=1e-4, atol=1e-5
            )

"""Adapter gradients of the block-wise engine against PEFT's autograd, both in float32.

``python -m bench.gradients`` prints the worst relative error of each architecture as JSON; the
bench runs it as a process of its own. The small shapes switch on what is special: grouped heads,
biases, tying, soft caps, windows shorter than the rows, heads of another size than hidden / heads.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from bench.report import BenchError, Row, checked, say

_FIGURE = "gradients against PEFT, fp32: worst relative error of a factor"
_MOST = 1e-4
_RANK = 8
_ROWS, _TOKENS = 2, 160
_SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "vocab_size": 1000,
    "pad_token_id": 0,
}
_SPECIAL: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 24, "attention_bias": True, "mlp_bias": True},
    "mistral": {"head_dim": 32, "sliding_window": 48},
    "qwen2": {
        "tie_word_embeddings": True,
        "use_sliding_window": True,
        "sliding_window": 48,
        "max_window_layers": 2,
    },
    "qwen3": {"head_dim": 32, "attention_bias": True, "tie_word_embeddings": True},
    "gemma2": {
        "head_dim": 24,
        "query_pre_attn_scalar": 20,
        "sliding_window": 48,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
    "phi3": {"sliding_window": 48},
}


def gradient_rows() -> list[Row]:
    """Return one row for each architecture.

    Raises:
        BenchError: the comparison failed.
    """
    say("gradients against PEFT")
    command = [sys.executable, "-W", "ignore", "-m", "bench.gradients"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"the comparison of gradients failed: {done.stderr[-400:]}")
    errors = msgspec.json.decode(done.stdout, type=dict[str, float])
    return [
        checked(f"{_FIGURE}, {family}", f"{worst:.1e}", "", f"<= {_MOST:g}", worst <= _MOST)
        for family, worst in errors.items()
    ]


def worst_error(family: str, folder: Path) -> float:
    """Return the greatest |found - PEFT's| / |PEFT's| over all LoRA factors of a small model."""
    import torch

    from edge_agent.training.blockwise.base import BlockwiseBase
    from edge_agent.training.contract import Trained
    from edge_agent.training.start import FreshStart

    model = _saved_model(family, folder)
    base = BlockwiseBase(folder, torch.float32)
    placed = base.place(
        FreshStart(base.targets, _RANK, 0, base.hidden_size, seed=7), Trained(rank=_RANK)
    )
    with torch.no_grad():
        for name, value in placed.trained.items():
            if name.endswith(".lora_B"):  # zero at first, and A had no gradient
                value.normal_(std=0.1)
    ids = torch.randint(0, _SIZES["vocab_size"], (_ROWS, _TOKENS))
    placed.backward_loss(ids, ids)
    wanted = _by_peft(model, dict(placed.trained), ids)
    return max(
        float((value.grad - wanted[name]).norm() / wanted[name].norm())
        for name, value in placed.trained.items()
    )


def _saved_model(family: str, folder: Path) -> Any:
    """Save a random model; return it, computing attention step by step."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **{**_SIZES, **_SPECIAL[family]})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for value in model.parameters():  # larger than usual, so that every difference shows
            value.add_(torch.randn_like(value) * 0.1)
    model.save_pretrained(folder)
    return model.eval()


def _by_peft(model: Any, values: dict[str, Any], ids: Any) -> dict[str, Any]:
    """Return PEFT's gradients of the same factors, by the same names."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=_RANK, lora_alpha=_RANK, target_modules="all-linear")
    tuned = get_peft_model(model, config)
    theirs = {
        name.removeprefix("base_model.model.").removesuffix(".default.weight"): value
        for name, value in tuned.named_parameters()
        if value.requires_grad
    }
    if theirs.keys() != values.keys():
        raise BenchError(f"PEFT adapts other layers: {sorted(theirs.keys() ^ values.keys())[:4]}")
    with torch.no_grad():
        for name, value in theirs.items():
            value.copy_(values[name])
    tuned(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return {name: value.grad for name, value in theirs.items()}


def main() -> None:
    """Print the worst error of each architecture."""
    import torch

    torch.manual_seed(7)
    errors = {}
    for family in _SPECIAL:
        with tempfile.TemporaryDirectory(prefix="lorikeet-bench-") as folder:
            errors[family] = worst_error(family, Path(folder))
    sys.stdout.write(json.dumps(errors) + "\n")


if __name__ == "__main__":
    main()

"""The anchor: what people run today, PEFT with gradient checkpointing, in a process of its own.

``python -m bench.anchor MODEL STEPS TOKENS RANK`` is that process: it prints the seconds of each
step as one JSON list.
"""

import json
import sys
import time
from pathlib import Path

import msgspec

from bench.report import say
from bench.sampled import Ran, run_sampled

STEPS = 6
_PATIENCE_S = 900.0


def run_anchor(model: Path, folder: Path, tokens: int, rank: int) -> tuple[list[float], Ran]:
    """Train with PEFT.

    Args:
        model: a folder of Hugging Face's layout, in bfloat16.
        folder: for the process's output.
        tokens: of the one sequence of a batch.
        rank: of LoRA on all linear layers of the blocks.

    Returns:
        The seconds of each step after the first, and the process.

    Raises:
        BenchError: it failed.
    """
    say(f"PEFT with gradient checkpointing on {model.name}, {tokens} tokens")
    sizes = [str(STEPS), str(tokens), str(rank)]
    command: list[str | Path] = [sys.executable, "-m", "bench.anchor", model, *sizes]
    ran = run_sampled(command, folder, timeout_s=_PATIENCE_S)
    seconds = msgspec.json.decode(ran.output(), type=list[float])
    return seconds[1:], ran


def train(model: Path, steps: int, tokens: int, rank: int) -> list[float]:
    """Train for some steps as PEFT's and transformers' documentation say; return their seconds."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    base = AutoModelForCausalLM.from_pretrained(model, local_files_only=True, dtype=torch.bfloat16)
    tuned = get_peft_model(base, LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear"))
    tuned.gradient_checkpointing_enable({"use_reentrant": False})
    tuned.enable_input_require_grads()
    tuned.train()
    parameters = [one for one in tuned.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    taken = []
    for _ in range(steps):
        ids = torch.randint(0, base.config.vocab_size, (1, tokens))
        began = time.perf_counter()
        tuned(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        taken.append(time.perf_counter() - began)
    return taken


if __name__ == "__main__":
    sys.stdout.write(json.dumps(train(Path(sys.argv[1]), *map(int, sys.argv[2:]))))

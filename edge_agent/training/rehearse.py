"""A step on a model of a few numbers: what torch loads late is then loaded, and can be measured."""

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from edge_agent.training.adamw import AdamW
from edge_agent.training.loss import backward_loss, evaluate_loss
from edge_agent.training.lowrank import TRAINED, factors, inject, layers


def rehearse() -> None:
    """Build, adapt and train a tiny Llama once; nothing of it stays."""
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))("a")
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config)
    model.requires_grad_(False)
    targets = ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"]
    inject(model, TRAINED, dict.fromkeys(targets, 2))
    trained = list(factors(layers(model), TRAINED).values())
    for value in trained:
        value.requires_grad_(True)
    ids = torch.zeros(1, 4, dtype=torch.int64)
    prompt = torch.zeros(1, config.hidden_size)
    evaluate_loss(model, prompt, ids, ids)
    backward_loss(model, prompt, ids, ids)
    AdamW(trained, 0.0).step(lr=1e-3, clip=1.0)

"""Models that the engine would get wrong are found out when they are opened."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.llama import modeling_llama as llama

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.filling import fill
from edge_agent.training.blockwise.open import open_weights
from edge_agent.training.blockwise.skeleton import build
from edge_agent.training.blockwise.trial import examine

from .families import save_model

CPU = torch.device("cpu")


def tried(folder, dtype=torch.float32):
    weights = open_weights(folder, dtype)
    skeleton = build(weights.config, dtype)
    fill(skeleton, weights, CPU)
    return examine(skeleton, CPU, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_model_does_behind_its_head_is_found_out(tmp_path, dtype):
    for name, scale, cap in [("granite", 0.25, None), ("gemma3", 1.0, 2.0), ("cohere", 0.5, None)]:
        save_model(name, tmp_path / name)
        form = tried(tmp_path / name, dtype)
        assert form.scale == pytest.approx(scale)
        assert form.cap == (cap and pytest.approx(cap))


class Skips(llama.LlamaModel):
    """Adds the embeddings to what stands behind each block."""

    def forward(self, input_ids=None, inputs_embeds=None, **_):
        first = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        positions = torch.arange(first.shape[1])[None]
        turns = self.rotary_emb(first, position_ids=positions)
        x = first
        for block in self.layers:
            x = self.joined(block, x, first, turns)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(self.last(x, first)))

    def joined(self, block, x, first, turns):
        return block(x, position_embeddings=turns) + first

    def last(self, x, first):
        return x


class SkipsAtTheEnd(Skips):
    def joined(self, block, x, first, turns):
        return block(x, position_embeddings=turns)

    def last(self, x, first):
        return x + first


class GivesTheFirst(SkipsAtTheEnd):
    def joined(self, block, x, first, turns):
        return block(x, position_embeddings=turns, first=first)

    def last(self, x, first):
        return x


class GivesADictionary(GivesTheFirst):
    def joined(self, block, x, first, turns):
        return block(x, position_embeddings=turns, shared={})


class Plain(GivesTheFirst):
    def joined(self, block, x, first, turns):
        return block(x, position_embeddings=turns)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Skips, "more than going through its blocks in order"),
        (SkipsAtTheEnd, r"the states differ from the model's own \(relative error"),
        (GivesTheFirst, "given more than one state that is trained through"),
        (GivesADictionary, "given a dict, which they may change"),
    ],
)
def test_models_that_do_more_than_going_through_their_blocks_are_refused(
    tmp_path, monkeypatch, kind, reason
):
    save_model("llama", tmp_path)
    monkeypatch.setattr(llama, "LlamaModel", Plain)
    assert tried(tmp_path).scale == 1.0
    monkeypatch.setattr(llama, "LlamaModel", kind)
    with pytest.raises(ModelError, match=f"llama can't be gone through block by block: .*{reason}"):
        tried(tmp_path)


def test_a_model_that_looks_ahead_is_refused(tmp_path, monkeypatch):
    save_model("llama", tmp_path)
    own = llama.LlamaMLP.forward
    monkeypatch.setattr(
        llama.LlamaMLP, "forward", lambda self, x: own(self, x + x.mean(1, keepdim=True))
    )
    with pytest.raises(ModelError, match="a token changes the states before it"):
        tried(tmp_path)


def test_logits_that_are_bent_otherwise_are_refused(tmp_path, monkeypatch):
    save_model("llama", tmp_path)
    own = llama.LlamaForCausalLM.forward

    def bent(self, **inputs):
        return CausalLMOutputWithPast(logits=own(self, **inputs).logits.clamp(min=-3))

    monkeypatch.setattr(llama.LlamaForCausalLM, "forward", bent)
    with pytest.raises(ModelError, match="its logits are neither a multiple"):
        tried(tmp_path)


def test_code_that_takes_a_matrix_past_its_layer_is_refused(tmp_path, monkeypatch):
    save_model("llama", tmp_path)
    monkeypatch.setattr(
        llama.LlamaMLP,
        "forward",
        lambda self, x: torch.nn.functional.linear(self.gate_proj(x), self.down_proj.weight),
    )
    with pytest.raises(ModelError, match="can't be gone through block by block"):
        tried(tmp_path)


def test_a_layer_that_is_never_used_is_named(tmp_path, monkeypatch):
    save_model("llama", tmp_path)
    monkeypatch.setattr(
        llama.LlamaMLP, "forward", lambda self, x: self.down_proj(self.gate_proj(x))
    )
    with pytest.raises(ModelError, match=r"doesn't use 3 of its layers, like .*0.mlp.up_proj"):
        tried(tmp_path)


def test_a_model_is_as_it_was_after_a_trial(tmp_path):
    save_model("olmo2", tmp_path)
    weights = open_weights(tmp_path, torch.float32)
    skeleton = build(weights.config, torch.float32)
    fill(skeleton, weights, CPU)
    examine(skeleton, CPU, torch.float32)
    assert not any("forward" in vars(module) for module in skeleton.model.modules())
    assert isinstance(skeleton.model, type(AutoModelForCausalLM.from_pretrained(tmp_path)))

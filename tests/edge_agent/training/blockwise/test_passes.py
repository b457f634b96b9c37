"""Losses and gradients of the block-wise engine, against transformers' and PEFT's autograd."""

import numpy as np
import peft
import pytest
import torch

from edge_agent.training.blockwise.base import BlockwiseBase
from edge_agent.training.contract import Trained
from edge_agent.training.start import FreshStart
from wire.labels import IGNORED

from .families import SHAPES, save_model

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

TOKENS = 24


class Filled(FreshStart):
    """A start whose B is not zero, so that A has gradients, too."""

    def factor(self, name):
        if not name.endswith(".lora_B"):
            return super().factor(name)
        out, _ = self.shapes[name.removesuffix(".lora_B")]
        return self._drawn(name, (out, self.rank)) * np.float32(0.1)


def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 300, (2, TOKENS), generator=generator)
    labels = ids.clone()
    labels[0, :5] = IGNORED
    labels[1, TOKENS - 7 :] = IGNORED
    return ids, labels


def by_peft(model, start, ids, labels, prompt=None):
    """Return PEFT's mean loss and gradients by names on the wire."""
    config = peft.LoraConfig(
        r=start.rank, lora_alpha=start.rank, target_modules=list(start.shapes), bias="none"
    )
    adapted = peft.get_peft_model(model, config)
    values = dict(adapted.named_parameters())
    for name in start.shapes:
        for kind in ("lora_A", "lora_B"):
            value = values[f"base_model.model.{name}.{kind}.default.weight"]
            value.data.copy_(torch.from_numpy(start.factor(f"{name}.{kind}").copy()))
    embedded = adapted.get_input_embeddings()(ids)
    if prompt is not None:
        embedded = torch.cat([prompt.expand(len(ids), -1, -1), embedded], dim=1)
        labels = torch.cat([torch.full((len(ids), len(prompt)), IGNORED), labels], dim=1)
        labels[:, len(prompt)] = IGNORED
    loss = adapted(inputs_embeds=embedded, labels=labels, use_cache=False).loss
    loss.backward()
    grads = {
        f"{name}.{kind}": values[f"base_model.model.{name}.{kind}.default.weight"].grad
        for name in start.shapes
        for kind in ("lora_A", "lora_B")
    }
    return float(loss.detach()), grads


def relative(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("name", SHAPES)
def test_gradients_of_every_factor_are_those_of_peft(name, tmp_path):
    model = save_model(name, tmp_path)
    base = BlockwiseBase(tmp_path, torch.float32)
    start = Filled(base.targets, 4, 0, base.hidden_size, seed=2)
    ids, labels = batch()
    placed = base.place(start, Trained(rank=4))
    loss = placed.backward_loss(ids, labels)
    want, grads = by_peft(model, start, ids, labels)
    assert loss.tokens == int((labels[:, 1:] != IGNORED).sum())
    assert loss.total / loss.tokens == pytest.approx(want, rel=1e-5)
    assert placed.trained.keys() == grads.keys()
    worst = {key: relative(placed.trained[key].grad, value) for key, value in grads.items()}
    assert max(worst.values()) <= 1e-4, max(worst, key=worst.get)
    after = placed.evaluate_loss(ids, labels, "adapter")
    assert after.total / after.tokens == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2", "phi3"])
def test_the_rest_stays_in_place_and_the_prompt_gets_its_gradient(name, tmp_path):
    model = save_model(name, tmp_path)
    base = BlockwiseBase(tmp_path, torch.float32)
    start = Filled(base.targets, 4, 3, base.hidden_size, seed=2)
    ids, labels = batch()
    prompt = torch.from_numpy(start.prompt()).requires_grad_(True)
    want, grads = by_peft(model, start, ids, labels, prompt)

    lead = base.place(start, Trained(rank=1))
    loss = lead.backward_loss(ids, labels)
    assert loss.total / loss.tokens == pytest.approx(want, rel=1e-5)
    for key, value in grads.items():
        part = value[:1] if key.endswith("lora_A") else value[:, :1]
        assert relative(lead.trained[key].grad, part) <= 1e-4, key

    only = base.place(start, Trained(prompt=True))
    only.backward_loss(ids, labels)
    assert list(only.trained) == ["prompt"]
    assert relative(only.trained["prompt"].grad, prompt.grad) <= 1e-4

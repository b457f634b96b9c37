"""Small random models of several families as GGUF, with what transformers and PEFT make of them."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from bench.export_models import DIGEST, MODELS, save_adapter, save_base
from edge_agent.inference.contract import Adapter, Factors
from edge_agent.inference.llama.engine import LlamaEngine
from hub.export.base_type import BaseType
from hub.export.gguf.base import write_base
from hub.offline.lora_folder import LoraFolder


class Small(NamedTuple):
    """A model: by transformers with PEFT's adapter on it, and as a file."""

    file: Path
    base: Any
    tuned: Any
    adapter: Adapter


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Small]:
    """Return a maker of models by their family's name."""
    from peft import PeftModel

    @cache
    def make(family: str) -> Small:
        folder = tmp_path_factory.mktemp(family)
        base = save_base(folder / "base", *MODELS[family], dtype=torch.bfloat16)
        save_adapter(folder / "adapter", folder / "base")
        write_base(folder / "base", folder / "base.gguf", BaseType.F16, DIGEST)
        read = LoraFolder(folder / "adapter")
        factors = {}
        for target in read.shapes:
            one = read.factors(target)
            factors[target] = Factors(one.a, one.b)
        other = save_base(folder / "again", *MODELS[family], dtype=torch.bfloat16)
        tuned = PeftModel.from_pretrained(other, str(folder / "adapter")).eval()
        return Small(folder / "base.gguf", base, tuned, Adapter("first", factors))

    return make


@pytest.fixture
def llama(small: Callable[[str], Small]) -> Iterator[tuple[Small, LlamaEngine]]:
    """Return the model of the family "llama", and an engine on it."""
    model = small("llama")
    engine = LlamaEngine(model.file, piece=16)
    yield model, engine
    engine.close()


def logits_of(model: Any, ids: list[int], prompt: np.ndarray | None = None) -> np.ndarray:
    """Return transformers' logits of one row behind a soft prompt, (tokens, vocabulary)."""
    with torch.no_grad():
        if prompt is None:
            return model(torch.tensor([ids])).logits[0].float().numpy()
        rows = model.get_input_embeddings()(torch.tensor([ids]))
        both = torch.cat([torch.from_numpy(prompt)[None], rows], dim=1)
        return model(inputs_embeds=both).logits[0, len(prompt) :].float().numpy()


def error_of(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the greatest difference over the greatest logit of its position."""
    return float((np.abs(found - wanted).max(-1) / np.abs(wanted).max(-1)).max())

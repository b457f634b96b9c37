from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from bench.export_models import MODELS, save_adapter, save_base
from bench.serving_onnx import adapter_of, exported
from edge_agent.inference.contract import Adapter
from edge_agent.inference.onnx.engine import OnnxEngine
from hub.export.base_type import BaseType

FAMILIES = ("llama", "gemma2", "phi3 long")


@dataclass(frozen=True)
class Tuned:
    """A base with an adapter and a soft prompt, for the engine and for torch."""

    engine: OnnxEngine
    adapter: Adapter  # without the prompt
    prompt: np.ndarray  # (5, hidden)
    model: torch.nn.Module  # without the adapter
    tuned: torch.nn.Module

    @property
    def prompted(self) -> Adapter:
        return Adapter("prompted", self.adapter.factors, self.prompt)

    def logits(self, ids: list[int], prompt: bool = False) -> np.ndarray:
        """Return what transformers and PEFT compute, (tokens, vocabulary)."""
        with torch.no_grad():
            embedded = self.model.get_input_embeddings()(torch.tensor([ids]))
            front = torch.tensor(self.prompt[: 5 if prompt else 0])[None]
            whole = torch.cat([front, embedded], dim=1)
            return self.tuned(inputs_embeds=whole).logits[0, front.shape[1] :].numpy()


def made(name: str, folder: Path) -> Tuned:
    model = save_base(folder / "base", *MODELS[name])
    save_adapter(folder / "adapter", folder / "base")
    hidden = model.config.hidden_size
    tuned = PeftModel.from_pretrained(model, str(folder / "adapter")).eval()
    return Tuned(
        engine=OnnxEngine(exported(folder, BaseType.F32), threads=1),
        adapter=adapter_of(folder / "adapter"),
        prompt=np.random.default_rng(0).normal(size=(5, hidden)).astype(np.float32),
        model=model,
        tuned=tuned,
    )


@pytest.fixture(scope="session", params=FAMILIES)
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """A model of each kind: plain, capped with windows, and stretched past its first length."""
    return made(request.param, tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return made("llama", tmp_path_factory.mktemp("llama"))

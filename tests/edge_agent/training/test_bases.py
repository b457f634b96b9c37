"""Each rung gets its base, in the type that the file and the processor suggest."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_agent.probe.arithmetic import fast_bf16
from edge_agent.training.base import ResidentBase
from edge_agent.training.bases import compute_dtype, kind_of, open_base
from edge_agent.training.blockwise.base import BlockwiseBase
from edge_agent.training.contract import Trained
from edge_agent.training.start import FreshStart

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.mark.parametrize(
    ("rung", "kind"),
    [
        ("resident", ResidentBase),
        ("checkpointed", ResidentBase),
        ("streamed", BlockwiseBase),
        ("core", BlockwiseBase),
        ("prompt", BlockwiseBase),
        ("infer", BlockwiseBase),
    ],
)
def test_a_rung_has_its_base(llama, rung, kind):
    assert isinstance(open_base(llama, rung), kind)


def test_rungs_that_hold_the_base_alike_share_it():
    assert kind_of("streamed") == kind_of("infer") != kind_of("resident")
    assert kind_of("checkpointed") != kind_of("resident")


def test_narrow_files_are_worked_on_narrow_where_that_is_fast(llama, tmp_path):
    assert compute_dtype(llama) == torch.float32
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(llama / "model.safetensors")
    save_file({k: v.bfloat16() for k, v in tensors.items()}, tmp_path / "model.safetensors")
    assert compute_dtype(tmp_path) == (torch.bfloat16 if fast_bf16() else torch.float32)


def test_all_rungs_agree_on_loss_and_gradients(make_base):
    folder = make_base("qwen2")
    ids = torch.randint(0, 259, (2, 20), generator=torch.Generator().manual_seed(1))
    found = {}
    for rung in ("resident", "checkpointed", "streamed"):
        base = open_base(folder, rung)
        placed = base.place(FreshStart(base.targets, 4, 2, 32, seed=5), Trained(rank=4))
        loss = placed.backward_loss(ids, ids)
        found[rung] = loss.total, {name: value.grad for name, value in placed.trained.items()}
    want, gradients = found.pop("resident")
    for loss, others in found.values():
        assert loss == pytest.approx(want, rel=1e-5)
        for name, gradient in gradients.items():
            assert torch.allclose(others[name], gradient, atol=1e-5), name


def test_streamed_rungs_import_no_transformers(llama):
    program = (
        "import sys; from pathlib import Path; from edge_agent.training.bases import open_base; "
        f"open_base(Path({str(llama)!r}), 'streamed').encoder; "
        "print({'transformers', 'peft'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "set()\n", done.stderr

"""Loading a base's graph, and what is none."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

pytest.importorskip("onnxruntime", reason="onnxruntime isn't installed: pip install lorikeet[onnx]")

from bench.export_models import DIGEST, MODELS, save_base
from bench.serving_onnx import exported
from edge_agent.inference.contract import Engine
from edge_agent.inference.errors import EngineError
from edge_agent.inference.onnx.engine import OnnxEngine
from hub.export.base_type import BaseType
from tests.edge_agent.inference.onnx.conftest import Tuned


def test_it_tells_its_name_vocabulary_and_base(llama: Tuned) -> None:
    engine: Engine = llama.engine
    assert (engine.name, engine.vocabulary) == ("onnxruntime", 300)
    assert llama.engine.base == DIGEST


@pytest.mark.parametrize("stored", [BaseType.F16, BaseType.Q4])
def test_a_base_of_fewer_bits_computes_as_well(tmp_path: Path, stored: BaseType) -> None:
    model = save_base(tmp_path / "base", *MODELS["qwen2"], dtype=torch.bfloat16)
    session = OnnxEngine(exported(tmp_path, stored), threads=1).open(None, slots=1, context=40)
    ids = list(range(40))
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0, -1].numpy()
    found = session.feed({0: ids})[0]
    most = 1e-3 if stored is BaseType.F16 else 0.35  # 4 bits of random weights
    assert np.linalg.norm(found - wanted) <= most * np.linalg.norm(wanted)


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    save_base(tmp_path / "base", *MODELS["llama"])
    engine = OnnxEngine(exported(tmp_path, BaseType.F32))
    session = engine.open(None, slots=1, context=8)
    engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        session.feed({0: [1]})


def test_files_that_are_no_base_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"absent\.onnx can't be read"):
        OnnxEngine(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"can't load .*broken\.onnx"):
        OnnxEngine(tmp_path / "broken.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "other", [value], [other])
    opsets = [onnx.helper.make_opsetid("", 21)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "o")
    with pytest.raises(EngineError, match="is no base that"):
        OnnxEngine(tmp_path / "o")


def test_a_graph_without_its_weights_is_refused(tmp_path: Path) -> None:
    save_base(tmp_path / "base", *MODELS["llama"])
    path = exported(tmp_path, BaseType.F32)
    Path(f"{path}.data").unlink()
    with pytest.raises(EngineError, match=r"Export it again, with the \.data file"):
        OnnxEngine(path)

"""Graphs in integers against the same graphs in floating point."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto
from onnx.helper import (
    make_graph,
    make_model,
    make_node,
    make_opsetid,
    make_tensor_value_info,
)
from onnx.numpy_helper import from_array

from jobs.core.quantise import quantise


def two_layers(columns: int) -> ModelProto:
    """(1, rows, columns) times two matrices side by side, summed, times its own transpose."""
    dice = np.random.default_rng(1)
    weights = [
        from_array(dice.normal(size=(columns, 64)).astype(np.float32), f"w{n}") for n in (0, 1)
    ]
    nodes = [
        make_node("MatMul", ["x", "w0"], ["a"]),
        make_node("MatMul", ["x", "w1"], ["b"]),
        make_node("Add", ["a", "b"], ["y"]),
    ]
    shape = (1, None, columns)
    graph = make_graph(
        nodes,
        "layers",
        [make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [make_tensor_value_info("y", TensorProto.FLOAT, (1, None, 64))],
        weights,
    )
    return make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=10)


def run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize("columns", [100, 384])
def test_integers_are_within_a_percent(columns: int) -> None:
    model = two_layers(columns)
    x = np.random.default_rng(2).normal(size=(1, 7, columns)).astype(np.float32)
    x[0, 3] *= 1000  # an outlier is no other row's trouble
    x[0, 4] = 0
    exact, rounded = run(model, x), run(quantise(model), x)
    size = np.abs(exact).max(axis=-1, keepdims=True)
    assert np.max(np.abs(rounded - exact) / np.maximum(size, 1e-9)) < 0.03
    assert not rounded[0, 4].any()


def test_no_weights_of_four_bytes_are_left_and_the_original_is_as_it_was() -> None:
    model = two_layers(384)
    before = model.SerializeToString()
    made = quantise(model)
    assert model.SerializeToString() == before
    matrices = [i for i in made.graph.initializer if len(i.dims) == 2]
    assert {i.data_type for i in matrices} == {TensorProto.INT8}
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("QuantizeLinear") == 1, "both layers share their input"
    assert "MatMul" not in kinds


def test_a_graph_that_imports_the_operators_already_imports_them_once() -> None:
    model = two_layers(100)
    ours = make_opsetid("com.microsoft", 1)
    model.opset_import.append(ours)
    assert list(quantise(model).opset_import).count(ours) == 1

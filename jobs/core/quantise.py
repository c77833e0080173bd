"""An ONNX graph with its linear layers in 8-bit integers, near enough to what it was.

Weights are rounded once, to seven bits, activations as they come, each row (token) and block of
192 columns by a scale of its own. That is what the usual dynamic quantisation lacks: its one scale
for a whole activation is at the mercy of a few outliers, and of the other texts of the batch.
Token-wise scales are those of Z. Yao et al., "ZeroQuant", 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto
from onnx.helper import make_node, make_opsetid
from onnx.numpy_helper import from_array, to_array

BLOCK = 192
"""Columns that share a scale; what they do not divide is one block."""

_LEVELS = 127
_WEIGHT_LEVELS = 64
"""Processors without VNNI add two products of a byte and a weight in 16 bits, and cut the sum off
there: 2 * 255 * 64 just fits."""

_DOMAIN = "com.microsoft"


def quantise(model: ModelProto, block: int = BLOCK) -> ModelProto:
    """A copy of ``model`` in which products with constant matrices are taken in integers.

    Its activations must be (1, rows, columns): one text at a time, which needs no padding either.
    """
    made = ModelProto()
    made.CopyFrom(model)
    rewriting = _Rewriting(block, {i.name: i for i in made.graph.initializer})
    for node in made.graph.node:
        rewriting.take(node)
    used = {name for node in rewriting.nodes for name in node.input}
    constants = [*made.graph.initializer, *rewriting.constants]
    kept = [constant for constant in constants if constant.name in used]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(rewriting.nodes)
    made.graph.initializer.extend(kept)
    if not any(opset.domain == _DOMAIN for opset in made.opset_import):
        made.opset_import.append(make_opsetid(_DOMAIN, 1))
    onnx.checker.check_model(made)
    return made


class _Rewriting:
    """The nodes and constants of the new graph so far."""

    def __init__(self, block: int, given: dict[str, TensorProto]):
        self._block = block
        self._given = given
        self._quantised: dict[tuple[str, int], list[str]] = {}
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = [
            from_array(np.array(_LEVELS + 1, np.uint8), "int8_zero"),
            from_array(np.array(1, np.float32), "int8_one"),
            from_array(np.array(1e-9, np.float32), "int8_tiny"),
            from_array(np.array(_LEVELS, np.float32), "int8_levels"),
        ]

    def take(self, node: NodeProto) -> None:
        """Add a node as it is, or what stands for it."""
        matrix = self._given.get(node.input[1]) if node.op_type == "MatMul" else None
        if matrix is None or len(matrix.dims) != 2:
            self.nodes.append(node)
            return
        weights = to_array(matrix)
        columns = len(weights)
        size = self._block if columns % self._block == 0 else columns
        blocks = self._activations(node.input[0], columns, size)
        result = node.output[0]
        terms = []
        for number, activation in enumerate(blocks):
            part = weights[number * size : (number + 1) * size]
            terms.append(self._product(activation, part, f"{result}/{number}"))
        self._add("Sum", terms, result)

    def _activations(self, name: str, columns: int, size: int) -> list[str]:
        """Names of the blocks of an activation in integers: made once for all that read it."""
        if (name, size) not in self._quantised:
            count = columns // size
            blocks = [f"{name}/{number}" for number in range(count)]
            self._quantise(name, size)
            for part, width in (("int8", columns), ("scale", count)):
                self._reshape(f"{name}/{part}", (1, -1, width), f"{name}/{part}_rows")
                self._constant(f"{name}/{part}_sizes", np.full(count, width // count, np.int64))
                inputs = [f"{name}/{part}_rows", f"{name}/{part}_sizes"]
                outputs = [f"{block}/{part}" for block in blocks]
                self.nodes.append(make_node("Split", inputs, outputs, axis=-1))
            self._quantised[name, size] = blocks
        return self._quantised[name, size]

    def _quantise(self, x: str, size: int) -> None:
        """``x/int8`` and ``x/scale``: whole numbers around 128, and what one is worth, by block."""
        self._reshape(x, (1, -1, size), f"{x}/cells")
        self._add("Abs", [f"{x}/cells"], f"{x}/abs")
        self.nodes.append(make_node("ReduceMax", [f"{x}/abs"], [f"{x}/max"], axes=[-1], keepdims=1))
        self._add("Max", [f"{x}/max", "int8_tiny"], f"{x}/most")
        self._add("Div", [f"{x}/most", "int8_levels"], f"{x}/scale")
        self._reshape(f"{x}/scale", (-1,), f"{x}/scales")
        self._add("Shape", [f"{x}/scales"], f"{x}/number")
        self._add("Expand", ["int8_zero", f"{x}/number"], f"{x}/zeros")
        inputs = [f"{x}/cells", f"{x}/scales", f"{x}/zeros"]
        self.nodes.append(make_node("QuantizeLinear", inputs, [f"{x}/int8"], axis=1))

    def _reshape(self, x: str, shape: tuple[int, ...], output: str) -> None:
        self._constant(f"{output}_shape", np.array(shape, np.int64))
        self._add("Reshape", [x, f"{output}_shape"], output)

    def _constant(self, name: str, value: NDArray[Any]) -> None:
        self.constants.append(from_array(value, name))

    def _product(self, x: str, weights: NDArray[np.float32], name: str) -> str:
        scale = np.maximum(np.abs(weights).max(axis=0), 1e-9).astype(np.float32) / _WEIGHT_LEVELS
        self._constant(f"{name}/weights", np.round(weights / scale).astype(np.int8))
        self._constant(f"{name}/weight_scale", scale)
        inputs = [f"{x}/int8", f"{name}/weights", "int8_one", f"{name}/weight_scale", "int8_zero"]
        self.nodes.append(
            make_node("MatMulIntegerToFloat", inputs, [f"{name}/sums"], domain=_DOMAIN)
        )
        self._add("Mul", [f"{name}/sums", f"{x}/scale"], f"{name}/product")
        return f"{name}/product"

    def _add(self, operator: str, inputs: list[str], output: str) -> None:
        self.nodes.append(make_node(operator, inputs, [output]))

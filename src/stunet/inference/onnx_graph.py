"""ONNX graphs of networks: nodes, weights, and the files that they are saved in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OPSET = 17
"""Version of ONNX's operators, from 2022; every runtime since then supports it."""

IR_VERSION = 8
"""Version of ONNX's file format, from the same year."""

LARGEST_FILE = 2**30
"""The most bytes of weights in a single file. The format allows 2 GiB, but needs several times as much memory."""

INPUT = "image"
"""Name of every graph's input."""

Shape = Sequence[int | str]
"""Sizes; a name stands for a size that is not fixed."""


@dataclass(eq=False)
class OnnxGraph:
    """A network as ONNX nodes, with separate weights.

    Attributes:
        input_shape: shape of `INPUT`, float32.
        output, output_shape: name and shape of the output, float32.
        nodes: in the order of computation.
        constants: small tensors in the graph.
        weights: tensors by name, float32, contiguous, on the CPU; copied only if necessary.
    """

    input_shape: Shape
    output: str
    output_shape: Shape
    nodes: "list[NodeProto]" = field(default_factory=list)
    constants: "list[TensorProto]" = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, kind: str, inputs: Sequence[str], name: str | None = None, **attributes: Any) -> str:
        """Append a node with one output, and return the output's name, which is also the node's."""
        from onnx import helper

        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def add_weight(self, name: str, tensor: torch.Tensor) -> str:
        """Add a tensor that is stored outside the graph, and return its name."""
        self.weights[name] = tensor.detach().float().cpu().contiguous()
        return name

    def add_constant(self, values: Any) -> str:
        """Add a small float32 tensor to the graph, and return its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    def model(self, data: str | None = None) -> "ModelProto":
        """Build the ONNX model.

        Args:
            data: name of a file next to the model that contains the weights one after the other; None puts them into
                the model.
        """
        from onnx import TensorProto, helper, numpy_helper

        if data is None:
            weights = [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in self.weights.items()]
        else:
            weights = self._weights_in(data)
        graph = helper.make_graph(
            self.nodes,
            "stunet",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, self.input_shape)],
            [helper.make_tensor_value_info(self.output, TensorProto.FLOAT, self.output_shape)],
            initializer=[*self.constants, *weights],
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="stunet",
            producer_version=version("stunet"),
        )

    def save(self, path: Path) -> list[Path]:
        """Write the model. Weights above `LARGEST_FILE` go to a second file, `path` with ".data" appended.

        Returns:
            The files written.
        """
        if sum(tensor.nbytes for tensor in self.weights.values()) <= LARGEST_FILE:
            path.write_bytes(self.model().SerializeToString())
            return [path]
        data = path.with_name(f"{path.name}.data")
        with data.open("wb") as file:
            for tensor in self.weights.values():
                tensor.numpy().tofile(file)
        path.write_bytes(self.model(data.name).SerializeToString())
        return [path, data]

    def _weights_in(self, data: str) -> "list[TensorProto]":
        """The weights as references to a file that contains them one after the other."""
        from onnx import StringStringEntryProto, TensorProto

        tensors, offset = [], 0
        for name, tensor in self.weights.items():
            place = {"location": data, "offset": str(offset), "length": str(tensor.nbytes)}
            entries = [StringStringEntryProto(key=key, value=value) for key, value in place.items()]
            tensors.append(
                TensorProto(
                    name=name,
                    dims=tensor.shape,
                    data_type=TensorProto.FLOAT,
                    data_location=TensorProto.EXTERNAL,
                    external_data=entries,
                )
            )
            offset += tensor.nbytes
        return tensors

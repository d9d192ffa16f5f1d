"""Translate networks to ONNX graphs: call a network with a symbol, and record all operations on the symbol.

STU-Net uses only ten operations, so a table and a small class are enough, and a graph takes a fraction of a second.
torch's own exporter took 7 s of CPU time for `small`, too long for every start of a backend; it also needs two more
packages, writes source paths of the machine into the file, and, like `torch.fx`, changes torch for all threads while it
runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from stunet.extras import from_extra
from stunet.inference.onnx_graph import INPUT, OnnxGraph, Shape

RANK = 5
"""Axes of every tensor: batch, channels, and three spatial axes."""


def build_graph(
    module: nn.Module,
    input_shape: Shape,
    output: str,
    output_shape: Shape,
    functions: "Mapping[Any, LayerWriter] | None" = None,
) -> OnnxGraph:
    """Translate a network.

    Args:
        module: a module in evaluation mode, from one tensor to one; may only use what `Symbol` and `FUNCTIONS` support.
        input_shape: (B, C, Z, Y, X); C is a number.
        output: name of the output.
        output_shape: its shape.
        functions: overrides of entries of `FUNCTIONS`.

    Raises:
        UserError: the package `onnx` is not installed.
        ValueError: an operation cannot be translated.
    """
    with from_extra("onnx"):
        import onnx  # noqa: F401 (needed to save the graph)
    graph = OnnxGraph(input_shape, output, output_shape)
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    image = Symbol(graph, names, {**FUNCTIONS, **(functions or {})}, INPUT, int(input_shape[1]))
    graph.add("Identity", [module(image).name], output)
    return graph


@dataclass(frozen=True, eq=False)
class Symbol:
    """Replaces a tensor (B, C, Z, Y, X) while a network is called; torch's functions call `__torch_function__`.

    Attributes:
        graph: records the operations.
        weights: names of the network's parameters.
        functions: how to translate torch's functions.
        name: name of the tensor.
        channels: C.
    """

    graph: OnnxGraph
    weights: Mapping[torch.Tensor, str]
    functions: "Mapping[Any, LayerWriter]"
    name: str
    channels: int

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> "Symbol":
        first = args[0] if isinstance(args[0], Symbol) else args[0][0]
        if function not in first.functions:
            raise ValueError(f"{getattr(function, '__name__', function)} cannot be translated to ONNX")
        return first.functions[function](*args, **(kwargs or {}))

    def then(self, kind: str, others: Sequence[str] = (), channels: int | None = None, **attributes: Any) -> "Symbol":
        """Append a node with this symbol as its first input, and return its result."""
        name = self.graph.add(kind, [self.name, *others], **attributes)
        return replace(self, name=name, channels=channels or self.channels)

    def weight(self, tensor: torch.Tensor, *shape: int) -> str:
        """Add a parameter to the graph, reshaped if a shape is given, and return its name."""
        return self.graph.add_weight(self.weights[tensor], tensor.reshape(shape) if shape else tensor)

    @property
    def is_cuda(self) -> bool:
        """False: on no device, so modules call their general functions."""
        return False

    def dim(self) -> int:
        """The number of axes."""
        return RANK

    def size(self, axis: int) -> int:
        """The size of axis 1, which norms need; no other size is known."""
        if axis != 1:
            raise ValueError(f"the size of axis {axis} is unknown")
        return self.channels

    def __add__(self, other: "Symbol") -> "Symbol":
        return self.then("Add", [other.name])

    add_ = __add__

    def __sub__(self, other: "Symbol") -> "Symbol":
        return self.then("Sub", [other.name])

    def __mul__(self, other: "Symbol") -> "Symbol":
        return self.then("Mul", [other.name])

    def __neg__(self) -> "Symbol":
        return self.then("Neg")

    def __truediv__(self, divisor: float) -> "Symbol":
        return self.then("Div", [self.graph.add_constant(divisor)])

    def movedim(self, source: int, destination: int) -> "Symbol":
        """Move an axis, as torch does."""
        order = [axis for axis in range(RANK) if axis != source % RANK]
        order.insert(destination % RANK, source % RANK)
        return self.then("Transpose", perm=order)


# Translations of torch's functions, with the arguments of torch's functions


def _convolution(
    image: Symbol,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Symbol:
    others = [image.weight(tensor) for tensor in (weight, bias) if tensor is not None]
    geometry = _geometry(weight, stride, padding, dilation, groups)
    return image.then("Conv", others, len(weight), **geometry)


def _transposed_convolution(
    image: Symbol,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Symbol:
    others = [image.weight(tensor) for tensor in (weight, bias) if tensor is not None]
    geometry = _geometry(weight, stride, padding, dilation, groups)
    return image.then("ConvTranspose", others, weight.shape[1] * groups, output_padding=output_padding, **geometry)


def _geometry(
    weight: torch.Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> dict[str, Any]:
    kernel = list(weight.shape[2:])
    return {"kernel_shape": kernel, "strides": stride, "pads": [*padding] * 2, "dilations": dilation, "group": groups}


def instance_norm_in_one_node(
    image: Symbol, weight: torch.Tensor, bias: torch.Tensor, eps: float, **_: object
) -> Symbol:
    """Instance norm as the runtime's own node: faster, but less exact in float32 (see `_mean`)."""
    return image.then("InstanceNormalization", [image.weight(weight), image.weight(bias)], epsilon=eps)


def _instance_norm(image: Symbol, weight: torch.Tensor, bias: torch.Tensor, eps: float, **_: object) -> Symbol:
    """Instance norm step by step, in order to use `_mean`.

    The last step scales and shifts the map itself, so the centred map is not written to memory. The rounding error that
    this adds is about as large as the map's own.
    """
    mean = _mean(image)
    centred = image - mean
    variance = _mean(centred * centred)
    deviation = variance.then("Add", [image.graph.add_constant(eps)]).then("Sqrt")
    scale = replace(image, name=image.weight(weight, -1, 1, 1, 1)).then("Div", [deviation.name])
    shift = replace(image, name=image.weight(bias, -1, 1, 1, 1)) - mean * scale
    return image * scale + shift


def _mean(image: Symbol) -> Symbol:
    """Take the mean along X, then Y, then Z, so that no sum has many terms.

    The runtimes' own norms sum a whole map in one float32: for 128^3 voxels, normalised values had errors of up to
    1.6e-4 in ONNX Runtime and 4e-3 in OpenVINO; with this function, 2e-6. The sign changes keep OpenVINO from merging
    the means into one.
    """
    return _mean_along(2, -_mean_along(3, -_mean_along(4, image)))


def _mean_along(axis: int, image: Symbol) -> Symbol:
    return image.then("ReduceMean", axes=[axis], keepdims=1)


def _leaky_relu(image: Symbol, negative_slope: float, **_: object) -> Symbol:
    return image.then("LeakyRelu", alpha=negative_slope)


def _concatenate(images: Sequence[Symbol], dim: int) -> Symbol:
    first, *others = images
    if not others:
        return first
    return first.then("Concat", [image.name for image in others], sum(image.channels for image in images), axis=dim)


def _interpolate(image: Symbol, scale_factor: Sequence[float], mode: str, **_: object) -> Symbol:
    scales = image.graph.add_constant((1, 1, *scale_factor))
    modes: dict[str, dict[str, Any]] = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "trilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    }
    return image.then("Resize", ["", scales], **modes[mode])


LayerWriter = Callable[..., Symbol]
"""Called with the arguments of torch's function, with symbols instead of tensors."""

FUNCTIONS: dict[Any, LayerWriter] = {
    functional.conv3d: _convolution,
    functional.conv_transpose3d: _transposed_convolution,
    functional.instance_norm: _instance_norm,
    functional.leaky_relu: _leaky_relu,
    functional.interpolate: _interpolate,
    torch.cat: _concatenate,
}
"""The functions that a network may call with a symbol, and their translations."""

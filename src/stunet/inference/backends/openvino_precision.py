"""The parts of an STU-Net that OpenVINO computes in float32 when bfloat16 is requested.

No norm bounds the decoder's residual stream, which 1x1x1 convolutions pass from stage to stage. In a network fitted to
a CT it reaches 5,000, where neighbouring numbers are 32 apart in bfloat16. Each block adds features normalised to about
1, which rounding the sum to bfloat16 would lose. So the stream stays in float32, and so do the coarse stages, at almost
no cost. The 3x3x3 convolutions, nearly all of the work, use bfloat16. `bench/precision.py` measures the remaining
difference.
"""

import xml.etree.ElementTree as ElementTree
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openvino import Model, PartialShape

COARSE = 16**3
"""Stages with at most 1 / `COARSE` of the window's voxels (four halvings) are computed entirely in float32."""

CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData")

STREAM = (".narrow.", ".shortcut_up.", "head")
"""Name parts of the weights on the stream and of the head, in the rewritten network (`stunet.networks.fuse`). The skips
are not included: what the encoder adds to the stream stays near 20."""

MARK = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}
"""OpenVINO's file attribute of nodes that must keep their precision (2026.4). It says "not to float16", but the CPU
plugin also applies it to bfloat16."""


def keep_stream_in_float32(model: "Model", path: Path) -> None:
    """Mark the nodes of `names_in_float32` in a saved model's .xml file.

    The model must be STU-Nets translated by `onnx_translation`, for windows of one size.
    """
    kept = names_in_float32(model)
    tree = ElementTree.parse(path)
    for layer in tree.iterfind("layers/layer"):
        if layer.get("name") in kept:
            _information_of(layer).append(ElementTree.Element("attribute", MARK))
    tree.write(path)


def names_in_float32(model: "Model") -> set[str]:
    """Names of the nodes in the decoder's residual stream and its coarse stages.

    The stream includes the outputs of its convolutions, up to the next convolution. Stages that are not rewritten
    (Table 6's other up-samplings) have no such nodes: OpenVINO 2026.4 fails if a sum fused into a convolution has an
    input of another precision.
    """
    kept: set[str] = set()
    window = _voxels(model.input().get_partial_shape())
    for node in model.get_ordered_ops():
        sources = [value.get_node().get_friendly_name() for value in node.input_values()]
        if node.get_type_name() in CONVOLUTIONS:
            weights = sources[1]
            is_coarse = _voxels(node.get_output_partial_shape(0)) * COARSE <= window
            is_kept = any(part in weights for part in STREAM) or (is_coarse and _is_of_rewritten_stage(weights))
        else:
            is_kept = not kept.isdisjoint(sources)
        if is_kept:
            kept.add(node.get_friendly_name())
    return kept


def _is_of_rewritten_stage(weights: str) -> bool:
    return ".stages." in weights and ".encoder." not in weights and ".stage." not in weights


def _voxels(shape: "PartialShape") -> int:
    """The voxels of one map; the batch size may be unknown."""
    return prod(axis.get_length() for axis in list(shape)[2:])


def _information_of(layer: ElementTree.Element) -> ElementTree.Element:
    """The element with a layer's runtime attributes; created before its ports if missing."""
    found = layer.find("rt_info")
    if found is not None:
        return found
    information = ElementTree.Element("rt_info")
    ports = [number for number, child in enumerate(layer) if child.tag in ("input", "output")]
    layer.insert(ports[0] if ports else len(layer), information)
    return information

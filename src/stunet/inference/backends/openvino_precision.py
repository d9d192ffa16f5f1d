"""What of an STU-Net OpenVINO computes in float32 although it was asked for bfloat16.

No norm bounds the decoder's residual stream, what its 1x1x1 convolutions carry from stage to stage. In a network fitted
to a CT it reaches 5,000, where neighbouring numbers of bfloat16 are 32 apart, and each block adds features to it that
were just normalised to about 1: rounded to bfloat16, the sum forgets them. So the stream stays in float32, and so do
the coarse stages, nearly free. The 3x3x3 convolutions, nearly all of the work, are what gains from bfloat16.
`bench/precision.py` measures what is left of the difference.
"""

import xml.etree.ElementTree as ElementTree
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openvino import Model, PartialShape

COARSE = 16**3
"""Stages with at most this part of the window's voxels, four halvings, are computed in float32 as a whole."""

CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData")

STREAM = (".narrow.", ".shortcut_up.", "head")
"""Parts of the names of the weights that carry the stream up, in the rewritten network (`stunet.networks.fuse`), and to
the logits. The skips are not among them: what the encoder adds to the stream stays near 20."""

MARK = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}
"""OpenVINO's attribute of a node that computes in the numbers it was written in, as it stands in a file (2026.4): its
CPU plugin reads "not to float16" as "not to bfloat16" too."""


def keep_stream_in_float32(model: "Model", path: Path) -> None:
    """Mark the nodes of `names_in_float32` in the .xml file to which a model was saved.

    The model is STU-Nets made by `onnx_graph`, for windows of one size.
    """
    kept = names_in_float32(model)
    tree = ElementTree.parse(path)
    for layer in tree.iterfind("layers/layer"):
        if layer.get("name") in kept:
            _information_of(layer).append(ElementTree.Element("attribute", MARK))
    tree.write(path)


def names_in_float32(model: "Model") -> set[str]:
    """Of the nodes of the decoder's residual stream, and of its coarse stages.

    Whatever comes out of a convolution of the stream belongs to it, up to the next convolution. Stages that are not
    rewritten, those of Table 6's other ways up, have no such nodes: OpenVINO 2026.4 fails where a sum, made by a
    convolution of one kind of numbers, takes in another kind.
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
    """Of one map; the batch may be open."""
    return prod(axis.get_length() for axis in list(shape)[2:])


def _information_of(layer: ElementTree.Element) -> ElementTree.Element:
    """Where a layer's attributes for the runtime stand; made before its ports, where there is none."""
    found = layer.find("rt_info")
    if found is not None:
        return found
    information = ElementTree.Element("rt_info")
    ports = [number for number, child in enumerate(layer) if child.tag in ("input", "output")]
    layer.insert(ports[0] if ports else len(layer), information)
    return information

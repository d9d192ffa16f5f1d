"""Run a model that `stunet export --to onnx` wrote, without stunet: python run_exported.py MODEL.onnx SCAN LABELS

For models of one channel without a mask, and scans without thick slices; the card says how to do the rest.
"""

import json
import sys
from itertools import product
from math import ceil
from pathlib import Path

import nibabel
import numpy as np
import onnxruntime
from scipy.ndimage import zoom

model, scan_file, labels_file = map(Path, sys.argv[1:])
card = json.loads(model.with_suffix(".card.json").read_text())
before, window, after = card["preprocessing"], card["sliding_window"], card["postprocessing"]
session = onnxruntime.InferenceSession(model)

scan = nibabel.load(scan_file)
turned = scan if before["orient"]["to"] is None else nibabel.as_closest_canonical(scan)
axes = before["transpose"]["axes"]
whole = turned.get_fdata(dtype=np.float32).T.transpose(axes)
spacing = nibabel.affines.voxel_sizes(turned.affine)[::-1][axes]
thick = before["resample"]["thick_slices"]
ratio = max(max(one) / min(one) for one in (spacing, before["resample"]["spacing_mm"]))
if thick["apart"] == "always" or (thick["apart"] == "by threshold" and ratio > thick["threshold"]):
    sys.exit("This scan has thick slices; see thick_slices in the card.")
inside = np.argwhere(whole)
box = tuple(slice(a, b + 1) for a, b in zip(inside.min(0), inside.max(0), strict=True))
image = crop = whole[box]


def resample(array, shape, order):
    """As the card says for scans without thick slices."""
    resized = zoom(array, np.divide(shape, array.shape), order=order, mode="nearest", grid_mode=True)
    return np.clip(resized, array.min(), array.max())


def normalise(array):
    """By the card's numbers, or by the image's own."""
    how = before["normalise"]["channels"][0]
    own = {"mean": array.mean(), "standard deviation": array.std(), "minimum": array.min(), "range": np.ptp(array)}
    clipped = np.clip(array, *how["clip"]) if how["clip"] else array
    return (clipped - own.get(how["subtract"], how["subtract"])) / own.get(how["divide_by"], how["divide_by"])


grid = np.round(np.array(crop.shape) * spacing / before["resample"]["spacing_mm"]).astype(int)
for step in before["order"][-2:]:
    image = normalise(image) if step == "normalise" else resample(image, grid, before["resample"]["order"])

size = np.array(window["size"])
missing = np.maximum(size - grid, 0)
image = np.pad(image, [(m // 2, m - m // 2) for m in missing], constant_values=window["padding_value"])
ranges = [np.arange(n) - c for n, c in zip(size, window["weight"]["centre"], strict=True)]
squares = [(r / s) ** 2 / 2 for r, s in zip(ranges, window["weight"]["sigma"], strict=True)]
exponent = squares[0][:, None, None] + squares[1][:, None] + squares[2]
weight = np.float32(np.float16(window["weight"]["peak"] * np.exp(-exponent)))
weight[weight == 0] = weight[weight > 0].min()
intervals = [ceil(rest / (window["step"] * n)) for rest, n in zip(image.shape - size, size, strict=True)]
starts = [
    [round(k * int(rest) / max(n, 1)) for k in range(n + 1)]
    for rest, n in zip(image.shape - size, intervals, strict=True)
]
logits, weights = np.zeros((len(after["labels"]), *image.shape), np.float32), np.zeros(image.shape, np.float32)
for corner in product(*starts):
    place = tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True))
    answer = session.run(None, {card["input"]["name"]: np.float32(image[place])[None, None]})[0][0]
    logits[(slice(None), *place)] += weight * answer
    weights[place] += weight
unpadded = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, grid, strict=True))
logits = (logits / weights)[(slice(None), *unpadded)]

labels = np.zeros(whole.shape, np.uint16)
logits = np.array([resample(one, crop.shape, after["resample"]["order"]) for one in logits])
if after["regions"]:
    for one, region in zip(logits, after["regions"], strict=True):
        labels[box][1 / (1 + np.exp(-one)) > 0.5] = region["label"]
else:
    labels[box] = np.argmax(logits, axis=0)
labels = nibabel.Nifti1Image(labels.transpose(np.argsort(axes)).T, turned.affine)
moves = nibabel.orientations.ornt_transform(nibabel.io_orientation(turned.affine), nibabel.io_orientation(scan.affine))
nibabel.save(nibabel.Nifti1Image(labels.as_reoriented(moves).dataobj, scan.affine), labels_file)

"""Checkpoints of nnU-Net v1 (`.model`) and v2 (`.pth`), opened without running pickle code, in our names.

The official STU-Net code (uni-medical/STU-Net) names its layers after nnU-Net v1's U-Net; `KEY_MAP` is the one place
that knows those names. What the published weights need beside their tensors is in `PUBLISHED_PLAN`.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from stunet.errors import UserError
from stunet.labels.ontology import BACKGROUND, LABELS
from stunet.networks.registry import kind_of
from stunet.networks.stunet import ISOTROPIC_STRIDES, PUBLISHED_STRIDES, SIZES
from stunet.weights.model_file import (
    AnyArchitecture,
    Architecture,
    ModelCard,
    OtherArchitecture,
    Shape,
    StateDict,
    existing_file,
    mismatches,
    shapes_of,
)
from stunet.weights.nnunet_plans import (
    DEFAULT_CONFIGURATION,
    STUNET_TRAINER,
    NetworkPlan,
    network_class,
    network_plan,
    read_v1_plans,
    to_strides,
)

__all__ = [
    "KEY_MAP",
    "PUBLISHED_PLAN",
    "Checkpoint",
    "import_official",
    "read_checkpoint",
    "read_v1_plans",
    "to_official_names",
    "to_our_names",
]

KEY_MAP: dict[str, str] = {
    "conv_blocks_context.{}.{}.conv1": "encoder.stages.{}.{}.conv1",
    "conv_blocks_context.{}.{}.norm1": "encoder.stages.{}.{}.norm1",
    "conv_blocks_context.{}.{}.conv2": "encoder.stages.{}.{}.conv2",
    "conv_blocks_context.{}.{}.norm2": "encoder.stages.{}.{}.norm2",
    "conv_blocks_context.{}.{}.conv3": "encoder.stages.{}.{}.shortcut",
    "upsample_layers.{}.conv": "decoder.upsamples.{}.conv",
    "conv_blocks_localization.{}.{}.conv1": "decoder.stages.{}.{}.conv1",
    "conv_blocks_localization.{}.{}.norm1": "decoder.stages.{}.{}.norm1",
    "conv_blocks_localization.{}.{}.conv2": "decoder.stages.{}.{}.conv2",
    "conv_blocks_localization.{}.{}.norm2": "decoder.stages.{}.{}.norm2",
    "conv_blocks_localization.{}.{}.conv3": "decoder.stages.{}.{}.shortcut",
    "seg_outputs.{}": "decoder.seg_layers.{}",
}
"""Official name -> ours; each {} is a number (stage, block), and ".weight" or ".bias" follows. Both count decoder
stages from the deepest (0) to full resolution (4)."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile put before every name."""

PUBLISHED_PLAN: dict[str, Any] = {
    "convention": "nnunet_v1",
    "spacing": [1.5, 1.5, 1.5],
    "patch_size": [128, 128, 128],
    "normalization": [
        {
            "scheme": "zscore",
            "mean": 0.0,
            "std": 1.0,
            "percentile_00_5": 0.0,
            "percentile_99_5": 0.0,
            "use_mask": False,
        }
    ],
    "transpose_forward": [0, 1, 2],
    "orientation": "RAS",
    "image_order": 3,
    "image_order_z": 0,
    "logits_order": 1,
    "logits_order_z": 0,
    "force_separate_z": None,
    "anisotropy_threshold": 3.0,
}
"""Preprocessing of the published weights: nnU-Net v1's "nonCT", the z-score of each whole scan, at 1.5 mm (Z, Y, X).

From `plan_files/*.pkl` of uni-medical/STU-Net, as `stunet.imaging.plan.PreprocessingPlan.to_dict()` writes it (mean and
percentiles are idle: a z-score takes each scan's own). Scans are brought to RAS first, as TotalSegmentator v1's are.
"""

PUBLISHED_SOURCE = "https://huggingface.co/ziyanhuang/STU-Net"

CITATION = (
    "Huang et al., STU-Net: Scalable and Transferable Medical Image Segmentation Models Empowered by Large-Scale "
    "Supervised Pre-training, arXiv:2304.06716 (2023)"
)

_PUBLISHED = NetworkPlan(strides=PUBLISHED_STRIDES, channels=("CT",), labels=LABELS)
_PUBLISHED_SIZES = {(SIZES[name].width, SIZES[name].depth) for name in ("small", "base", "large", "huge")}


@dataclass(frozen=True)
class Checkpoint:
    """What nnU-Net wrote, weights in our names.

    Attributes:
        path: the file.
        state_dict: tensors in our names, memory-mapped where the file's format allows it.
        official_names: the file has the official STU-Net's names.
        trainer: nnU-Net's trainer class, if the file names it (v2).
        plans: v2's plans, which v2 stores in every checkpoint; None in v1.
        configuration: which of these plans' configurations, e.g. "3d_fullres".
        dataset: v2's dataset.json.
        mirror_axes: axes (0, 1, 2 = Z, Y, X) with which nnU-Net averages mirrored copies.
        epoch: epochs trained.
    """

    path: Path
    state_dict: StateDict
    official_names: bool
    trainer: str | None = None
    plans: dict[str, Any] | None = None
    configuration: str | None = None
    dataset: dict[str, Any] = field(default_factory=dict)
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    epoch: int | None = None


# Names


def to_our_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under our names; names that `KEY_MAP` does not hold stay as they are.

    >>> list(to_our_names({"module.conv_blocks_context.0.0.conv3.bias": 0}))
    ['encoder.stages.0.0.shortcut.bias']
    """
    return {_renamed(_unwrapped(key), KEY_MAP): value for key, value in state_dict.items()}


def to_official_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under the official names: the inverse of `to_our_names`.

    >>> list(to_official_names({"decoder.seg_layers.4.weight": 0}))
    ['seg_outputs.4.weight']
    """
    inverse = {ours: official for official, ours in KEY_MAP.items()}
    return {_renamed(key, inverse): value for key, value in state_dict.items()}


def _renamed(key: str, names: Mapping[str, str]) -> str:
    layer, _, leaf = key.rpartition(".")
    numbers = re.findall(r"(?<=\.)\d+(?=\.|$)", layer)
    template = names.get(re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", layer))
    return key if template is None else f"{template.format(*numbers)}.{leaf}"


def _unwrapped(key: str) -> str:
    while key.startswith(WRAPPERS):
        key = key.partition(".")[2]
    return key


# Reading


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads an nnU-Net v1 or v2 checkpoint; nothing in it is run.

    Raises:
        UserError: no such file, another kind of file, a damaged one, one that wants to run something, or one that
            holds no weights.
    """
    path = existing_file(path)
    content = _load_without_running(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no checkpoint, but a {type(content).__name__}.")
    weights = content.get("state_dict", content.get("network_weights", content))
    tensors = _tensors_in(weights, path)
    state_dict = to_our_names(tensors)
    if len(state_dict) < len(tensors):
        raise UserError(f"{path} holds some tensors twice, with and without the prefix of a wrapper ({WRAPPERS[0]!r}).")
    official_names = any(_unwrapped(key) not in state_dict for key in tensors)
    try:
        return Checkpoint(path, state_dict, official_names, **_provenance(content))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: what it says of its training cannot be read ({error}).") from error


def _provenance(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a v2 checkpoint says of its training, and v1's epoch.

    Raises:
        TypeError, ValueError: values of other types than nnU-Net writes.
    """
    arguments = dict(content.get("init_args") or {}) if "network_weights" in content else {}
    mirror_axes = tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes", (0, 1, 2)) or ())
    if not set(mirror_axes) <= {0, 1, 2}:
        raise ValueError(f"mirror axes {mirror_axes}")
    return {
        "trainer": str(content["trainer_name"]) if "trainer_name" in content else None,
        "plans": arguments.get("plans"),
        "configuration": arguments.get("configuration"),
        "dataset": arguments.get("dataset_json") or {},
        "mirror_axes": mirror_axes,
        "epoch": int(content.get("current_epoch", content.get("epoch", 0))) or None,
    }


def _load_without_running(path: Path) -> Any:
    """The content of a `torch.save`d file, by torch's restricted unpickler; memory-mapped if it is a zip file."""
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip and not _is_torch_zip(path):
            raise UserError(f"{path} is a zip archive, not a model: unpack it yourself and give the file inside.")
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on pickle protocols are for programmers
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=is_zip)
    except UserError:
        raise
    except Exception as error:  # a damaged archive or stream of pickle opcodes can raise anything
        raise UserError(_refusal(path, error)) from error


def _is_torch_zip(path: Path) -> bool:
    """`torch.save` puts one folder into its archives, with `data.pkl` in it."""
    with zipfile.ZipFile(path) as archive:
        return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())


def _refusal(path: Path, error: Exception) -> str:
    """The sentence for a file that torch would not load."""
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and wanted:
        return (
            f"{path} wants to run {wanted[1]} when it is loaded; weights need nothing of the kind. It was refused, "
            "and nothing was run."
        )
    return f"{path} is not a checkpoint of nnU-Net, or it is damaged; copy or download it again."


def _numpy_globals() -> list[Any]:
    """The numpy scalars and arrays that nnU-Net logs beside the weights, under numpy 1's module names and numpy 2's."""
    scalar: Any = np.float64(0).__reduce__()[0]
    reconstruct: Any = np.zeros(1).__reduce__()[0]
    aliases: list[Any] = [
        (function, f"{core}.multiarray.{name}")
        for core in ("numpy.core", "numpy._core")
        for function, name in ((scalar, "scalar"), (reconstruct, "_reconstruct"))
    ]
    number_types = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdFD"}
    return [*aliases, np.ndarray, np.dtype, *number_types]


def _tensors_in(weights: Any, path: Path) -> StateDict:
    """The weights as dense tensors of real numbers, none larger than the file itself.

    Raises:
        UserError: none there, or something else among them.
    """
    named = weights if isinstance(weights, Mapping) else {}
    tensors = {str(key): value for key, value in named.items() if isinstance(value, torch.Tensor)}
    if not tensors or len(tensors) < len(named):
        raise UserError(f"{path} holds no weights: neither 'state_dict' (nnU-Net v1) nor 'network_weights' (v2).")
    real = {key for key, t in tensors.items() if t.is_floating_point() and t.layout == torch.strided}
    indices = {key for key, t in tensors.items() if real and t.dtype == torch.int64}
    odd = [key for key in tensors if key not in real | indices]
    if odd:
        raise UserError(f"{path} is not an STU-Net: {odd[0]} holds no real numbers.")
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > path.stat().st_size:
        raise UserError(f"{path} claims more weights than fit into it; it is damaged or hostile.")
    return tensors


# Importing


def import_official(
    source: str | Path | Checkpoint,
    *,
    plans: Mapping[str, Any] | None = None,
    strides: Sequence[Sequence[int]] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    name: str | None = None,
) -> tuple[StateDict, ModelCard]:
    """Weights in our names, and a card for them, from a checkpoint of nnU-Net v1 or v2.

    The size is read off the shapes. The strides are not: up-sampling has no weights, so a network with wrong strides
    loads without a complaint and answers wrongly. They come from the first of these that is there: `strides`; `plans`;
    the plans inside a v2 checkpoint; the published plan, for official names and shapes with 1 channel and 105 classes.

    Args:
        source: the file, or what `read_checkpoint` read from it.
        plans: nnU-Net's plans, from `read_v1_plans` or a v2 `plans.json`.
        strides: five or six strides (Z, Y, X).
        preprocessing: what `PreprocessingPlan.to_dict()` gives for these plans; may be left out where the published
            plan holds.
        labels: class names, background first; they override those of the plans.
        name: for the card; the file's name if None.

    Returns:
        The tensors, memory-mapped where the format allows it, and the card.

    Raises:
        UserError: a checkpoint of another network (with a table of the shapes that differ), or of unknown strides,
            preprocessing, or number of labels.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    plan = _plan_of(checkpoint, plans, strides)
    architecture = architecture_of(checkpoint, plan or NetworkPlan(ISOTROPIC_STRIDES))
    if plan is None:
        raise UserError(
            f"{checkpoint.path} does not say with which strides it was trained, and wrong ones give wrong answers "
            "without an error: give nnU-Net's plans file (--plans) or the strides (--strides)."
        )
    if preprocessing is None:
        preprocessing = _published_preprocessing(checkpoint, plans)
    return checkpoint.state_dict, ModelCard(
        name=name or checkpoint.path.name.split(".")[0],
        architecture=architecture,
        preprocessing=preprocessing,
        labels=_labels_for(checkpoint, architecture, plan.labels if labels is None else labels),
        channels=_channels_for(checkpoint, architecture, plan.channels),
        mirror_axes=checkpoint.mirror_axes,
        **_provenance_for(checkpoint),
    )


def architecture_of(checkpoint: Checkpoint, plan: NetworkPlan) -> AnyArchitecture:
    """The STU-Net whose shapes the checkpoint has, with the plan's strides and variants; or the plan's other network.

    Raises:
        UserError: no STU-Net and not the plan's network, with a table of the shapes that differ.
    """
    shapes = shapes_of(checkpoint.state_dict)
    if plan.network != "stunet":
        return _other_architecture(checkpoint, plan, shapes)
    size = _size_in(shapes)
    if size is None:
        listed = ", ".join(list(shapes)[:3])
        raise UserError(f"{checkpoint.path} is not an STU-Net: its first tensors are {listed}.")
    architecture = Architecture("stunet", *size, plan.strides, plan.downsampling, plan.upsampling)
    _require_fit(architecture, shapes, checkpoint)
    return architecture


def _other_architecture(checkpoint: Checkpoint, plan: NetworkPlan, shapes: Mapping[str, Shape]) -> OtherArchitecture:
    if not plan.channels or not plan.labels:
        raise UserError(f"{checkpoint.path} does not say how many channels and classes its {plan.network} has.")
    try:
        architecture = OtherArchitecture(plan.network, len(plan.channels), len(plan.labels), plan.arguments)
        table = mismatches(architecture.shapes(), shapes) if architecture.layers <= len(shapes) else "too many layers"
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{checkpoint.path} is not a {plan.network} ({str(error).splitlines()[0]}).") from error
    if table:
        raise UserError(f"{checkpoint.path} is not the {plan.network} of its plans:\n{table}")
    return architecture


class _Size(NamedTuple):
    """What the shapes tell about a network."""

    input_channels: int
    num_classes: int
    width: int
    depth: int


def _size_in(shapes: Mapping[str, Shape]) -> _Size | None:
    """The size of the STU-Net whose shapes these are, by its first convolution and a head; None if one is not there."""
    stem = shapes.get("encoder.stages.0.0.conv1.weight", ())
    heads = [shape for key, shape in shapes.items() if re.fullmatch(r"decoder\.seg_layers\.\d+\.bias", key)]
    if len(stem) != 5 or not heads or len(heads[-1]) != 1:
        return None
    depth = sum(re.fullmatch(r"encoder\.stages\.0\.\d+\.conv1\.weight", key) is not None for key in shapes)
    return _Size(input_channels=stem[1], num_classes=heads[-1][0], width=stem[0], depth=depth)


def _require_fit(architecture: Architecture, shapes: Mapping[str, Shape], checkpoint: Checkpoint) -> None:
    """Compares all shapes; the table has the names that the file has."""
    try:
        expected = architecture.shapes()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{checkpoint.path} is not an STU-Net ({str(error).splitlines()[0]}).") from error
    in_file = to_official_names if checkpoint.official_names else dict
    table = mismatches(in_file(expected), in_file(shapes))
    if table:
        raise UserError(f"{checkpoint.path} is not an STU-Net of size {architecture.size}:\n{table}")


def _plan_of(
    checkpoint: Checkpoint, plans: Mapping[str, Any] | None, strides: Sequence[Sequence[int]] | None
) -> NetworkPlan | None:
    """The plan that was given, or the checkpoint's own, or the published one where it holds; `strides` override."""
    known = checkpoint.plans if plans is None else plans
    plan = None
    if known is not None:
        plan = network_plan(known, checkpoint.configuration, checkpoint.dataset)
        require_stunet_trainer(checkpoint, known)
    elif is_published(checkpoint):
        plan = _PUBLISHED
    if strides is None:
        return plan
    if plan is not None and plan.network != "stunet":
        raise UserError(f"{checkpoint.path} is a {plan.network}, whose strides are in its plans; leave --strides out.")
    return replace(plan or NetworkPlan(ISOTROPIC_STRIDES), strides=to_strides(strides))


def require_stunet_trainer(checkpoint: Checkpoint, plans: Mapping[str, Any]) -> None:
    """Where v2 plans name another network than ours, an STU-Net trainer must have put ours in its place.

    The official trainers (`STUNetTrainer_base`, ...) do so, with the plans' strides padded or cut to five
    downsamplings; what another trainer does with the strides is unknown.

    Raises:
        UserError: another network, by its name.
    """
    if "configurations" not in plans or (checkpoint.trainer or "").startswith(STUNET_TRAINER):
        return
    network = network_class(plans, checkpoint.configuration or DEFAULT_CONFIGURATION)
    if kind_of(network) is None:
        trainer = checkpoint.trainer or "an unknown trainer"
        raise UserError(
            f"{checkpoint.path} was trained by {trainer} with the network {network}, which stunet does not know."
        )


def is_published(checkpoint: Checkpoint) -> bool:
    """The checkpoint looks like a published one: v1, official names, 1 channel, 105 classes, size S, B, L or H."""
    size = _size_in(shapes_of(checkpoint.state_dict))
    return size is not None and _has_published_ends(checkpoint, size) and (size.width, size.depth) in _PUBLISHED_SIZES


def _has_published_ends(checkpoint: Checkpoint, size: _Size) -> bool:
    """A v1 checkpoint with official names, the published weights' input channel and classes; the size may differ."""
    ends = (size.input_channels, size.num_classes) == (1, len(LABELS))
    return ends and checkpoint.official_names and checkpoint.plans is None


def _published_preprocessing(checkpoint: Checkpoint, plans: Mapping[str, Any] | None) -> dict[str, Any]:
    """`PUBLISHED_PLAN`, if nothing speaks against it.

    Raises:
        ValueError: the caller gave plans, or the checkpoint has its own, but `preprocessing` was left out.
        UserError: other channels or classes than the published weights have.
    """
    if plans is not None or checkpoint.plans is not None:
        raise ValueError("preprocessing: give what PreprocessingPlan.to_dict() makes of these plans")
    size = _size_in(shapes_of(checkpoint.state_dict))
    if size is None or not _has_published_ends(checkpoint, size):
        raise UserError(
            f"{checkpoint.path} does not say how its images were prepared (spacing, normalisation): give nnU-Net's "
            "plans file (--plans)."
        )
    return PUBLISHED_PLAN


def _labels_for(checkpoint: Checkpoint, architecture: AnyArchitecture, named: Sequence[str]) -> tuple[str, ...]:
    """The class names, if there are as many as the network has outputs; "class_1" and so on if there are none."""
    if not named and architecture.num_classes == len(LABELS) and checkpoint.official_names:
        return LABELS
    unnamed = (BACKGROUND, *(f"class_{label}" for label in range(1, architecture.num_classes)))
    labels = tuple(named) or unnamed
    if len(labels) != architecture.num_classes:
        raise UserError(
            f"{checkpoint.path} answers with {architecture.num_classes} classes, background included, but "
            f"{len(labels)} labels are named."
        )
    return labels


def _channels_for(checkpoint: Checkpoint, architecture: AnyArchitecture, named: Sequence[str]) -> tuple[str, ...]:
    channels = tuple(named) or tuple(f"channel_{index}" for index in range(architecture.input_channels))
    if len(channels) != architecture.input_channels:
        raise UserError(
            f"{checkpoint.path} takes {architecture.input_channels} input channels, but the plans name "
            f"{len(channels)}: {', '.join(channels)}."
        )
    return channels


def _provenance_for(checkpoint: Checkpoint) -> dict[str, Any]:
    """The fields of a card that say where the weights come from."""
    known = {"file": checkpoint.path.name, "trainer": checkpoint.trainer, "epochs": checkpoint.epoch}
    fields = {"training": {key: value for key, value in known.items() if value is not None}, "citation": CITATION}
    if is_published(checkpoint):
        fields |= {"licence": "Apache-2.0", "source": PUBLISHED_SOURCE}
    return fields

"""Checkpoints of nnU-Net v1 (`.model`) and v2 (`.pth`) become weights and a card: network, plan, labels.

`key_map` knows the official names and `checkpoint` reads the files, running nothing of them; both are at hand here.
What the published weights need beside their tensors is in `PUBLISHED_PLAN`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from stunet.errors import UserError
from stunet.labels.ontology import BACKGROUND, LABELS
from stunet.networks.registry import kind_of
from stunet.networks.stunet import ISOTROPIC_STRIDES, PUBLISHED_STRIDES, SIZES
from stunet.weights.checkpoint import Checkpoint, read_checkpoint
from stunet.weights.key_map import KEY_MAP, to_official_names, to_our_names
from stunet.weights.model_file import (
    AnyArchitecture,
    Architecture,
    ModelCard,
    OtherArchitecture,
    StateDict,
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
from stunet.weights.shapes import Shape, mismatches, shapes_of

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

From `plan_files/*.pkl` of uni-medical/STU-Net, as `PreprocessingPlan.to_dict()` writes it (mean and
percentiles are idle: a z-score takes each scan's own). Scans are brought to RAS first, as TotalSegmentator v1's are.
"""

PUBLISHED_SOURCE = "https://huggingface.co/ziyanhuang/STU-Net"

CITATION = (
    "Huang et al., STU-Net: Scalable and Transferable Medical Image Segmentation Models Empowered by Large-Scale "
    "Supervised Pre-training, arXiv:2304.06716 (2023)"
)

_PUBLISHED = NetworkPlan(strides=PUBLISHED_STRIDES, channels=("CT",), labels=LABELS)
_PUBLISHED_SIZES = {(SIZES[name].width, SIZES[name].depth) for name in ("small", "base", "large", "huge")}


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

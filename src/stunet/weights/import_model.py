"""Import weights of nnU-Net or `stunet train`: rename the tensors and write a card.

Every source is read as one or more `Checkpoint`s, their plans are read once, and one function makes the card.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stunet.errors import FileError, UserError
from stunet.labels.ontology import BACKGROUND, LABELS
from stunet.networks.registry import size_of
from stunet.networks.stunet import ISOTROPIC_STRIDES, PUBLISHED_STRIDES, SIZES, six_strides
from stunet.plans.network_spec import NetworkSpec, Stride
from stunet.plans.nnunet import (
    DatasetDescription,
    Plans,
    dataset_from,
    plans_from,
    read_plans_file,
    read_v1_plans,
    strides_from,
)
from stunet.weights.checkpoint import Checkpoint, read_checkpoint, to_official_names
from stunet.weights.folds import Fold, read_folds
from stunet.weights.model_card import ModelCard, Shape
from stunet.weights.model_file import StateDict, joined, mismatches, network_shapes, shapes_of
from stunet.weights.published import CITATION, PUBLISHED_PLAN, PUBLISHED_SOURCE
from stunet.weights.training_checkpoint import STATE_NAME, read_training_checkpoint

NNUNETS_BLOCK = r"encoder\.stages\.0\.(0\.)?(convs|blocks)\.0\..*"
"""Tensor names of nnU-Net's PlainConvUNet and ResidualEncoderUNet that STU-Net does not have."""

STUNET_TRAINER = "STUNetTrainer"
"""Prefix of all STU-Net trainers, ours and the official ones."""

_PUBLISHED_SIZES = {(SIZES[name].width, SIZES[name].depth) for name in ("small", "base", "large", "huge")}


def import_model(
    source: Path,
    plans: Path | None = None,
    strides: Sequence[Sequence[int]] | None = None,
    folds: Sequence[Fold] = (),
) -> tuple[StateDict, ModelCard]:
    """Import weights by our names and their card, ready for `stunet.weights.model_file.save_model`.

    Args:
        source: a `.model` of nnU-Net v1, a `.pth` of v2, a model folder of v2, or a checkpoint of `stunet train`
            (`.../fold_0/stunet_checkpoint`), written by one or more processes.
        plans: nnU-Net's plans: the v1 pickle or a v2 `plans.json`. By default those inside a `.pth`, or the pickle that
            nnU-Net v1 writes next to a `.model`, with the same name and `.pkl` appended.
        strides: strides of the five down-samplings (Z, Y, X); they override those of the plans.
        folds: which folds of a model folder to import, 0 if empty; the logits of several folds are averaged.

    Returns:
        The tensors, memory-mapped where the format allows it, and the card.

    Raises:
        UserError: a file cannot be read safely, the network is of another kind (the message lists the shapes that
            differ), strides or preprocessing are unknown (the message names the option that gives them), or an option
            does not apply to the source.
    """
    if source.is_dir():
        return _import_folder(source, plans, strides, folds)
    if folds:
        raise UserError(f"{source} has no folds to choose from; only a model folder of nnU-Net v2 has.")
    checkpoint = read_checkpoint(source)
    known = _own_plans(checkpoint) if plans is None else read_plans_file(plans)
    return import_checkpoints([replace(checkpoint, plans=known)], strides)


def _import_folder(
    source: Path, plans: Path | None, strides: Sequence[Sequence[int]] | None, folds: Sequence[Fold]
) -> tuple[StateDict, ModelCard]:
    if (source / STATE_NAME).is_file():
        if plans is not None or folds:
            raise UserError(f"{source} is a checkpoint of one fold, which has its own plans; leave --plans and -f out.")
        return import_checkpoints([read_training_checkpoint(source)], strides)
    if plans is not None or strides is not None:
        raise UserError(f"{source} is a model folder, which has its own plans; leave --plans and --strides out.")
    return import_checkpoints(read_folds(source, folds or (0,)))


def import_to_start_with(source: Path) -> tuple[StateDict, ModelCard]:
    """Import a checkpoint as `import_model` does, but allow unknown preprocessing, to start a training with it.

    Returns:
        The weights and their card. If the preprocessing is unknown, it is None and the strides are meaningless.

    Raises:
        UserError: the file cannot be read safely, or contains another network.
    """
    checkpoint = read_checkpoint(source)
    checkpoint = replace(checkpoint, plans=_own_plans(checkpoint))
    if checkpoint.plans is not None or is_published(checkpoint):
        return import_checkpoints([checkpoint])
    spec = _stunet_of(checkpoint, ISOTROPIC_STRIDES)
    card = _card([checkpoint], spec, None, DatasetDescription())
    return checkpoint.state_dict, replace(card, preprocessing=None)


def import_checkpoints(
    checkpoints: Sequence[Checkpoint], strides: Sequence[Sequence[int]] | None = None
) -> tuple[StateDict, ModelCard]:
    """Import the weights of one network, or of several of the same kind, and make one card for them.

    The shapes give the size of an STU-Net, but not its strides: up-sampling has no weights, so a network with wrong
    strides loads without an error and gives wrong results. The strides come from `strides`, or from the plans, or, if
    the checkpoint looks like a published one, from the published weights.

    Args:
        checkpoints: one or more checkpoints, all with the plans and dataset.json of the first.
        strides: five or six strides (Z, Y, X).

    Raises:
        UserError: as `import_model`.
    """
    first = checkpoints[0]
    plans = None if first.plans is None else plans_from(first.plans, first.configuration, first.path)
    dataset = dataset_from(first.dataset, first.path)
    _require_classes(first, dataset)
    specs = [_spec_of(checkpoint, plans, dataset, strides) for checkpoint in checkpoints]
    for checkpoint, spec in zip(checkpoints, specs, strict=True):
        if spec != specs[0]:
            raise UserError(f"{checkpoint.path} and {first.path} contain different networks.")
    if plans is None and not _has_published_ends(first):
        raise UserError(
            f"{first.path} does not contain its preprocessing (spacing, normalisation): give nnU-Net's plans "
            "file (--plans)."
        )
    state_dict = joined([checkpoint.state_dict for checkpoint in checkpoints])
    return state_dict, _card(checkpoints, specs[0], plans, dataset)


def _require_classes(checkpoint: Checkpoint, dataset: DatasetDescription) -> None:
    if checkpoint.fold and not (dataset.labels and dataset.channels):
        raise FileError(f"The dataset.json of {checkpoint.path.parent.parent} has no labels or no channels.")


def is_published(checkpoint: Checkpoint) -> bool:
    """Whether it looks like a published checkpoint: v1, official names, 1 channel, 105 classes, size S, B, L or H."""
    spec = _size_in(shapes_of(checkpoint.state_dict))
    return (
        spec is not None
        and _has_published_ends(checkpoint)
        and (spec.arguments["width"], spec.arguments["depth"]) in _PUBLISHED_SIZES
    )


def _has_published_ends(checkpoint: Checkpoint) -> bool:
    """Whether this is a v1 checkpoint with official names, 1 channel and 105 classes, of any size."""
    spec = _size_in(shapes_of(checkpoint.state_dict))
    ends = None if spec is None else (spec.input_channels, spec.num_classes)
    is_v1 = checkpoint.configuration is None and checkpoint.trainer is None
    return ends == (1, len(LABELS)) and checkpoint.official_names and is_v1


def _own_plans(checkpoint: Checkpoint) -> Mapping[str, Any] | None:
    """The plans inside or next to a checkpoint. The published weights need none."""
    beside = checkpoint.path.with_name(f"{checkpoint.path.name}.pkl")
    if checkpoint.plans is not None or is_published(checkpoint) or not beside.is_file():
        return checkpoint.plans
    return read_v1_plans(beside)


# The network


def _spec_of(
    checkpoint: Checkpoint, plans: Plans | None, dataset: DatasetDescription, strides: Sequence[Sequence[int]] | None
) -> NetworkSpec:
    """The network of a checkpoint: an STU-Net, recognised by its shapes, or the network in its plans."""
    known: Sequence[Stride] = PUBLISHED_STRIDES if is_published(checkpoint) else ()
    variant: Mapping[str, str] = {}
    if plans is not None:
        if plans.kind not in (None, "stunet"):
            return _other_network_of(checkpoint, plans, dataset, strides)
        _require_stunet_trainer(checkpoint, plans)
        known = plans.strides
        variant = {name: plans.arguments[name] for name in plans.arguments.keys() & {"downsampling", "upsampling"}}
    known = known if strides is None else strides_from(strides)
    spec = _stunet_of(checkpoint, six_strides(known or ISOTROPIC_STRIDES), **variant)
    if not known:
        raise UserError(
            f"{checkpoint.path} does not contain the strides of its training, and wrong strides give wrong results "
            "without an error: give nnU-Net's plans file (--plans) or the strides (--strides)."
        )
    return spec


def _require_stunet_trainer(checkpoint: Checkpoint, plans: Plans) -> None:
    """If v2 plans name another network, require an STU-Net trainer, which replaces it with an STU-Net.

    The official trainers (`STUNetTrainer_base`, ...) pad or cut the plans' strides to five down-samplings; what other
    trainers do with the strides is unknown.
    """
    trainer = checkpoint.trainer or "an unknown trainer"
    if plans.network_class and plans.kind is None and not trainer.startswith(STUNET_TRAINER):
        raise FileError(
            f"{checkpoint.path} was trained by {trainer} with the network {plans.network_class}, which stunet does not "
            "know."
        )


def _stunet_of(checkpoint: Checkpoint, strides: Sequence[Stride], **variant: str) -> NetworkSpec:
    """The STU-Net with a checkpoint's shapes. If there is none, the error lists the differences by the file's names."""
    shapes = shapes_of(checkpoint.state_dict)
    size = _size_in(shapes)
    if size is None:
        if any(re.fullmatch(NNUNETS_BLOCK, key) for key in shapes):
            raise FileError(
                f"{checkpoint.path} is not an STU-Net: it contains one of nnU-Net's own U-Nets (its default network, "
                "as in TotalSegmentator). Use it with nnU-Net's own commands."
            )
        listed = ", ".join(list(shapes)[:3])
        raise FileError(f"{checkpoint.path} is not an STU-Net: its first tensors are {listed}.")
    spec = size.with_arguments(strides=strides, **{"downsampling": "residual", "upsampling": "nearest", **variant})
    try:
        expected = network_shapes(spec)
    except (ValueError, RuntimeError) as error:
        raise FileError(f"{checkpoint.path} is not an STU-Net ({str(error).splitlines()[0]}).") from error
    in_file = to_official_names if checkpoint.official_names else dict
    table = mismatches(in_file(expected), in_file(shapes))
    if table:
        raise FileError(f"{checkpoint.path} is not an STU-Net of size {size_of(spec)}:\n{table}")
    return spec


def _size_in(shapes: Mapping[str, Shape]) -> NetworkSpec | None:
    """The STU-Net with these shapes, recognised by its first convolution and a head; None if one is missing."""
    stem = shapes.get("encoder.stages.0.0.conv1.weight", ())
    heads = [shape for key, shape in shapes.items() if re.fullmatch(r"decoder\.seg_layers\.\d+\.bias", key)]
    if len(stem) != 5 or not heads or len(heads[-1]) != 1 or min(*stem[:2], *heads[-1]) < 1:
        return None
    depth = sum(re.fullmatch(r"encoder\.stages\.0\.\d+\.conv1\.weight", key) is not None for key in shapes)
    return NetworkSpec("stunet", stem[1], heads[-1][0], {"width": stem[0], "depth": depth})


def _other_network_of(
    checkpoint: Checkpoint, plans: Plans, dataset: DatasetDescription, strides: Sequence[Sequence[int]] | None
) -> NetworkSpec:
    if strides is not None:
        raise UserError(f"{checkpoint.path} is a {plans.kind}, whose strides are in its plans; leave --strides out.")
    shapes = shapes_of(checkpoint.state_dict)
    if not dataset.channels or not dataset.labels:
        raise UserError(f"{checkpoint.path} does not contain the number of channels and classes of its {plans.kind}.")
    try:
        spec = NetworkSpec(str(plans.kind), len(dataset.channels), len(dataset.labels), plans.arguments)
        table = mismatches(network_shapes(spec), shapes) if spec.least_tensors <= len(shapes) else "too many layers"
    except (ValueError, RuntimeError) as error:
        raise FileError(f"{checkpoint.path} is not a {plans.kind} ({str(error).splitlines()[0]}).") from error
    if table:
        raise FileError(f"{checkpoint.path} is not the {plans.kind} of its plans:\n{table}")
    return spec


# The card


def _card(
    checkpoints: Sequence[Checkpoint], spec: NetworkSpec, plans: Plans | None, dataset: DatasetDescription
) -> ModelCard:
    """The card with all that is known about the weights; `plans` is None if their training is unknown."""
    first = checkpoints[0]
    labels = (BACKGROUND, *(f"class_{label}" for label in range(1, spec.num_classes)))
    if first.official_names and spec.num_classes == len(LABELS):
        labels = LABELS
    card = ModelCard(
        name=_name_of(first, plans),
        network=spec,
        preprocessing=None if plans is None else plans.preprocessing,
        labels=_named(dataset.labels, labels, "labels", first),
        channels=_named(
            dataset.channels or (() if plans is None else plans.channels),
            tuple(f"channel_{index}" for index in range(spec.input_channels)),
            "channels",
            first,
        ),
        mirror_axes=first.mirror_axes,
        training=_training_of(checkpoints),
        licence=dataset.licence,
        source=dataset.reference,
        citation=CITATION,
        members=len(checkpoints),
        regions=dataset.regions,
    )
    return _as_published(card, first)


def _as_published(card: ModelCard, checkpoint: Checkpoint) -> ModelCard:
    """Complete the card of published weights with what v1 plans do not contain: CT scans in RAS orientation."""
    if card.preprocessing is None and _has_published_ends(checkpoint):
        card = replace(card, preprocessing=PUBLISHED_PLAN)
    if card.preprocessing is None or not is_published(checkpoint):
        return card
    preprocessing = replace(card.preprocessing, orientation=PUBLISHED_PLAN.orientation)
    return replace(card, preprocessing=preprocessing, channels=("CT",), licence="Apache-2.0", source=PUBLISHED_SOURCE)


def _name_of(checkpoint: Checkpoint, plans: Plans | None) -> str:
    """The dataset's name for a fold, the file's name for other checkpoints."""
    if checkpoint.fold and plans is not None:
        return plans.dataset or checkpoint.path.parent.parent.name
    return checkpoint.path.name.split(".")[0]


def _training_of(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    first = checkpoints[0]
    folds = [checkpoint.fold for checkpoint in checkpoints]
    files = [checkpoint.path.name for checkpoint in checkpoints]
    origin = {"folds": folds, "checkpoints": files} if first.fold else {"file": first.path.name}
    known = {**origin, "trainer": first.trainer, "epochs": first.epoch}
    return {key: value for key, value in known.items() if value is not None}


def _named(names: tuple[str, ...], default: tuple[str, ...], what: str, checkpoint: Checkpoint) -> tuple[str, ...]:
    """The names, checked to be as many as the network needs, or the default if there are none."""
    if names and len(names) != len(default):
        raise FileError(
            f"{checkpoint.path} has a network for {len(default)} {what}, but its plans or dataset.json name "
            f"{len(names)}: {', '.join(names)}."
        )
    return names or default

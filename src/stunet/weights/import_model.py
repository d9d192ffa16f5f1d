"""Weights of nnU-Net's kinds become one model file of ours: here weights and preprocessing plans meet."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stunet.errors import UserError
from stunet.networks.stunet import ISOTROPIC_STRIDES
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.checkpoint import Checkpoint, read_checkpoint
from stunet.weights.model_file import ModelCard, StateDict, joined
from stunet.weights.model_folder import read_model_folder
from stunet.weights.nnunet_plans import DEFAULT_CONFIGURATION, read_v1_plans
from stunet.weights.official import PUBLISHED_PLAN, import_official, is_published
from stunet.weights.training_checkpoint import is_training_checkpoint, read_training_checkpoint


def import_model(
    source: Path,
    plans: Path | None = None,
    strides: Sequence[Sequence[int]] | None = None,
    folds: Sequence[int | str] = (),
) -> tuple[StateDict, ModelCard]:
    """Weights in our names and their card, ready for `stunet.weights.model_file.save_model`.

    Args:
        source: a `.model` of nnU-Net v1, a `.pth` of v2, a model folder of v2, or a checkpoint of `stunet train`
            (`.../fold_0/stunet_checkpoint`), by one process or by many.
        plans: nnU-Net's plans: the v1 pickle or a v2 `plans.json`. By default those inside a `.pth`, or the pickle
            that nnU-Net v1 writes beside a `.model`, of the same name with `.pkl` after it.
        strides: of the five downsamplings (Z, Y, X); they override those of the plans.
        folds: which folds of a model folder, 0 if empty; several are joined, and their logits will be averaged.

    Raises:
        UserError: a file that can't be read safely, another network, one whose strides or preprocessing are unknown,
            with the option that would tell, or an option that the source has no use for.
    """
    if source.is_dir() and is_training_checkpoint(source):
        if plans is not None or folds:
            raise UserError(
                f"{source} is a checkpoint of one fold, with its plans beside it; leave --plans and -f out."
            )
        checkpoint = read_training_checkpoint(source)
        return _import_checkpoint(checkpoint, checkpoint.plans, strides)
    if source.is_dir():
        if plans is not None or strides is not None:
            raise UserError(f"{source} is a model folder, which has its own plans; leave --plans and --strides out.")
        return _import_folds(source, folds or (0,))
    if folds:
        raise UserError(f"{source} has no folds to choose from; only a model folder of nnU-Net v2 has.")
    checkpoint = read_checkpoint(source)
    read_plans = _read_plans(plans) if plans is not None else _own_plans(checkpoint)
    return _import_checkpoint(checkpoint, read_plans, strides)


def import_to_start_with(source: Path) -> tuple[StateDict, ModelCard]:
    """As `import_model` of a checkpoint, but one that does not say how it was trained will do to start a training with.

    Returns:
        The weights and their card; its preprocessing is empty, and its strides mean nothing, where both are unknown.

    Raises:
        UserError: a file that can't be read safely, or another network.
    """
    checkpoint = read_checkpoint(source)
    plans = _own_plans(checkpoint)
    if plans is None and not is_published(checkpoint):
        return import_official(checkpoint, strides=ISOTROPIC_STRIDES, preprocessing={})
    return _import_checkpoint(checkpoint, plans)


def _import_checkpoint(
    checkpoint: Checkpoint, plans: Mapping[str, Any] | None, strides: Sequence[Sequence[int]] | None = None
) -> tuple[StateDict, ModelCard]:
    preprocessing = None if plans is None else preprocessing_of(plans, checkpoint.configuration).to_dict()
    state_dict, card = import_official(checkpoint, plans=plans, strides=strides, preprocessing=preprocessing)
    return state_dict, _as_published(card) if is_published(checkpoint) else card


def _import_folds(source: Path, folds: Sequence[int | str]) -> tuple[StateDict, ModelCard]:
    folder = read_model_folder(source, [int(fold) if str(fold).isdigit() else fold for fold in folds])
    return joined(folder.state_dicts), folder.card(preprocessing_of(folder.plans, folder.configuration).to_dict())


def preprocessing_of(plans: Mapping[str, Any], configuration: str | None = None) -> PreprocessingPlan:
    """How images are prepared, by nnU-Net's plans of version 1 or 2.

    Args:
        plans: content of the plans file.
        configuration: which of version 2's; "3d_fullres" if None.

    Raises:
        UserError: plans for a 2D network or a cascade, or with steps that stunet does not know.
    """
    if "plans_per_stage" in plans:
        return PreprocessingPlan.from_nnunet_v1(plans)
    return PreprocessingPlan.from_nnunet_v2(plans, configuration or DEFAULT_CONFIGURATION)


def _own_plans(checkpoint: Checkpoint) -> Mapping[str, Any] | None:
    """The plans that came with a checkpoint; none are needed for the published weights."""
    if is_published(checkpoint):
        return None
    beside = checkpoint.path.with_name(f"{checkpoint.path.name}.pkl")
    return checkpoint.plans or (read_v1_plans(beside) if beside.is_file() else None)


def _as_published(card: ModelCard) -> ModelCard:
    """What v1's plans don't say of the published weights, whichever plans came with them: scans were CT, and RAS."""
    preprocessing = {**card.preprocessing, "orientation": PUBLISHED_PLAN["orientation"]}
    return replace(card, preprocessing=preprocessing, channels=("CT",))


def _read_plans(path: Path) -> Mapping[str, Any]:
    if path.suffix != ".json":
        return read_v1_plans(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as nnU-Net plans ({error}).") from error

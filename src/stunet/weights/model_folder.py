"""A model folder as nnU-Net v2 writes it: `plans.json`, `dataset.json`, and `fold_*` with their checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stunet.errors import UserError
from stunet.files import read_json_object
from stunet.weights.checkpoint import Checkpoint, read_checkpoint
from stunet.weights.model_file import AnyArchitecture, ModelCard, StateDict, existing_file
from stunet.weights.nnunet_plans import DEFAULT_CONFIGURATION, NetworkPlan, network_plan
from stunet.weights.official import CITATION, architecture_of, require_stunet_trainer

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
"""Which checkpoint of a fold is used: the first of these that is there."""


@dataclass(frozen=True)
class ModelFolder:
    """A trained model as nnU-Net v2 keeps it.

    Attributes:
        path: the folder.
        plans: content of `plans.json`.
        dataset: content of `dataset.json`.
        configuration: the one that was trained, e.g. "3d_fullres".
        trainer: nnU-Net's trainer class.
        folds: the folds that were read, e.g. ("0", "1") or ("all",).
        checkpoints: what each of these folds holds, weights in our names, memory-mapped.
        architecture: the network that all of them fit.
        labels: class names, background first.
        channels: what each input channel shows.
        mirror_axes: axes (0, 1, 2 = Z, Y, X) with which mirrored copies may be averaged.
    """

    path: Path
    plans: dict[str, Any]
    dataset: dict[str, Any]
    configuration: str
    trainer: str
    folds: tuple[str, ...]
    checkpoints: tuple[Checkpoint, ...]
    architecture: AnyArchitecture
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    mirror_axes: tuple[int, ...]

    @property
    def state_dicts(self) -> tuple[StateDict, ...]:
        """The weights of each fold."""
        return tuple(checkpoint.state_dict for checkpoint in self.checkpoints)

    def card(self, preprocessing: Mapping[str, Any], name: str | None = None) -> ModelCard:
        """The card of this model.

        Args:
            preprocessing: what `PreprocessingPlan.to_dict()` gives for `plans` and `configuration`.
            name: for the card; the dataset's name if None.
        """
        training = {"trainer": self.trainer, "folds": list(self.folds), "epochs": self.checkpoints[0].epoch}
        return ModelCard(
            name=name or str(self.plans.get("dataset_name", self.path.name)),
            architecture=self.architecture,
            preprocessing=preprocessing,
            labels=self.labels,
            channels=self.channels,
            mirror_axes=self.mirror_axes,
            training=training,
            licence=str(self.dataset.get("licence", self.dataset.get("license", "unknown"))),
            source=str(self.dataset.get("reference", "unknown")),
            citation=CITATION,
            networks=len(self.checkpoints),
        )


def read_model_folder(path: str | Path, folds: Sequence[int | str] | None = None) -> ModelFolder:
    """Reads a model folder that nnU-Net v2, or `stunet train`, wrote.

    Args:
        path: the folder that holds `plans.json`.
        folds: which folds, e.g. (0, 1) or ("all",); None takes every fold that has a checkpoint.

    Raises:
        UserError: a file or fold that is missing or damaged, region-based labels, a cascade or 2d configuration, or
            another network than an STU-Net.
    """
    path = Path(path)
    plans = _read_json(path, "plans.json")
    dataset = _read_json(path, "dataset.json")
    if "configurations" not in plans:
        raise UserError(f"{path / 'plans.json'} is not a plans file of nnU-Net v2: it has no 'configurations'.")
    chosen = _chosen_folds(path, folds)
    checkpoints = tuple(read_checkpoint(_checkpoint_in(path / f"fold_{fold}")) for fold in chosen)
    configuration = checkpoints[0].configuration or DEFAULT_CONFIGURATION
    plan = network_plan(plans, configuration, dataset)
    for checkpoint in checkpoints:
        require_stunet_trainer(checkpoint, plans)
    architecture = _common_architecture(checkpoints, plan)
    _require_names(path, architecture, plan)
    return ModelFolder(
        path=path,
        plans=plans,
        dataset=dataset,
        configuration=configuration,
        trainer=checkpoints[0].trainer or "unknown",
        folds=chosen,
        checkpoints=checkpoints,
        architecture=architecture,
        labels=plan.labels,
        channels=plan.channels,
        mirror_axes=checkpoints[0].mirror_axes,
    )


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    if not (folder / name).is_file():
        raise UserError(
            f"{folder} is not a model folder of nnU-Net v2: {name} is missing. Give the folder that holds plans.json, "
            "dataset.json and fold_0, e.g. .../nnUNetTrainer__nnUNetPlans__3d_fullres."
        )
    return read_json_object(existing_file(folder / name))


def _chosen_folds(path: Path, folds: Sequence[int | str] | None) -> tuple[str, ...]:
    """The folds asked for, or all that are trained; five trained folds win over "all"."""
    trained = sorted(p.name.removeprefix("fold_") for p in path.glob("fold_*") if _has_checkpoint(p))
    if not trained:
        raise UserError(f"{path} has no trained fold: there is no fold_*/{CHECKPOINTS[0]}.")
    if folds is None:
        return tuple(fold for fold in trained if fold != "all") or ("all",)
    asked = tuple(dict.fromkeys(str(fold) for fold in folds))
    absent = [fold for fold in asked if fold not in trained]
    if absent or not asked:
        raise UserError(f"{path} has no trained fold {', '.join(absent)}; it has {', '.join(trained)}.")
    return asked


def _has_checkpoint(fold: Path) -> bool:
    return any((fold / name).is_file() for name in CHECKPOINTS)


def _checkpoint_in(fold: Path) -> Path:
    return next(fold / name for name in CHECKPOINTS if (fold / name).is_file())


def _common_architecture(checkpoints: Sequence[Checkpoint], plan: NetworkPlan) -> AnyArchitecture:
    """The network that all folds have."""
    architectures = [architecture_of(checkpoint, plan) for checkpoint in checkpoints]
    for checkpoint, architecture in zip(checkpoints, architectures, strict=True):
        if architecture != architectures[0]:
            raise UserError(f"{checkpoint.path} holds another network than {checkpoints[0].path}.")
    return architectures[0]


def _require_names(path: Path, architecture: AnyArchitecture, plan: NetworkPlan) -> None:
    for names, number, what in (
        (plan.labels, architecture.num_classes, "labels"),
        (plan.channels, architecture.input_channels, "channel_names"),
    ):
        if len(names) != number:
            raise UserError(f"{path / 'dataset.json'} names {len(names)} {what}, and its network has {number}.")

"""Make the model that comes with stunet: trained model folders become one half-precision file with a card.

    python bench/bundle_hippocampus.py --models FOLDER... --raw RAW/Dataset004_Hippocampus \
        --splits PREPROCESSED/Dataset004_Hippocampus/splits_final.json

Each `FOLDER` was written by `stunet train -d 4 -f 0`. All have the same settings except for the seed, and their outputs
are averaged. All validation cases of the fold are predicted with exactly the shipped weights, by stunet's own
predictor, and scored (also with mirroring, if it was used in training, and with each network alone). The card contains
the results.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

import stunet
from stunet.cli.output import print_table
from stunet.evaluation.report import EvaluationReport, evaluate
from stunet.imaging.affine import orientation
from stunet.imaging.formats.registry import read_volume
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.import_model import import_model
from stunet.weights.model_file import ModelCard, StateDict, joined, save_model
from stunet.weights.published import CITATION

BUNDLED = Path(stunet.__file__).parent / "weights" / "bundled" / "hippocampus.safetensors"

ORIENTATION = "RAS"

LICENCE = "CC-BY-SA-4.0"

LICENCE_REASON = (
    "The weights are derived from Task04 Hippocampus of the Medical Segmentation Decathlon, whose images and labels "
    "are CC-BY-SA 4.0; what is made of them is shared under the same licence."
)

SOURCE = (
    "trained by the developers of stunet with `stunet train` on Task04 Hippocampus of the Medical Segmentation "
    "Decathlon (http://medicaldecathlon.com/, as redistributed in https://github.com/udacity/nd320-c3-3d-imaging-starter)"
)

CAVEAT = (
    "The Decathlon holds both hippocampi of some subjects as separate cases and does not say which: a subject may be "
    "on both sides of the split."
)

DATA_CITATION = (
    "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022), "
    "doi:10.1038/s41467-022-30695-9; Simpson et al., A large annotated medical image dataset for the development and "
    "evaluation of segmentation algorithms, arXiv:1902.09063 (2019)"
)

EPOCH_SECONDS = re.compile(r"Epoch time: ([\d.]+) s")


@dataclass(frozen=True)
class Task:
    """What to bundle.

    Attributes:
        models: the model folders, one per network.
        raw: the raw dataset in nnU-Net's layout, with imagesTr and labelsTr.
        splits: nnU-Net's splits_final.json, used to train the models.
        fold: the fold that was trained.
        machine: description of the machine for the card, besides what the run recorded.
        remark: further notes on the training for the card.
    """

    models: tuple[Path, ...]
    raw: Path
    splits: Path
    fold: int
    machine: str
    remark: str

    @property
    def fold_folders(self) -> list[Path]:
        """The folders with each network's checkpoint, record and log."""
        return [model / f"fold_{self.fold}" for model in self.models]

    def validation_cases(self) -> list[str]:
        """The cases that the fold was not trained on."""
        return list(json.loads(self.splits.read_text())[self.fold]["val"])

    def image(self, case: str) -> Path:
        """Path of a case's scan."""
        return self.raw / "imagesTr" / f"{case}_0000.nii.gz"

    def reference(self, case: str) -> Path:
        """Path of a case's reference labels."""
        return self.raw / "labelsTr" / f"{case}.nii.gz"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, check, write, measure, and write again with the results."""
    task, output = parse(arguments)
    imported = [import_model(model, folds=[task.fold]) for model in task.models]
    state_dict, card = joined([weights for weights, _ in imported]), imported[0][1]
    require_orientation(task)
    card = described(card, task)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / output.name
        save_model(trial, state_dict, card, dtype="float16")
        modes = (False, True) if card.mirror_axes else (False,)
        reports = {mirror: scored(trial, task, mirror, Path(folder) / str(mirror)) for mirror in modes}
        alone = [
            scored_alone(weights, card, task, Path(folder) / f"network_{number}")
            for number, (weights, _) in enumerate(imported)
        ]
    card = replace(card, metrics=metrics(reports, alone, task))
    save_model(output, state_dict, card, dtype="float16")
    show(output, state_dict, card)


def parse(arguments: Sequence[str] | None) -> tuple[Task, Path]:
    """Parse what to bundle, and the output file."""
    parser = argparse.ArgumentParser(description="Make the model that comes with stunet.")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="what `stunet train -d 4 -f 0` wrote")
    parser.add_argument("--raw", type=Path, required=True, help="raw Dataset004_Hippocampus, with imagesTr, labelsTr")
    parser.add_argument("--splits", type=Path, required=True, help="nnU-Net's splits_final.json of the dataset")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--machine", default="", help="for the card, e.g. '2 cores of an AMD EPYC'")
    parser.add_argument("--remark", default="", help="for the card: further notes on the training")
    parser.add_argument("-o", "--output", type=Path, default=BUNDLED)
    options = parser.parse_args(arguments)
    return Task(
        tuple(options.models), options.raw, options.splits, options.fold, options.machine, options.remark
    ), options.output


def require_orientation(task: Task) -> None:
    """Require that all training images have the orientation that the card states.

    Raises:
        SystemExit: an image has another orientation.
    """
    images = sorted((task.raw / "imagesTr").glob("*.nii.gz"))
    others = [path.name for path in images if orientation(read_volume(path).affine) != ORIENTATION]
    if others or not images:
        raise SystemExit(f"{len(others)} of {len(images)} training images are not {ORIENTATION}: {others[:5]}")


def described(card: ModelCard, task: Task) -> ModelCard:
    """The card without metrics."""
    plan = replace(cast(PreprocessingPlan, card.preprocessing), orientation=ORIENTATION)
    return replace(
        card,
        name="hippocampus",
        members=len(task.models),
        preprocessing=plan,
        training={**card.training, **training_record(task, epochs=card.training["epochs"])},
        licence=LICENCE,
        source=SOURCE,
        citation=f"{DATA_CITATION}; {CITATION}",
    )


def training_record(task: Task, epochs: int) -> dict[str, Any]:
    """How the weights were trained, from the runs' records and nnU-Net's logs.

    Raises:
        SystemExit: the runs differ in more than the seed.
    """
    splits = json.loads(task.splits.read_text())[task.fold]
    runs = [json.loads((folder / "stunet_run.json").read_text()) for folder in task.fold_folders]
    common = common_record(runs, epochs)
    return {
        **common,
        "fold": task.fold,
        "training_cases": len(splits["train"]),
        "finished": [run["finished"] for run in runs],
        "seeds": [run["settings"]["seed"] for run in runs],
        "seconds": [round(trained_seconds(folder), 1) for folder in task.fold_folders],
        "machine": {**runs[0]["machine"], "device": runs[0]["settings"]["device"], "description": task.machine},
        "versions": runs[0]["versions"],
        "stored_precision": "float16",
        "remark": task.remark,
        "licence_reason": LICENCE_REASON,
    }


def common_record(runs: Sequence[Mapping[str, Any]], epochs: int) -> dict[str, Any]:
    """The settings that all runs share."""
    records = [
        {
            "size": run["settings"]["size"],
            "epochs_planned": run["settings"]["recipe"]["epochs"],
            "iterations": epochs * run["settings"]["recipe"]["iterations_per_epoch"],
            "batch_size": run["batch_size"],
            "patch_size": run["patch_size"],
            "initial_learning_rate": run["initial_learning_rate"],
            "weight_decay": run["weight_decay"],
            "precision": run["precision"],
            "paper_transforms": run["settings"]["recipe"]["paper_transforms"],
            "mirror": run["settings"]["recipe"]["mirror"],
        }
        for run in runs
    ]
    if any(record != records[0] for record in records):
        raise SystemExit(f"These runs differ in more than the seed: {records}")
    return records[0]


def trained_seconds(fold_folder: Path) -> float:
    """The total time of all epochs in nnU-Net's logs."""
    logs = sorted(fold_folder.glob("training_log_*.txt"))
    return sum(float(epoch) for log in logs for epoch in EPOCH_SECONDS.findall(log.read_text()))


def scored(model: Path, task: Task, mirror: bool, folder: Path) -> EvaluationReport:
    """DSC of a model file's predictions on the fold's validation cases."""
    references = folder / "references"
    predictions = folder / "predictions"
    for made in (references, predictions):
        made.mkdir(parents=True)
    predictor = Predictor(model, InferenceConfig(step=0.5, mirror=mirror, backend="torch", precision="float32"))
    for case in task.validation_cases():
        predictor.predict(task.image(case)).save(predictions / f"{case}.nii.gz")
        (references / f"{case}.nii.gz").symlink_to(task.reference(case).resolve())
    names = {label: name for label, name in predictor.model.names.items() if label}
    return evaluate(predictions, references, names)


def scored_alone(weights: StateDict, card: ModelCard, task: Task, folder: Path) -> EvaluationReport:
    """Like `scored`, for a single network."""
    folder.mkdir()
    alone = folder / "alone.safetensors"
    save_model(alone, weights, replace(card, members=1), dtype="float16")
    return scored(alone, task, False, folder)


def metrics(reports: dict[bool, EvaluationReport], alone: Sequence[EvaluationReport], task: Task) -> dict[str, Any]:
    """The metrics for the card."""
    cases = task.validation_cases()
    measured = {
        "metric": "DSC, mean over cases of each label, and their mean",
        "cases": f"all {len(cases)} validation cases of nnU-Net's fold {task.fold}; the model was not trained on them",
        "caveat": CAVEAT,
        "case_names": cases,
        "weights": "the float16 weights of this file, computed in float32; step 0.5",
        **{"mirrored" if mirror else "plain": figures(report) for mirror, report in reports.items()},
    }
    if len(alone) > 1:
        measured |= {f"network {number} alone": figures(report) for number, report in enumerate(alone)}
    return measured


def figures(report: EvaluationReport) -> dict[str, float]:
    """Mean DSC of each label and overall, and the worst case's."""
    labels = {report.names[label]: round(dsc, 5) for label, dsc in report.per_label.items()}
    return {**labels, "mean": round(report.mean, 5), "worst_case": round(min(case.mean for case in report.cases), 5)}


def show(output: Path, state_dict: StateDict, card: ModelCard) -> None:
    """Print the metrics and a summary of the file."""
    sets = {key: value for key, value in card.metrics.items() if isinstance(value, dict)}
    columns = [*card.labels[1:], "mean", "worst_case"]
    rows = [(key, *(f"{value[c]:.4f}" if c in value else "" for c in columns)) for key, value in sets.items()]
    print_table(f"DSC, {len(card.metrics['case_names'])} validation cases", ("prediction", *columns), rows)
    training = card.training
    print(
        f"{output}: {output.stat().st_size:,} bytes, {sum(t.numel() for t in state_dict.values()):,} parameters, "
        f"{card.members} networks, {training['epochs']} of {training['epochs_planned']} epochs, "
        f"{training['iterations']:,} iterations, {sum(training['seconds']):,.0f} s"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""Direct inference: run a model on a dataset it was not trained on, and score the shared classes (section 4.2.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from stunet.errors import FileError, UserError, listed
from stunet.evaluation.dice import none_if_nan
from stunet.experiments.experiment import Expected, Workplace, measured
from stunet.experiments.results import Measurement
from stunet.files import made_folder, read_json_object, write_json
from stunet.labels.mapping import DatasetMapping, load_mapping
from stunet.labels.ontology import LABELS

if TYPE_CHECKING:
    from stunet.batch.find_scans import Case
    from stunet.evaluation.mapped import MappedReport
    from stunet.inference.predictor import Predictor

LAYOUTS = (("images", "labels"), ("imagesTs", "labelsTs"), ("imagesTr", "labelsTr"))
"""Folders of scans and of label maps. The first existing pair is used, so labelled test cases come first."""

MODEL_RECORD = "model.json"
"""Written next to predictions; names the model that made them."""

OWN_MODEL = "model"
"""The name in `--data` for the user's own model, a file or folder."""

WINDOWS_PER_CASE = 64
"""Four windows of 128 voxels at 1.5 mm along each axis, overlapping by half: a scan of 480 mm. A rough guess."""

SECONDS_PER_CASE = 10.0
"""Time to read, resample, write and score a scan. A rough guess."""


@dataclass(frozen=True)
class AnnotatedCases:
    """The scans of a dataset that have a label map.

    Attributes:
        cases: sorted by name.
        labels: the folder with their label maps, under the same file names.
    """

    cases: tuple["Case", ...]
    labels: Path


def find_annotated_cases(dataset: Path, channels: int) -> AnnotatedCases:
    """Find the cases of a folder in nnU-Net's raw layout, or with `images` and `labels`.

    Scans without a label map are skipped.

    Args:
        dataset: the folder.
        channels: number of channels that the model takes.

    Raises:
        UserError: the folder has neither layout, no label map, or label maps without a scan.
    """
    from stunet.imaging.formats.registry import is_image_file, without_suffix

    for image_folder, label_folder in LAYOUTS:
        images, labels = dataset / image_folder, dataset / label_folder
        annotated = {without_suffix(path) for path in labels.glob("*") if is_image_file(path)}
        if images.is_dir() and annotated:
            return AnnotatedCases(_scans_of(annotated, images, labels, channels), labels)
    pairs = ", ".join(f"{images} and {labels}" for images, labels in LAYOUTS)
    raise FileError(f"{dataset} has no scans with label maps (.nii.gz or .nii): it should have folders {pairs}.")


def _scans_of(annotated: set[str], images: Path, labels: Path, channels: int) -> tuple["Case", ...]:
    from stunet.batch.find_scans import find_cases

    cases = tuple(case for case in find_cases(images, channels) if case.name in annotated)
    missing = sorted(annotated - {case.name for case in cases})
    if missing:
        raise FileError(f"{labels} has label maps without a scan in {images}: {listed(missing)}.")
    return cases


def direct_inference(
    dataset: Path, mapping: DatasetMapping, predictor: "Predictor", folder: Path, resume: bool = False
) -> "MappedReport":
    """Predict all annotated cases of a dataset, map predictions and references to common targets, and score.

    Args:
        dataset: its folder, see `find_annotated_cases`.
        mapping: its labels.
        predictor: the model.
        folder: for the predictions, in the model's own labels.
        resume: skip cases that already have predictions.

    Raises:
        UserError: there are no cases, cases cannot be segmented, the model has none of the targets' classes, the
            mapping lacks a label, or the folder has predictions but `resume` is not set.
    """
    from stunet.evaluation.mapped import evaluate_mapped

    names = predictor.model.card.labels
    if not mapping.evaluable(names):
        raise UserError(f"The model {predictor.model.source} has no class that {mapping.title} annotates.")
    annotated = find_annotated_cases(dataset, len(predictor.model.card.channels))
    _claim(folder, predictor, resume)
    _predict(predictor, annotated.cases, folder, resume)
    return evaluate_mapped(folder, annotated.labels, mapping, names)


def _claim(folder: Path, predictor: "Predictor", resume: bool) -> None:
    """Record which model's predictions a folder contains.

    Raises:
        UserError: it already contains predictions, and `resume` is not set or they are another model's.
    """
    from stunet.batch.prediction_record import run_record

    record, path = run_record(predictor)["model"], folder / MODEL_RECORD
    if path.is_file():
        if not resume:
            raise UserError(f"{folder} already contains predictions: continue with --resume, or choose another folder.")
        if read_json_object(path) != record:
            raise UserError(
                f"{folder} contains predictions of another model than {record['source']}; choose another one."
            )
    made_folder(folder)
    write_json(path, record)


def _predict(predictor: "Predictor", cases: Sequence["Case"], folder: Path, resume: bool) -> None:
    """Raise UserError, after trying all cases, if some could not be segmented."""
    from stunet.batch.outputs import Outputs
    from stunet.batch.predict_cases import predict_cases

    destinations = {case: Outputs().main_path(folder, case.name) for case in cases}
    results = predict_cases(lambda: predictor, destinations, resume=resume)
    errors = [f"{result.case.name}: {result.error}" for result in results if result.error is not None]
    if errors:
        raise UserError(
            f"{len(errors)} of {len(cases)} scans could not be segmented; the others are in {folder}, and --resume "
            "keeps them. " + " ".join(errors[:3])
        )


def measurements_of(mapped: "MappedReport", system: str, expected: Expected | None = None) -> list[Measurement]:
    """DSC of each evaluable target, with its cases, and the dataset's mean under each counting rule.

    Args:
        mapped: scores.
        system: name in the paper.
        expected: the mean in the paper. The paper does not say how it was counted, so it is set for each counting rule.
    """
    of_targets = [
        measured(
            system,
            "DSC",
            none_if_nan(value),
            target=name,
            setting={"dataset": mapped.mapping.title},
            cases={case: none_if_nan(dsc) for case, dsc in mapped.cases_of(name).items()},
        )
        for name, value in mapped.scores.items()
    ]
    means = [
        measured(system, "DSC", none_if_nan(mean), expected, mapped.mapping.title, {"counting": counting})
        for counting, mean in mapped.means.items()
    ]
    return of_targets + means


@cache
def _seconds_per_case(size: str) -> float:
    from stunet.experiments.gpu_hours import TFLOPS
    from stunet.networks.cost import cost_of

    operations = 2 * cost_of(size, 1, len(LABELS)).inference_macs
    return WINDOWS_PER_CASE * operations / (TFLOPS * 1e12) + SECONDS_PER_CASE


@dataclass(frozen=True)
class DirectInferenceRun:
    """One model on one dataset.

    Attributes:
        system: name in the paper.
        dataset: name of its mapping.
        model: a name in the catalogue, which is also the size of the network; None for another model.
        printed: the mean DSC in percent in the paper; None if there is none.
        after: key of the run in this experiment that trains the model; None for a model from the catalogue or the
            user's.
        data: the dataset's name in `--data`; by default that of its mapping.
    """

    system: str
    dataset: str
    model: str | None = None
    printed: str | None = None
    after: str | None = None
    data: str | None = None

    @property
    def key(self) -> str:
        """Name of the run: "base-btcv"."""
        return f"{self.model or self.after or 'own'}-{self.dataset}"

    @property
    def datasets(self) -> tuple[str, ...]:
        """Dataset names for `--data`."""
        is_own = self.model is None and self.after is None
        return (self._data, OWN_MODEL) if is_own else (self._data,)

    def gpu_hours(self) -> float:
        """Estimated hours of the prediction; 0 for a model of unknown size."""
        if self.model is None:
            return 0.0
        return load_mapping(self.dataset).cases * _seconds_per_case(self.model) / 3600

    def expected(self) -> Sequence[Measurement]:
        """The mean in the paper, for each counting rule."""
        from stunet.evaluation.countings import countings_of

        mapping = load_mapping(self.dataset)
        return [
            measured(self.system, "DSC", None, self._printed, mapping.title, {"counting": counting})
            for counting in countings_of(mapping)
        ]

    def measure(self, workplace: Workplace) -> Sequence[Measurement]:
        """Predict, map labels, and score.

        Raises:
            UserError: as `direct_inference`, or the model cannot be loaded.
        """
        from stunet.inference.predictor import InferenceConfig, Predictor

        on_cpu = InferenceConfig(device="cpu", precision="float32")
        config = InferenceConfig(device="cuda") if workplace.gpus else on_cpu
        predictor = Predictor(self._model(workplace), config)
        folder = workplace.folder / "predictions" / self.key
        dataset, mapping = workplace.data[self._data], load_mapping(self.dataset)
        mapped = direct_inference(dataset, mapping, predictor, folder, workplace.resume)
        return measurements_of(mapped, self.system, self._printed)

    def _model(self, workplace: Workplace) -> str | Path:
        from stunet.experiments.training_run import trained_model

        if self.after is not None:
            return trained_model(workplace.folder, self.after)
        return self.model or workplace.data[OWN_MODEL]

    @property
    def _data(self) -> str:
        return self.data or self.dataset

    @property
    def _printed(self) -> Expected | None:
        return None if self.printed is None else Expected(self.printed, "Table 4", percent=True)

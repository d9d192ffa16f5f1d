"""Whether a dataset in nnU-Net's raw layout is whole: each problem is one sentence that names the case."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stunet.datasets import WORKERS
from stunet.datasets.raw import SPLITS, label_values, read_dataset_description, read_splits, training_files
from stunet.errors import UserError, listed
from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.imaging.volume import Volume, check_same_grid


@dataclass(frozen=True)
class Expectation:
    """What every case of a dataset must have.

    Attributes:
        channels: "0000", "0001", ...
        labels: integer -> name.
    """

    channels: tuple[str, ...]
    labels: Mapping[int, str]


@dataclass(frozen=True)
class CheckReport:
    """The problems of a dataset.

    Attributes:
        dataset: name of its folder.
        cases: how many training cases there are.
        problems: sentences; none if all is well.
        label_cases: name of a label -> number of cases that hold it.
    """

    dataset: str
    cases: int
    problems: tuple[str, ...]
    label_cases: Mapping[str, int]


def check_dataset(
    folder: Path,
    on_case: Callable[[int, int], None] = lambda done, total: None,
    workers: int = WORKERS,
) -> CheckReport:
    """Read every training case and say what is wrong: files, channels, grids, labels, numbers, splits.

    Args:
        folder: the dataset's.
        on_case: called with the number of cases done and of all.
        workers: cases at a time.

    Raises:
        UserError: no `dataset.json`, or one without what nnU-Net needs; then nothing else can be checked.
    """
    description = read_dataset_description(folder)
    channels = tuple(f"{channel:04d}" for channel in range(len(description["channel_names"])))
    expectation = Expectation(channels, label_values(description))
    files = training_files(folder, description["file_ending"])
    problems = [*_dataset_problems(folder, description["numTraining"], expectation, files)]
    counts = dict.fromkeys(expectation.labels, 0)
    with ThreadPoolExecutor(max(1, workers), "stunet-check") as pool:
        made = pool.map(partial(_check_case, expectation=expectation), files, files.values())
        for done, (case_problems, present) in enumerate(made, start=1):
            problems += case_problems
            for label in present:
                counts[label] += 1
            on_case(done, len(files))
    named = {name: counts[label] for label, name in expectation.labels.items() if label > 0}
    return CheckReport(folder.name, len(files), tuple(problems), named)


def _dataset_problems(
    folder: Path, stated: int, expectation: Expectation, files: Mapping[str, Mapping[str, Path]]
) -> Iterator[str]:
    """What is wrong with the dataset as a whole."""
    if not files:
        yield f"{folder / 'imagesTr'}: there is no image."
    if stated != len(files):
        yield f"dataset.json: numTraining is {stated}, but there are {len(files)} training cases."
    integers = sorted(expectation.labels)
    if integers != list(range(len(integers))):
        yield f"dataset.json: the labels should count from 0 without a gap, not {integers}."
    if expectation.labels.get(0) != "background":
        yield "dataset.json: label 0 should be called background."
    for number, fold in enumerate(read_splits(folder / SPLITS)):
        unknown = sorted({*fold["train"], *fold["val"]} - set(files))
        if unknown:
            yield f"{SPLITS}: fold {number} names {listed(unknown)}, of which there is no case."
        both = sorted(set(fold["train"]) & set(fold["val"]))
        if both:
            yield f"{SPLITS}: fold {number} both trains and validates on {listed(both)}."


def _check_case(case: str, files: Mapping[str, Path], expectation: Expectation) -> tuple[list[str], list[int]]:
    """The problems of a case, and the labels that it holds where it can be read."""
    problems = list(_file_problems(case, files, expectation))
    if problems:
        return problems, []
    volumes, problems = _read_all(case, files)
    if problems:
        return problems, []
    labels = volumes["label"]
    found = _content_problems([volumes[channel] for channel in expectation.channels], labels, expectation)
    present = [int(label) for label in np.unique(labels.array) if int(label) in expectation.labels]
    return [f"{case}: {sentence}" for sentence in found], present


def _file_problems(case: str, files: Mapping[str, Path], expectation: Expectation) -> Iterator[str]:
    for name in expectation.channels:
        if name not in files:
            yield f"{case}: channel {name} is missing."
    if "label" not in files:
        yield f"{case}: there is no label map."
    for name in sorted(files.keys() - {*expectation.channels, "label"}):
        if name:
            yield f"{case}: {files[name].name} is a channel that dataset.json does not name."
        else:
            yield f"{case}: {files[name].name} has no channel number; call it {case}_0000."


def _read_all(case: str, files: Mapping[str, Path]) -> tuple[dict[str, Volume], list[str]]:
    """Channels and label map by name, and a sentence for each that cannot be read."""
    volumes, problems = {}, []
    for name, path in files.items():
        try:
            volumes[name] = read_labels(path) if name == "label" else read_volume(path)
        except UserError as error:
            problems.append(f"{case}: {error}")
    return volumes, problems


def _content_problems(channels: list[Volume], labels: Volume, expectation: Expectation) -> Iterator[str]:
    """What is wrong with files that can be read."""
    first, *others = channels
    if min(first.shape) == 1:
        yield f"{first.source}: is 2D, it has one slice; stunet's networks are 3D."
    for other in (*others, labels):
        try:
            check_same_grid(first, other)
        except UserError as error:
            yield str(error)
    for channel in channels:
        if channel.array.dtype.kind == "f" and not np.isfinite(channel.array).all():
            yield f"{channel.source}: holds voxels that are no finite numbers."
    unknown = [str(label) for label in np.unique(labels.array) if int(label) not in expectation.labels]
    if unknown:
        yield f"{labels.source}: holds the label {listed(unknown)}, which dataset.json does not name."

"""Check that a dataset in nnU-Net's raw layout can be used for training. Each problem is a sentence with the case."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stunet.datasets import WORKERS
from stunet.datasets.raw import SPLITS, read_splits
from stunet.errors import UserError, listed
from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.imaging.volume import Volume, check_same_grid
from stunet.plans.labels import IGNORE, LabelTable
from stunet.plans.raw_dataset import DESCRIPTION, LABEL, Files, RawDataset, read_raw_dataset


@dataclass(frozen=True)
class CheckReport:
    """The problems of a dataset.

    Attributes:
        dataset: name of its folder.
        cases: number of training cases.
        problems: sentences; empty if there are none.
        label_cases: name of a label or region -> number of cases that contain it.
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
    """Read every training case and report problems with files, channels, grids, labels, numbers and splits.

    Args:
        folder: of the dataset.
        on_case: called with the number of cases done and the total.
        workers: number of cases read in parallel.

    Raises:
        UserError: there is no `dataset.json`, or it lacks what nnU-Net needs; nothing else can be checked then.
    """
    dataset = read_raw_dataset(folder)
    files = dataset.training_files()
    problems = [*_dataset_problems(dataset, files)]
    label_cases = dict.fromkeys(_structures(dataset.labels), 0)
    with ThreadPoolExecutor(max(1, workers), "stunet-check") as pool:
        made = pool.map(partial(_check_case, dataset=dataset), files, files.values())
        for done, (case_problems, present) in enumerate(made, start=1):
            problems += case_problems
            for name, integers in _structures(dataset.labels).items():
                label_cases[name] += not present.isdisjoint(integers)
            on_case(done, len(files))
    return CheckReport(folder.name, len(files), tuple(problems), label_cases)


def _structures(labels: LabelTable) -> dict[str, tuple[int, ...]]:
    """The integers of each structure, and of the ignored voxels."""
    structures = {name: labels.integers_of(label) for label, name in labels.names.items()}
    return structures if labels.ignored is None else {**structures, IGNORE: (labels.ignored,)}


def _dataset_problems(dataset: RawDataset, files: Mapping[str, Files]) -> Iterator[str]:
    """Problems of the dataset as a whole."""
    if not files:
        yield f"{dataset.folder / 'imagesTr'}: there is no image that ends in {dataset.file_ending}."
    if dataset.stated_cases != len(files):
        yield f"{DESCRIPTION}: numTraining is {dataset.stated_cases}, but there are {len(files)} training cases."
    yield from (f"{DESCRIPTION}: {sentence}" for sentence in dataset.problems)
    try:
        dataset.require_no_hidden_images()
    except UserError as error:
        yield str(error)
    yield from _split_problems(dataset.folder, files)


def _split_problems(folder: Path, files: Mapping[str, Files]) -> Iterator[str]:
    for number, fold in enumerate(read_splits(folder / SPLITS)):
        unknown = sorted({*fold["train"], *fold["val"]} - set(files))
        if unknown:
            yield f"{SPLITS}: fold {number} names missing cases: {listed(unknown)}."
        both = sorted(set(fold["train"]) & set(fold["val"]))
        if both:
            yield f"{SPLITS}: fold {number} both trains and validates on {listed(both)}."


def _check_case(case: str, files: Files, dataset: RawDataset) -> tuple[list[str], set[int]]:
    """The problems of a case, and the integers in its label map if it can be read."""
    problems = list(_file_problems(case, files, dataset.channel_numbers))
    if problems:
        return problems, set()
    volumes, problems = _read_all(case, files)
    if problems:
        return problems, set()
    labels = volumes[LABEL]
    present = set(np.unique(labels.array).tolist())
    unknown = sorted(present - set(dataset.labels.integers))
    problems = list(_content_problems([volumes[channel] for channel in dataset.channel_numbers], labels))
    if unknown:
        problems.append(f"{labels.source}: contains the label {listed(unknown)}, which {DESCRIPTION} does not name.")
    return [f"{case}: {sentence}" for sentence in problems], present


def _file_problems(case: str, files: Files, channels: Sequence[str]) -> Iterator[str]:
    for name in channels:
        if name not in files:
            yield f"{case}: channel {name} is missing."
    if LABEL not in files:
        yield f"{case}: there is no label map."
    for name in sorted(files.keys() - {*channels, LABEL}):
        if name:
            yield f"{case}: {files[name].name} is a channel that dataset.json does not name."
        else:
            yield f"{case}: {files[name].name} has no channel number; call it {case}_0000."


def _read_all(case: str, files: Files) -> tuple[dict[str, Volume], list[str]]:
    """Channels and label map by name, and a sentence for each file that cannot be read."""
    volumes, problems = {}, []
    for name, path in files.items():
        try:
            volumes[name] = read_labels(path) if name == LABEL else read_volume(path)
        except UserError as error:
            problems.append(f"{case}: {error}")
    return volumes, problems


def _content_problems(channels: list[Volume], labels: Volume) -> Iterator[str]:
    """Problems of files that can be read."""
    first, *others = channels
    if min(first.shape) == 1:
        yield f"{first.source}: is 2D (one slice), but stunet's networks are 3D."
    for other in (*others, labels):
        try:
            check_same_grid(first, other)
        except UserError as error:
            yield str(error)
    for channel in channels:
        if channel.array.dtype.kind == "f" and not np.isfinite(channel.array).all():
            yield f"{channel.source}: has voxels that are not finite."

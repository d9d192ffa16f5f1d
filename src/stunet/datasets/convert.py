"""Convert a published dataset to nnU-Net's raw layout, case by case.

Each case is read whole, checked, and written: images first, then labels, then a line in a log. `dataset.json` is
written last, so an interrupted conversion is not yet a dataset. When restarted, the conversion skips cases in the log.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from stunet.datasets import WORKERS, amos22, autopet22, flare22, msd, totalsegmentator
from stunet.datasets.case import convert_case
from stunet.datasets.raw import SPLITS, Fold, case_files, dataset_description
from stunet.datasets.record import CASES_NAME, CaseRecord, append_case, finish_record, read_cases, start_record
from stunet.datasets.source import Choice, SourceCase, SourceDataset, SplitPart
from stunet.errors import UserError
from stunet.files import made_folder, require_writable, write_json
from stunet.plans.raw_dataset import DESCRIPTION

SOURCES: dict[str, Callable[[Path, Choice], SourceDataset]] = {
    "totalsegmentator": totalsegmentator.find,
    "msd": msd.find,
    "amos22": amos22.find,
    "flare22": flare22.find,
    "autopet22": autopet22.find,
}
"""Name on the command line -> function that lists the cases of the published folder. A new dataset adds one line
here."""

FOLDS = 5
"""Number of folds for cases with groups, as in nnU-Net."""


@dataclass(frozen=True)
class ConversionSettings:
    """Options of a conversion.

    Attributes:
        number: of the new dataset, 1 to 999.
        root: nnU-Net's raw folder.
        partial: report differences from the publication instead of refusing them.
        only_labelled: skip cases whose label map is empty.
        link: link images that need no change to the source instead of copying them.
        workers: number of cases converted in parallel.
    """

    number: int
    root: Path
    partial: bool = False
    only_labelled: bool = False
    link: bool = False
    workers: int = WORKERS


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        folder: of the new dataset.
        cases: one record per case, sorted by name.
        differences: sentences about differences from the publication.
    """

    folder: Path
    cases: tuple[CaseRecord, ...]
    differences: tuple[str, ...]

    @property
    def written(self) -> tuple[CaseRecord, ...]:
        """The cases that are in the new dataset."""
        return tuple(case for case in self.cases if case.outcome == "written")

    @property
    def failed(self) -> tuple[CaseRecord, ...]:
        """The cases whose files could not be used, except for known damage."""
        return tuple(case for case in self.cases if case.outcome == "failed")

    @property
    def left_out(self) -> tuple[CaseRecord, ...]:
        """The cases that are damaged in the publication, or whose label map is empty."""
        return tuple(case for case in self.cases if case.outcome in ("damaged", "empty"))

    @property
    def overlaps(self) -> Counter[str]:
        """ "a under b" -> voxels that structure a lost to structure b, over all cases."""
        overlaps: Counter[str] = Counter()
        for case in self.cases:
            overlaps.update(case.overlaps)
        return overlaps

    def to_dict(self) -> dict[str, Any]:
        """For JSON: numbers of cases, overlaps over all cases, and every case with a problem."""
        parts = Counter(case.part for case in self.written)
        return {
            "dataset": self.folder.name,
            "folder": str(self.folder),
            "cases": {part: parts[part] for part in get_args(SplitPart)},
            "differences": list(self.differences),
            "failed": {case.name: case.error for case in self.failed},
            "left_out": {case.name: case.error for case in self.left_out},
            "masks_missing": {case.name: list(case.missing) for case in self.written if case.missing},
            "resampled_from_mm": {case.name: list(case.spacing) for case in self.written if case.spacing},
            "overlapping_voxels": self.overlaps.total(),
            "overlaps": dict(self.overlaps.most_common()),
        }


def convert(
    source: SourceDataset, settings: ConversionSettings, on_case: Callable[[int, int], None] = lambda done, total: None
) -> Conversion:
    """Write a dataset in nnU-Net's raw layout, or the rest of it if interrupted.

    A case that cannot be read is reported; the others are converted.

    Args:
        source: the cases.
        settings: options.
        on_case: called with the number of cases done and the total.

    Raises:
        UserError: numbers or names differ from the publication (unless `partial`), the number belongs to another
            dataset, or the folder contains another conversion.
    """
    folder = _checked_folder(source, settings)
    about = {name: getattr(settings, name) for name in ("partial", "only_labelled", "link")}
    start_record(folder, {"source": str(source.folder.resolve()), "dataset": source.published.name, **about})
    for leftover in folder.glob("*/.*.partial"):  # files that a killed conversion left unfinished
        leftover.unlink(missing_ok=True)
    known = _whole_cases(folder, source)
    to_do = [case for case in source.cases if case.name not in known]
    records = {**known}
    on_case(len(records), len(source.cases))
    for record in _converted(source, settings, folder, to_do):
        append_case(folder / CASES_NAME, record)
        records[record.name] = record
        on_case(len(records), len(source.cases))
    conversion = Conversion(folder, tuple(records[case.name] for case in source.cases), source.differences)
    if settings.only_labelled:
        conversion = _checked_labelled(conversion, source)
    _finish(conversion, source)
    return conversion


def _checked_folder(source: SourceDataset, settings: ConversionSettings) -> Path:
    if not 1 <= settings.number <= 999:
        raise UserError(f"A dataset has a number from 1 to 999, not {settings.number}.")
    if not source.cases:
        raise UserError(f"{source.folder} has no case of {source.published.name}.")
    if source.differences and not settings.partial:
        raise UserError(f"{' '.join(source.differences)} To convert it anyway, or a part of it, add --partial.")
    folder = settings.root / f"Dataset{settings.number:03d}_{source.published.name}"
    others = [path.name for path in settings.root.glob(f"Dataset{settings.number:03d}_*") if path.name != folder.name]
    if others:
        raise UserError(f"{settings.root} already has dataset {settings.number}: {others[0]}. Choose another number.")
    require_writable(folder)
    return made_folder(folder)


def _whole_cases(folder: Path, source: SourceDataset) -> dict[str, CaseRecord]:
    """Logged cases whose files exist or whose label map was empty. Failed and damaged cases are tried again."""
    logged = read_cases(folder / CASES_NAME)
    whole = {}
    for case in source.cases:
        record = logged.get(case.name)
        files = case_files(folder, case.name, len(source.published.channels), case.part == "test")
        paths = [*files.images, *([files.label] if case.label else [])]
        if record and (record.outcome == "empty" or (record.outcome == "written" and all(p.exists() for p in paths))):
            whole[case.name] = record
    return whole


def _converted(
    source: SourceDataset, settings: ConversionSettings, folder: Path, cases: Sequence[SourceCase]
) -> Iterator[CaseRecord]:
    """Convert several cases in parallel. On an early end, cases in progress are finished and no others are started."""
    pool = ThreadPoolExecutor(max(1, settings.workers), "stunet-convert")
    try:
        running = [
            pool.submit(convert_case, source, case, folder, settings.link, settings.only_labelled) for case in cases
        ]
        for done in as_completed(running):
            yield done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _checked_labelled(conversion: Conversion, source: SourceDataset) -> Conversion:
    """Compare the number of labelled cases with the published one. A difference is only reported: the cases exist."""
    published, found = source.published.labelled, len(conversion.written)
    if published is None or found == published:
        return conversion
    sentence = f"{source.published.name}: {found} cases have labels, {published} were published."
    return replace(conversion, differences=(*conversion.differences, sentence))


def _finish(conversion: Conversion, source: SourceDataset) -> None:
    """Write splits and record, and `dataset.json` last.

    Raises:
        UserError: no case could be converted.
    """
    published = source.published
    training = [case.name for case in conversion.written if case.part != "test"]
    if not training:
        reasons = "; ".join(sorted({case.error for case in conversion.failed if case.error})[:3])
        raise UserError(f"No training case of {source.folder} could be converted: {reasons}")
    folds = make_splits([case for case in source.cases if case.name in set(training)])
    if folds:
        write_json(conversion.folder / SPLITS, folds)
    finish_record(conversion.folder, conversion.to_dict())
    description = dataset_description(
        published.channels,
        published.labels,
        len(training),
        name=published.name,
        description=published.description,
        reference=published.reference,
        licence=published.licence,
        overwrite_image_reader_writer=published.reader,
    )
    write_json(conversion.folder / DESCRIPTION, description)


def make_splits(cases: Sequence[SourceCase]) -> list[Fold]:
    """The folds of a dataset: its own split, or five that keep each patient's cases together, or none.

    Without folds, nnU-Net creates five at random.
    """
    official = [case for case in cases if case.part == "val"]
    if official:
        return [_fold(cases, official)]
    groups = sorted({case.group for case in cases if case.group is not None})
    if len(groups) < FOLDS:
        return []
    return [_fold(cases, [case for case in cases if case.group in groups[n::FOLDS]]) for n in range(FOLDS)]


def _fold(cases: Sequence[SourceCase], val: Sequence[SourceCase]) -> Fold:
    kept_apart = {case.name for case in val}
    return {"train": sorted({case.name for case in cases} - kept_apart), "val": sorted(kept_apart)}

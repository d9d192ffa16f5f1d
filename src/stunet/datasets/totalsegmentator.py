"""TotalSegmentator, version 1: CT of 1204 subjects with 104 structures (Wasserthal et al. 2023).

- Layout (README of the repository wasserth/TotalSegmentator, archive of doi:10.5281/zenodo.6802614): one folder per
  subject, with `s0000/ct.nii.gz` and `s0000/segmentations/<structure>.nii.gz` (104 binary masks), and `meta.csv`,
  separated by semicolons, with the columns `image_id` and `split` (train, val, test).
- Numbers: 1082, 57 and 65 cases (arXiv:2208.05868). The STU-Net paper (section 4) has 1081, 57 and 65: the
  `ct.nii.gz` of s0864, a training case, is damaged in the archive (wasserth/TotalSegmentator issue 92).
- Numbering: STU-Net's, alphabetical (`stunet.labels.ontology.LABELS`).
- The dataset requests nnU-Net's reorienting reader, as TotalSegmentator's conversion does.
- Grid: the images were published at 1.5 mm. Cases with another spacing are resampled to it (the paper's section 4).
- Licence: CC BY 4.0 (the Zenodo record).

**Overlaps.** Masks are merged in the order of the numbering, so the later label wins where two overlap, as in
TotalSegmentator's own conversion (resources/convert_dataset_to_nnunet.py, in its own order). The number of voxels that
each structure loses to another is recorded for each case.
"""

import csv
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from stunet.datasets.source import (
    Choice,
    LabelMap,
    Published,
    SourceCase,
    SourceDataset,
    SplitPart,
    find_folder,
    number_differences,
    refuse_modality,
)
from stunet.errors import UserError, listed
from stunet.imaging.formats.registry import read_labels
from stunet.imaging.volume import Volume, check_same_grid
from stunet.labels.ontology import LABELS

PUBLISHED = Published(
    name="TotalSegmentator",
    description="CT of 1204 subjects with 104 structures, numbered alphabetically as in STU-Net",
    reference="https://doi.org/10.5281/zenodo.6802614",
    licence="CC BY 4.0",
    channels=("CT",),
    labels=LABELS,
    cases={"train": (1082, 1081), "val": (57,), "test": (65,)},
    reader="NibabelIOWithReorient",
)

SPACING_MM = (1.5, 1.5, 1.5)

KNOWN_DAMAGE = {"s0864": "the published archive contains a damaged ct.nii.gz (wasserth/TotalSegmentator issue 92)"}

_PARTS: dict[str, SplitPart] = {"train": "train", "val": "val", "test": "test"}


def find(source: Path, choice: Choice) -> SourceDataset:
    """The subjects listed in `meta.csv`.

    Raises:
        UserError: there is no `meta.csv`, or it lacks the published columns.
    """
    refuse_modality(choice, PUBLISHED.name)
    folder = find_folder(source, "meta.csv", ("Totalsegmentator_dataset",))
    parts = _read_split(folder / "meta.csv")
    there = {name: part for name, part in parts.items() if (folder / name).is_dir()}
    cases = tuple(
        SourceCase(name, (folder / name / "ct.nii.gz",), folder / name / "segmentations", part)
        for name, part in sorted(there.items())
    )
    unlisted = sorted(path.name for path in folder.glob("s[0-9]*") if path.is_dir() and path.name not in parts)
    differences = [*number_differences(cases, PUBLISHED)]
    if unlisted:
        differences.append(f"{PUBLISHED.name}: meta.csv does not list {listed(unlisted)}; left out.")
    return SourceDataset(
        folder=folder,
        published=PUBLISHED,
        cases=cases,
        differences=tuple(differences),
        known_damage=KNOWN_DAMAGE,
        spacing=SPACING_MM,
        read_labels=partial(merge_masks, allow_missing=choice.partial),
    )


def _read_split(path: Path) -> dict[str, SplitPart]:
    """Subject -> part of the split."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    try:
        return {row["image_id"]: _PARTS[row["split"]] for row in rows}
    except KeyError as error:
        raise UserError(
            f"{path}: {error} is not among its columns, or not among the parts of a split. Expected are columns "
            "image_id and split, separated by semicolons, with train, val and test."
        ) from error


def merge_masks(case: SourceCase, image: Volume, allow_missing: bool = False) -> LabelMap:
    """Merge the binary masks of a subject into one label map. The later label wins where masks overlap.

    Args:
        case: its `label` is the folder of masks.
        image: the grid that all masks must have.
        allow_missing: treat a missing mask as an absent structure.

    Raises:
        UserError: a mask is missing, unreadable or on another grid.
    """
    folder = case.label or Path()
    paths = {name: folder / f"{name}.nii.gz" for name in LABELS[1:]}
    missing = tuple(name for name, path in paths.items() if not path.is_file())
    if len(missing) == len(paths) or (missing and not allow_missing):
        raise UserError(
            f"{folder}: {len(missing)} of {len(paths)} masks are missing ({listed(missing, 8)}). Version 1 of the "
            "dataset has all; --partial treats missing ones as absent."
        )
    merged_ZYX = np.zeros(image.shape, dtype=np.uint8)
    overlaps: Counter[str] = Counter()
    for label, (name, path) in enumerate(paths.items(), start=1):
        if name not in missing:
            overlaps.update(_lay(merged_ZYX, _read_mask(path, image), label))
    return LabelMap(merged_ZYX, dict(overlaps), missing)


def _read_mask(path: Path, image: Volume) -> np.ndarray:
    mask = read_labels(path)
    check_same_grid(image, mask)
    return mask.array[0] > 0


def _lay(merged_ZYX: np.ndarray, mask_ZYX: np.ndarray, label: int) -> dict[str, int]:
    """Add a mask over the earlier ones. Returns how many voxels each structure lost."""
    covered, counts = np.unique(merged_ZYX[mask_ZYX], return_counts=True)
    merged_ZYX[mask_ZYX] = label
    return {
        f"{LABELS[old]} under {LABELS[label]}": int(count)
        for old, count in zip(covered, counts, strict=True)
        if old > 0
    }

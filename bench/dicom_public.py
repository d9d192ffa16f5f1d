"""Our DICOM reader against dcm2niix, on every series below a folder, such as checked-out public repositories.

Each folder with files is read by both, in a process of its own with bounds of time and memory. Volumes are equal if no
corner lies more than 0.01 mm apart and all values agree; those that were resampled, for tilt or uneven gaps, if they
correlate by 0.999. Where dcm2niix has no such volume, pydicom decides: it alone reads each slice, and our volume must
have the same values at the places that the slice's header states.

    python bench/dicom_public.py FOLDER [--output results.json] [--dcm2niix PROGRAM] [--only NAME ...]

FOLDER has one folder for each repository. The files of one SeriesInstanceUID in a folder make one row of the results.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from scipy import ndimage

from stunet.errors import UserError
from stunet.imaging.affine import farthest_corner
from stunet.imaging.formats.dicom.find import Source, sources_in
from stunet.imaging.formats.dicom.found import find_series
from stunet.imaging.formats.dicom.headers import Passed, Unreadable, read_content
from stunet.imaging.formats.dicom.series import Series
from stunet.imaging.volume import Volume

SECONDS = 1800
"""Of one folder."""

MEMORY_BYTES = 12 * 2**30
"""Of one process."""

TOLERANCE_MM = 0.01
ALIKE = 0.999
"""Correlation of volumes that were resampled."""

ALIKE_TWICE = 0.99
"""Correlation of slices with a resampled volume that is read between its voxels, so interpolated twice."""

EQUAL, RESAMPLED = "read and equal", "read, resampled, alike"
BY_PYDICOM = "read, equal to pydicom's slices, and dcm2niix's volume differs"
ONLY_OURS = "read, equal to pydicom's slices, and dcm2niix makes no volume"
RIGHTLY, LOST, WRONG = "refused rightly", "refused, and dcm2niix makes a volume", "wrong"
FAILED = "no result in the bounds"
KINDS = (EQUAL, RESAMPLED, BY_PYDICOM, ONLY_OURS, RIGHTLY, LOST, WRONG, FAILED)

MISSING = "missing slices"

REASONS = {
    "lie at the same position": "slices at one place that nothing tells apart",
    "slices are missing": MISSING,
    "single slice": "single slice",
    "is shifted by": "slices shifted within their plane",
    "differ in size": "slices of different size, spacing or orientation",
    "multi-frame object": "frames that do not say where they lie",
    "holds fewer pixels": "truncated file",
    "cannot be decoded": "pixels that cannot be decoded",
    "its decoder is not installed": "a decoder that is not installed",
    "is damaged|cannot be read|is empty|header ends|impossible values": "damaged file",
    "orientation in the header": "directions that are not those of a rectangle",
    "voxel spacing|spacing of": "voxel size that no scan has",
    "is a (MOSAIC|GRID)": "tiles without the number of slices",
}
"""What a refusal says, as a pattern, to its kind."""

NO_SCANS = (
    *("localizer", "screen capture", "dose report", "colour image", "single slice", "without a place", "Storage"),
    "do not say where they lie",
)
"""Kinds of what is no volume to segment, though dcm2niix may stack it; it also warns of missing slices."""


@dataclass(frozen=True)
class Outcome:
    """What became of one series.

    Attributes:
        folder: below the folder of all.
        series: SeriesInstanceUID.
        kind: one of `KINDS`.
        reason: kind of the refusal; empty where it is read.
        ours, theirs: how many volumes each made.
        missed: volumes of dcm2niix that none of ours is equal to.
        said: the first refusal, or what differs.
    """

    folder: str
    series: str
    kind: str
    reason: str = ""
    ours: int = 0
    theirs: int = 0
    missed: int = 0
    said: str = ""


@dataclass(frozen=True, eq=False)
class Converted:
    """What dcm2niix makes of a folder.

    Attributes:
        images: 3D, by series, time points taken apart.
        uneven: series whose slices it finds unevenly spaced.
    """

    images: dict[str, list[nibabel.Nifti1Image]]
    uneven: set[str]


def folders_with_files(root: Path) -> list[Path]:
    """All folders that hold files themselves."""
    return [Path(folder) for folder, _, files in sorted(os.walk(root)) if files]


def converted(program: str, folder: Path, output: Path) -> Converted:
    """Run dcm2niix on a folder."""
    command = [program, "-o", str(output), "-z", "n", "-b", "y", "-ba", "n", "-p", "n", "-f", "%j", str(folder)]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, check=False, capture_output=True, timeout=SECONDS / 2)
    images: dict[str, list[nibabel.Nifti1Image]] = defaultdict(list)
    uneven = set()
    for path in sorted(output.glob("*.nii")):
        image = nibabel.Nifti1Image.from_filename(path)
        if image.get_data_dtype().names is not None or min(image.shape[:2]) < 2 or image.shape[2] < 2:
            continue
        parts = nibabel.four_to_three(image) if image.ndim == 4 else [image]
        images[uid_of(path)] += [_canonical(np.asarray(part.dataobj), part.affine) for part in parts]
        if "_Eq" in path.stem:
            uneven.add(uid_of(path))
    return Converted(images, uneven)


def uid_of(path: Path) -> str:
    """The series of an image of dcm2niix, by what lies beside it."""
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads(path.with_suffix(".json").read_text(errors="replace"))["SeriesInstanceUID"])
    known = re.match(r"[0-9.]+[0-9]", path.stem)
    return known.group() if known else ""


def _canonical(array_XYZ: np.ndarray, affine: np.ndarray) -> nibabel.Nifti1Image:
    return nibabel.as_closest_canonical(nibabel.Nifti1Image(array_XYZ.astype(np.float32), affine))


def equals(ours: nibabel.Nifti1Image, theirs: nibabel.Nifti1Image, resampled: bool) -> bool:
    """Whether two canonical images have one place and equal values, or alike ones where they are resampled."""
    if ours.shape != theirs.shape:
        return False
    if farthest_corner(ours.affine, theirs.affine, ours.shape[::-1]) > TOLERANCE_MM:
        return False
    one, other = np.asarray(ours.dataobj), np.asarray(theirs.dataobj)
    if resampled:
        return bool(np.corrcoef(one.ravel(), other.ravel())[0, 1] > ALIKE)
    middle = one.shape[2] // 2
    return all(
        np.allclose(a, b, rtol=1e-6, atol=1e-3) for a, b in ((one[..., middle], other[..., middle]), (one, other))
    )


def equals_pydicom(volume: Volume, series: Series) -> bool:
    """Whether a volume has the values of each slice, read by pydicom alone, where the header puts them.

    Values of resampled volumes are between those of neighbours, so they must correlate.
    """
    to_voxel = np.linalg.inv(volume.affine) @ np.diag([-1, -1, 1, 1])
    files = {one.source: _decoded(one.source) for one in series.stack.slices}
    pairs = [_both_values(volume, to_voxel, _Frame(files[one.source], one.frame)) for one in series.stack.slices]
    ours, theirs = (np.concatenate(part) for part in zip(*pairs, strict=True))
    if series.stack.is_regular:
        return bool(np.allclose(ours, theirs, rtol=1e-4, atol=1e-2))
    return bool(np.corrcoef(ours, theirs)[0, 1] > ALIKE_TWICE)


def _decoded(source: Source) -> pydicom.Dataset:
    with source.open() as file:
        return pydicom.dcmread(file, force=True)


class _Frame:
    """One image of a file, as pydicom reads it."""

    def __init__(self, file: pydicom.Dataset, number: int):
        pixels = file.pixel_array
        self.pixels = pixels[number] if pixels.ndim == 3 else pixels
        shared = file.get("SharedFunctionalGroupsSequence", [])
        own = file.get("PerFrameFunctionalGroupsSequence", [])[number : number + 1]
        groups = [*own, *shared]
        self._datasets = [file, *(item for group in groups for macro in group if macro.VR == "SQ" for item in macro)]

    def value(self, keyword: str, default: object = None) -> Any:
        """Of the file or of the frame's functional groups."""
        found = (one.get(keyword) for one in self._datasets)
        return next((value for value in found if value is not None), default)


def _both_values(volume: Volume, to_voxel: np.ndarray, frame: _Frame) -> tuple[np.ndarray, np.ndarray]:
    """A volume's values at the pixels of a slice, and the slice's."""
    row, column = np.array(frame.value("ImageOrientationPatient"), dtype=float).reshape(2, 3)
    down, along = (float(mm) for mm in frame.value("PixelSpacing"))
    y, x = np.indices(frame.pixels.shape).reshape(2, -1)
    places = np.array(frame.value("ImagePositionPatient"), dtype=float)[:, None]
    places = places + np.outer(row, x * along) + np.outer(column, y * down)
    voxels = to_voxel[:3, :3] @ places + to_voxel[:3, 3:]
    nearest = np.rint(voxels)
    is_at_voxels = np.abs((voxels - nearest) * np.array(volume.spacing[::-1])[:, None]).max() < TOLERANCE_MM
    voxels = nearest if is_at_voxels else voxels  # steep edges would differ by a rounding of the positions
    ours = ndimage.map_coordinates(volume.array[0].astype(np.float32), voxels[::-1], order=1, mode="nearest")
    slope, intercept = float(frame.value("RescaleSlope", 1) or 1), float(frame.value("RescaleIntercept", 0))
    theirs = frame.pixels.astype(float) * slope + intercept
    return ours, theirs.ravel().astype(np.float32)


def compared(folder: Path, name: str, program: str) -> list[Outcome]:
    """What became of each series whose files lie in a folder, not below it."""
    with tempfile.TemporaryDirectory() as temporary:
        inputs, output = Path(temporary) / "in", Path(temporary) / "out"
        inputs.mkdir()
        output.mkdir()
        for path in sorted(folder.iterdir()):
            if path.is_file():
                (inputs / path.name).symlink_to(path.resolve())
        found: dict[str, list[Series]] = defaultdict(list)
        for one in find_series(inputs).series:
            found[one.uid].append(one)
        taken = {one.source.path for series in found.values() for part in series for one in part.stack.slices}
        reasons = _reasons(source for source in sources_in(inputs) if source.path not in taken)
        theirs = converted(program, inputs, output)
        return [
            _outcome(name, uid, found[uid], theirs.images.get(uid, []), reasons[uid], uid in theirs.uneven)
            for uid in sorted({*found, *reasons})
        ]


def _reasons(sources: Iterable[Source]) -> dict[str, list[str]]:
    """Why files are passed over or cannot be read, by the series that pydicom finds in them."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for source in sources:
        content = read_content(source)
        if isinstance(content, Passed | Unreadable):
            with suppress(Exception):  # a file of another kind is of no series
                header = pydicom.dcmread(source.path, stop_before_pixels=True, force=True)
                if "SOPClassUID" in header:
                    said = content.kind if isinstance(content, Passed) else content.reason
                    reasons[str(header.get("SeriesInstanceUID", ""))].append(said)
    return reasons


def _outcome(
    folder: str,
    uid: str,
    series: Sequence[Series],
    images: Sequence[nibabel.Nifti1Image],
    passed: Sequence[str],
    uneven: bool,
) -> Outcome:
    read, differing, wrong, refusals = 0, "", False, [one.refusal for one in series if one.refusal]
    left = list(images)
    is_resampled = any(not one.stack.is_regular for one in series if not one.refusal)
    for one in (one for one in series if not one.refusal):
        try:
            volume = one.read()
        except UserError as error:
            refusals.append(str(error))
            continue
        read += 1
        ours = _canonical(volume.array[0].T, volume.affine)
        same = next((image for image in left if equals(ours, image, not one.stack.is_regular)), None)
        if same is None:
            differing = differing or f"{one.name}: {_shape(ours)}, dcm2niix {', '.join(map(_shape, left[:3])) or '-'}"
            wrong = wrong or not equals_pydicom(volume, one)
        else:
            left = [image for image in left if image is not same]
    said = (differing or "; ".join(refusals) or "; ".join(passed))[:300]
    counts = (read, len(images), len(left))
    if read:
        agree = (RESAMPLED if is_resampled else EQUAL) if not differing else BY_PYDICOM if images else ONLY_OURS
        kind = WRONG if wrong else agree
        return Outcome(folder, uid, kind, _reason(refusals[0]) if refusals else "", *counts, said)
    reason = _reason(refusals[0] if refusals else passed[0])
    rightly = not images or any(mark in reason for mark in NO_SCANS) or (uneven and reason == MISSING)
    return Outcome(folder, uid, RIGHTLY if rightly else LOST, reason, *counts, said)


def _reason(said: str) -> str:
    """The kind of a refusal."""
    return next((kind for pattern, kind in REASONS.items() if re.search(pattern, said)), said)


def _shape(image: nibabel.Nifti1Image) -> str:
    spacing = "x".join(f"{float(mm):.3g}" for mm in image.header.get_zooms())
    return f"{'x'.join(map(str, image.shape))} of {spacing} mm"


def measured(root: Path, folder: Path, program: str) -> list[Outcome]:
    """The outcomes of a folder, found by a process of its own."""
    name = str(folder.relative_to(root))
    command = [sys.executable, __file__, str(root), "--measure", str(folder), "--dcm2niix", program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except subprocess.TimeoutExpired:
        return [Outcome(name, "", FAILED, said=f"more than {SECONDS} s")]
    except subprocess.CalledProcessError as error:
        return [Outcome(name, "", FAILED, said=error.stderr.strip().splitlines()[-1][:300])]
    return [Outcome(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def tables(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Lines: how many series of each kind, and of each kind of refusal."""
    kinds = Counter(one.kind for one in outcomes)
    yield from ("| series | kind |", "|---|---|", *(f"| {kinds[kind]} | {kind} |" for kind in KINDS if kinds[kind]))
    volumes = sum(one.theirs for one in outcomes if one.kind in (EQUAL, RESAMPLED, BY_PYDICOM))
    candidates = sum(kinds[kind] for kind in (EQUAL, RESAMPLED, BY_PYDICOM, LOST, WRONG))
    yield from ("", f"{len(outcomes)} series; {volumes} volumes of dcm2niix in those that both read.")
    yield f"Refused of those that dcm2niix makes a volume of: {kinds[LOST]} of {candidates}."
    for kind in (RIGHTLY, LOST):
        reasons = Counter(one.reason for one in outcomes if one.kind == kind)
        yield from ("", f"| {kind} | because of |", "|---|---|")
        yield from (f"| {count} | {reason} |" for reason, count in reasons.most_common())


def main() -> None:
    """Compare all folders and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--output", type=Path, help="results as JSON, one object for each series")
    parser.add_argument("--dcm2niix", default="dcm2niix", help="the program to compare with")
    parser.add_argument("--only", nargs="+", help="names of folders in the root")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        name = str(asked.measure.relative_to(asked.root))
        print(json.dumps([asdict(one) for one in compared(asked.measure, name, asked.dcm2niix)]))
        return
    outcomes: list[Outcome] = []
    for folder in folders_with_files(asked.root):
        if folder == asked.root or (asked.only and folder.relative_to(asked.root).parts[0] not in asked.only):
            continue
        outcomes += measured(asked.root, folder, asked.dcm2niix)
        if asked.output:
            asked.output.write_text(json.dumps([asdict(one) for one in outcomes], indent=1))
    print("\n".join(tables(outcomes)))


if __name__ == "__main__":
    main()

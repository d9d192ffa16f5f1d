"""Measure time and peak memory of DICOM results: 104 structures on 600 slices of 512 x 512.

The series is written to a temporary folder, with slices without pixels, because a result needs only the headers. Each
kind is written by its own process, which already has the labels. Its peak memory is that of the whole process. CPU
seconds are the time on an otherwise idle machine.

    python bench/dicom_out.py [--kinds labelmap binary rtstruct] [--slices 600]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom

from stunet.batch.prediction_record import peak_memory_bytes
from stunet.imaging.formats.dicom.found import find_series
from stunet.imaging.formats.dicom.series import RegularSlices
from stunet.imaging.formats.dicom_results import Algorithm, DicomDetails, Kind, write_dicom_labels
from stunet.imaging.volume import Volume
from stunet.labels.ontology import LABELS

SIDE = 512
BARS: dict[Kind, tuple[float, float | None]] = {"labelmap": (5, 600), "binary": (20, 1800), "rtstruct": (30, None)}
"""Maximum seconds and MB for each kind."""


def write_series(folder: Path, slices: int) -> None:
    """Write the headers of a CT series, each with pixels that compress to almost nothing."""
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.Modality = pydicom.uid.CTImageStorage, "CT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.4", "1.2.5"
    dataset.Rows = dataset.Columns = SIDE
    dataset.PixelSpacing, dataset.ImageOrientationPatient = [0.8, 0.8], [1, 0, 0, 0, 1, 0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.SliceThickness = 1, "MONOCHROME2", 1
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.RLELossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    for number in range(slices):
        dataset.SOPInstanceUID, dataset.InstanceNumber = f"1.2.6.{number + 1}", number + 1
        dataset.ImagePositionPatient = [-205, -205, number]
        dataset.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def phantom(slices: int) -> np.ndarray:
    """Labels (Z, Y, X) uint8: 104 bumpy ellipsoids with hollows, each over about 125 slices."""
    random = np.random.default_rng(0)
    labels = np.zeros((slices, SIDE, SIDE), dtype=np.uint8)
    for label in range(1, len(LABELS)):
        half = np.array([min(63, slices // 4), *random.integers(20, 60, 2)])
        low = [int(random.integers(0, n - 2 * h)) for n, h in zip(labels.shape, half, strict=True)]
        box = tuple(slice(a, a + 2 * int(h)) for a, h in zip(low, half, strict=True))
        z, y, x = np.ogrid[tuple(slice(-1, 1, complex(0, 2 * int(h))) for h in half)]
        bumps = 0.03 * np.sin(25 * y) * np.sin(25 * x)
        radius = z**2 + y**2 + x**2 + bumps
        labels[box][(radius < 0.9) & ~((radius < 0.1) & (label % 4 == 0))] = label
    return labels


def measure(kind: Kind, series: Path, labels_file: Path, output: Path) -> dict[str, float]:
    """Write one kind. Returns seconds, MB of the file and MB of memory."""
    stack = find_series(series).series[0].stack
    labels = np.load(labels_file)
    scan = Volume(np.broadcast_to(np.int16(0), (1, *labels.shape)), stack.affine, slices=RegularSlices(stack))
    before = peak_memory_bytes() or 0
    start, processor = time.perf_counter(), time.process_time()
    names = dict(enumerate(LABELS))
    write_dicom_labels(kind, labels, scan, output, names, {}, Algorithm("base", "1"), DicomDetails())
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    peak = peak_memory_bytes() or 0
    return {
        "seconds": seconds,
        "processor": processor,
        "file": output.stat().st_size / 1e6,
        "before": before / 1e6,
        "peak": peak / 1e6,
    }


def main() -> None:
    """Measure each kind in its own process, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(BARS), choices=list(BARS))
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        kind, *paths = asked.measure
        print(json.dumps(measure(kind, *map(Path, paths))))
        return
    with tempfile.TemporaryDirectory() as name:
        series, labels_file = Path(name) / "series", Path(name) / "labels.npy"
        series.mkdir()
        write_series(series, asked.slices)
        labels = phantom(asked.slices)
        pairs = sum(len(np.unique(one)) - 1 for one in labels)
        np.save(labels_file, labels)
        print(f"{len(np.unique(labels)) - 1} structures, {asked.slices} slices, {pairs} structures on slices\n")
        print("| kind | seconds | of the processor | bar | file, MB | peak, MB | bar | of these before |")
        print("|---|---|---|---|---|---|---|---|")
        for kind in asked.kinds:
            paths = [str(series), str(labels_file), str(Path(name) / f"{kind}.dcm")]
            command = [sys.executable, __file__, "--measure", kind, *paths]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            seconds, memory = BARS[kind]
            cells = [
                *(kind, f"{found['seconds']:.1f}", f"{found['processor']:.1f}", f"{seconds:g}"),
                *(f"{found['file']:.1f}", f"{found['peak']:.0f}", str(memory or "-"), f"{found['before']:.0f}"),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

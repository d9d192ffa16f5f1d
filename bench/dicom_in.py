"""Seconds and peak memory of reading a CT series: 600 slices of 512 x 512, uncompressed and compressed without loss.

The series is written to a temporary folder. Each is read by a process of its own, after its files were read once, so
that they lie in memory. The processor's seconds are those of all threads.

    python bench/dicom_in.py [--kinds uncompressed rle jpeg-ls] [--slices 600] [--profile KIND]
"""

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from stunet.batch.prediction_record import peak_memory_bytes
from stunet.imaging.formats.dicom.choose import read_dicom

SIDE = 512
KINDS = {"uncompressed": ExplicitVRLittleEndian, "rle": RLELossless, "jpeg-ls": JPEGLSLossless}
SECONDS = 2.0
"""What 600 slices may take on two cores."""

NOISE_HU = 12.0


def write_series(folder: Path, kind: str, slices: int) -> None:
    """Write a CT of a body with noise; slices repeat eight images, so that compressing them is quick."""
    syntax = KINDS[kind]
    for number, dataset in enumerate(_images(syntax) * (slices // 8 + 1)):
        if number == slices:
            break
        dataset.SOPInstanceUID, dataset.InstanceNumber = f"1.2.6.{number + 1}", number + 1
        dataset.ImagePositionPatient = [-205, -205, number]
        dataset.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def _images(syntax: pydicom.uid.UID) -> list[pydicom.Dataset]:
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    body = np.where(y**2 / 0.4 + x**2 / 0.7 < 1, 40.0, -1000.0)
    images = []
    for _ in range(8):
        dataset = pydicom.Dataset()
        dataset.SOPClassUID, dataset.Modality = pydicom.uid.CTImageStorage, "CT"
        dataset.SOPInstanceUID = "1.2.6"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.4", "1.2.5"
        dataset.Rows = dataset.Columns = SIDE
        dataset.PixelSpacing, dataset.ImageOrientationPatient = [0.8, 0.8], [1, 0, 0, 0, 1, 0]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.SliceThickness = 1, "MONOCHROME2", 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        values = np.clip(body + random.normal(0, NOISE_HU, body.shape) + 1024, 0, 4095)
        dataset.PixelData = values.astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        if syntax.is_compressed:
            dataset.compress(syntax, generate_instance_uid=False)
        images.append(dataset)
    return images


def measure(series: Path) -> dict[str, float]:
    """Read a series: seconds, those of the processor, MB of memory before and at most."""
    before = peak_memory_bytes() or 0
    start, processor = time.perf_counter(), time.process_time()
    volume = read_dicom(series)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return {
        "seconds": seconds,
        "processor": processor,
        "voxels": volume.array.nbytes / 1e6,
        "before": before / 1e6,
        "peak": (peak_memory_bytes() or 0) / 1e6,
    }


def profile(series: Path) -> None:
    """Print where the time goes, of this thread."""
    profiler = cProfile.Profile()
    profiler.runcall(read_dicom, series)
    pstats.Stats(profiler).sort_stats("cumulative").print_stats(30)


def main() -> None:
    """Measure each kind in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--profile", choices=list(KINDS))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure)))
        return
    with tempfile.TemporaryDirectory() as name:
        if asked.profile:
            write_series(Path(name), asked.profile, asked.slices)
            profile(Path(name))
            return
        print("| kind | seconds | of the processor | bar | voxels, MB | peak, MB | of these before |")
        print("|---|---|---|---|---|---|---|")
        for kind in asked.kinds:
            series = Path(name) / kind
            series.mkdir()
            write_series(series, kind, asked.slices)
            for path in series.iterdir():
                path.read_bytes()
            command = [sys.executable, __file__, "--measure", str(series)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            seconds = f"{found['seconds']:.2f} | {found['processor']:.2f} | {SECONDS:g}"
            print(f"| {kind} | {seconds} | {found['voxels']:.0f} | {found['peak']:.0f} | {found['before']:.0f} |")


if __name__ == "__main__":
    main()

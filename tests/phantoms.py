"""Tiny synthetic volumes with known results, shared by all tests."""

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from scipy import ndimage
from scipy.spatial.transform import Rotation


def smooth_scan(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Smooth blobs with some noise, with values similar to a CT: (Z, Y, X) int16."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 400, [max(2, n // 8) for n in shape])
    blobs = ndimage.zoom(coarse, [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=1)
    return np.clip(blobs + random.normal(0, 20, shape), -1024, 3071).astype(np.int16)


def rotated_affine(spacing_xyz: tuple[float, float, float], degrees: float = 20.0) -> np.ndarray:
    """An oblique affine (4, 4), rotated about all three axes, with an arbitrary origin."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [degrees, -degrees / 2, degrees / 3], degrees=True).as_matrix()
    affine[:3, :3] *= spacing_xyz
    affine[:3, 3] = (-120.5, 33.0, 801.25)
    return affine


def write_dicom_series(folder: Path, array_ZYX: np.ndarray, **changes: object) -> list[Path]:
    """Write a CT series of uncompressed slices 2 mm apart with pixels of 0.5 mm (rows) x 0.75 mm (columns).

    Args:
        folder: Made where missing.
        array_ZYX: int16 stored values.
        changes: DICOM keywords to set in every slice, such as RescaleSlope.

    Returns:
        One path per slice, from feet to head.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for z, pixels in enumerate(array_ZYX):
        dataset = pydicom.Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.CTImageStorage, f"1.2.3.4.{z + 1}"
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.Modality = "1.2.3.5", "1.2.3.6", "CT"
        dataset.InstanceNumber = z + 1
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelSpacing, dataset.ImageOrientationPatient = [0.5, 0.75], [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-10, -20, 30 + 2 * z]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.PixelData = pixels.astype("<i2").tobytes()
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        paths.append(folder / f"slice{z:03d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def itk_affine(image: SimpleITK.Image) -> np.ndarray:
    """ITK's geometry (LPS) as an affine in RAS."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine

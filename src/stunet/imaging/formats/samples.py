"""Write a scan in every orientation and every format that stunet reads, with the formats' own libraries.

None of stunet's writers is used, so what is read again is an independent reference.
"""

from collections.abc import Callable, Iterator
from itertools import permutations, product
from pathlib import Path
from shutil import make_archive

import nibabel
import numpy as np

from stunet.imaging.formats.registry import READERS
from stunet.imaging.volume import Volume

ORIENTATIONS = tuple("".join(axes) for names in permutations(("LR", "PA", "IS")) for axes in product(*names))
"""All 48 directions that the voxel axes x, y, z can have in the patient, such as "RAS"."""

FOLDER, ZIP = "DICOM folder", "DICOM zip"
FORMATS = (*READERS, FOLDER, ZIP)
"""Names of formats: suffixes, and two for DICOM."""


def write_oriented(volume: Volume, orientation: str, path: Path) -> None:
    """Write a scan as NIfTI with its voxels stored in another order; each stays at its place in the patient.

    Args:
        volume: one channel.
        orientation: one of `ORIENTATIONS`.
        path: ends in .nii or .nii.gz.
    """
    image = nibabel.Nifti1Image(volume.array[0].T, volume.affine)
    now = nibabel.orientations.io_orientation(image.affine)
    wanted = nibabel.orientations.axcodes2ornt(tuple(orientation))
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(now, wanted)), path)


def canonical_labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A NIfTI label map in RAS order, as nibabel reads it.

    Returns:
        Labels (Z, Y, X) and the affine (4, 4).
    """
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj).T, np.asarray(image.affine)


def write_format(volume: Volume, format_name: str, folder: Path) -> Path:
    """Write a scan in one of `FORMATS`.

    Args:
        volume: one channel of int16.
        format_name: of the format.
        folder: an empty folder to write to.

    Returns:
        What a user would give to read it: a file, or the folder.
    """
    if format_name in (FOLDER, ZIP):
        _write_dicom(volume, folder)
        return Path(make_archive(str(folder), "zip", folder)) if format_name == ZIP else folder
    path = folder / f"scan{format_name}"
    _WRITERS[format_name](volume, path)
    return path


def _write_nibabel(volume: Volume, path: Path) -> None:
    suffix = path.suffixes[0]
    kinds = {".nii": nibabel.Nifti1Image, ".mgz": nibabel.MGHImage, ".mgh": nibabel.MGHImage}
    image = kinds.get(suffix, nibabel.Nifti1Pair)(volume.array[0].T, volume.affine)
    image.to_filename(path)


def _write_itk(volume: Volume, path: Path) -> None:
    import SimpleITK

    axes_lps, origin_lps = _lps(volume.affine)
    spacing = np.linalg.norm(axes_lps, axis=0)
    image = SimpleITK.GetImageFromArray(volume.array[0])
    image.SetSpacing(spacing.tolist())
    image.SetDirection((axes_lps / spacing).flatten().tolist())
    image.SetOrigin(origin_lps.tolist())
    SimpleITK.WriteImage(image, str(path))


def _lps(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The voxel axes as columns (3, 3) and the first voxel (3) in DICOM's millimetres."""
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]
    return lps[:, :3], lps[:, 3]


_WRITERS: dict[str, Callable[[Volume, Path], None]] = {
    **dict.fromkeys((".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz", ".mgz", ".mgh"), _write_nibabel),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd"), _write_itk),
}


def _write_dicom(volume: Volume, folder: Path) -> None:
    """Write a CT series, a file for each slice."""
    import pydicom

    series, study = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    for number, (pixels, header) in enumerate(zip(volume.array[0], _slice_headers(volume), strict=True), 1):
        dataset = pydicom.Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.CTImageStorage, pydicom.uid.generate_uid()
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.Modality = series, study, "CT"
        dataset.InstanceNumber = number
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing = header
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.PixelData = pixels.astype("<i2").tobytes()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)


def _slice_headers(volume: Volume) -> Iterator[tuple[list[float], list[float], list[float]]]:
    """ImagePositionPatient, ImageOrientationPatient and PixelSpacing of each slice."""
    axes_lps, origin_lps = _lps(volume.affine)
    spacing = np.linalg.norm(axes_lps, axis=0)
    cosines = axes_lps / spacing
    for z in range(volume.shape[0]):
        position = origin_lps + z * axes_lps[:, 2]
        yield position.tolist(), [*cosines[:, 0], *cosines[:, 1]], [spacing[1], spacing[0]]

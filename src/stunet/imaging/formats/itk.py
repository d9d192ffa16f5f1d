"""Read scans from NRRD and MetaImage files with SimpleITK, and write label maps to them."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from stunet.errors import FileError, OutputError
from stunet.files import replacing
from stunet.imaging.affine import orientation
from stunet.imaging.formats.claims import check_claim
from stunet.imaging.label_array import label_dtype
from stunet.imaging.volume import Volume, check_size

if TYPE_CHECKING:
    import SimpleITK

HEADER_BYTES = 1 << 16
"""Text headers end within this many bytes. Key and value pairs after that are not read."""

_IO_OF_SUFFIX = {
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
META_SUFFIXES = (".mha", ".mhd")

MOST_DIMENSIONS = 10
"""Of MetaImage. With another number, MetaIO writes beyond its arrays and ends the process."""

_DIMENSIONS = re.compile(rb"NDims(.*)", re.IGNORECASE)
_META_HEADER = re.compile(rb".*?^ElementDataFile *=.*?$", re.MULTILINE | re.DOTALL)
_DATA_FILE = re.compile(r"^(?:data ?file: |ElementDataFile\s*= ?)(.*?)\s*$", re.MULTILINE)
_PLACED = re.compile(
    r"^(?:space: (?:left|right|[LR][AP]S)|(?:TransformMatrix|Rotation|Orientation)\s*=)", re.MULTILINE | re.IGNORECASE
)
"""A header line that gives the orientation of the axes in the patient."""


def read_itk(path: Path) -> Volume:
    """Read one 3D image of NRRD (`.nrrd`, `.nhdr`) or MetaImage (`.mha`, `.mhd`).

    Args:
        path: The file, or the header if the voxels are in a separate file.

    Returns:
        Volume with array (1, Z, Y, X): integers keep their type, fractions become float32.

    Raises:
        UserError: The file is damaged, its voxels are missing, or it is not one real-valued 3D image.
    """
    import SimpleITK  # imported late: it takes as long to load as a scan

    from stunet.imaging.formats.sitk_image import volume_of

    header = _header_text(path)
    _require_data_file(header, path)
    if path.suffix.lower() in META_SUFFIXES:
        _require_dimensions(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(_IO_OF_SUFFIX[path.suffix.lower()])
    try:
        with readable_by_itk(path) as name:
            reader.SetFileName(name)
            reader.ReadImageInformation()
            _check_header(reader, header, path)
            image = reader.Execute()
    except RuntimeError as error:
        raise FileError(
            f"{path}: cannot be read; the file is damaged, cut off or of another format, copy or export it again."
        ) from error
    volume = volume_of(_without_fourth_axis(image), str(path))
    return volume if _PLACED.search(header) else replace(volume, warnings=(_no_orientation(volume),))


def write_itk_labels(labels_ZYX: np.ndarray, like: Volume, path: Path, names: Mapping[int, str] | None = None) -> None:
    """Write a label map as compressed NRRD or MetaImage. Neither format can store the names.

    Raises:
        UserError: The file cannot be written.
        ValueError: The labels do not fit the grid, or are not integers from 0 to 65535.
    """
    write_with_metadata(labels_ZYX, like, path, {})


def write_with_metadata(labels_ZYX: np.ndarray, like: Volume, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a label map with key and value pairs in its header; see `write_itk_labels`."""
    import SimpleITK

    from stunet.imaging.formats.sitk_image import labels_as_sitk

    if labels_ZYX.shape != like.shape:
        raise ValueError(f"labels of shape {labels_ZYX.shape} do not fit the scan's grid {like.shape}")
    image = labels_as_sitk(labels_ZYX.astype(label_dtype(labels_ZYX), copy=False), like)
    for key, value in metadata.items():
        image.SetMetaData(key, value)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO(_IO_OF_SUFFIX[path.suffix.lower()])
    writer.UseCompressionOn()
    with replacing(path) as temporary, TemporaryDirectory(dir=path.parent, prefix=".stunet") as folder:
        written = Path(folder) / f"labels{path.suffix.lower()}"  # the suffix decides how MetaImage is written
        try:
            with readable_by_itk(written) as name:
                writer.SetFileName(name)
                writer.Execute(image)
        except RuntimeError as error:
            raise OutputError(f"{path}: cannot be written; is there room on the disk?") from error
        written.replace(temporary)


@contextmanager
def readable_by_itk(path: Path) -> Iterator[str]:
    """Yield a file name that ITK accepts. A name that is not UTF-8 would crash the process inside ITK."""
    if _is_utf8(str(path)):
        yield str(path)
        return
    with TemporaryDirectory(prefix="stunet") as folder:
        link = Path(folder) / "link"
        if _is_utf8(path.name):
            link.symlink_to(path.parent.resolve(), target_is_directory=True)
            yield str(link / path.name)
        else:
            link = link.with_suffix(path.suffix)
            link.symlink_to(path.parent.resolve() / path.name)
            yield str(link)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _header_text(path: Path) -> str:
    """The start of the file. Anything after a text header is voxels."""
    try:
        with path.open("rb") as file:
            text = file.read(HEADER_BYTES).decode("latin-1")
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if not text:
        raise FileError(f"{path}: the file is empty; copy or export it again.")
    end = re.search(r"\r?\n\r?\n|^ElementDataFile.*\n", text, re.MULTILINE)
    return text[: end.end()] if end else text


def _data_file(header: str, path: Path) -> Path | None:
    """The file with the voxels; None if they are spread over several."""
    found = _DATA_FILE.search(header)
    if found is None or found[1].upper() == "LOCAL":
        return path
    if found[1].upper().startswith("LIST") or "%" in found[1]:
        return None
    return path.parent / os.fsdecode(found[1].encode("latin-1"))


def _require_data_file(header: str, path: Path) -> None:
    data = _data_file(header, path)
    try:
        is_there = data is None or data.is_file()
    except OSError:  # no file can have this name
        is_there = False
    if not is_there:
        raise FileError(f"{path}: its voxels are in {data}, which is missing; copy both files.")


def _require_dimensions(path: Path) -> None:
    """Refuse a MetaImage header with a number of dimensions that would end the process inside ITK."""
    with path.open("rb") as file:
        header = _META_HEADER.match(file.read(HEADER_BYTES))
    if header is None:
        raise FileError(f"{path}: the header does not say where its voxels are; export the scan again.")
    for line in _DIMENSIONS.findall(header[0]):
        number = line.strip(b" =:\t\r")
        if not (number.isdigit() and len(number) <= 2 and 1 <= int(number) <= MOST_DIMENSIONS):
            raise FileError(f"{path}: the header's number of dimensions is not one; export the scan again.")


def _check_header(reader: "SimpleITK.ImageFileReader", header: str, path: Path) -> None:
    """Refuse anything but a 3D grey-value image, and claims that cannot be true."""
    import SimpleITK

    components, sizes = reader.GetNumberOfComponents(), reader.GetSize()
    if components != 1:
        raise FileError(
            f"{path}: has {components} numbers per voxel (a colour image, a vector field, or segments that "
            "overlap); save one grey-value image or label map as a separate file."
        )
    if len(sizes) < 3 or max(sizes[3:], default=1) > 1:
        claimed = "x".join(map(str, sizes))
        raise FileError(f"{path}: is a {len(sizes)}D image ({claimed}), but one 3D scan is needed.")
    if min(sizes) < 1:
        raise FileError(f"{path}: the header's dimensions {list(sizes)} are not a size; export the scan again.")
    check_size(sizes[2::-1], str(path))
    data = _data_file(header, path)
    if data is not None:
        voxel_bytes = SimpleITK.Image([1] * len(sizes), reader.GetPixelID()).GetSizeOfPixelComponent()
        check_claim(int(np.prod(sizes[:3])) * voxel_bytes, data, is_compressed=True)


def _without_fourth_axis(image: "SimpleITK.Image") -> "SimpleITK.Image":
    while image.GetDimension() > 3:
        image = image[..., 0]
    return image


def _no_orientation(volume: Volume) -> str:
    return (
        f"{volume.source}: the header does not say how the scan is oriented in the patient, so left and right, front "
        f"and back are a guess: it is read as {orientation(volume.affine)}, as 3D Slicer and ITK-SNAP read it. Check "
        "the labels against the anatomy."
    )

"""The formats for labels, by their names on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stunet.errors import OutputError, UnknownNameError
from stunet.imaging.formats.dicom_results import DicomDetails, Kind, dicom_kind
from stunet.imaging.formats.registry import RESULT_SUFFIXES, has_suffix, without_suffix
from stunet.inference.segmentation import Segmentation


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        ending: added to file names that stunet chooses.
        suffixes: allowed for this format in a file name that the user chooses.
    """

    ending: str
    suffixes: tuple[str, ...]

    @property
    def kind(self) -> Kind | None:
        """The kind of DICOM result; None for an image."""
        return dicom_kind(Path(self.ending))


FORMATS: Mapping[str, Format] = {
    "nifti": Format(".nii.gz", (".nii", ".nii.gz")),
    "nrrd": Format(".nrrd", (".nrrd",)),
    "seg.nrrd": Format(".seg.nrrd", (".seg.nrrd",)),
    "dicom-seg": Format(".seg.dcm", (".dcm",)),
    "dicom-seg-binary": Format(".binary.dcm", (".dcm",)),
    "rtstruct": Format(".rtstruct.dcm", (".dcm",)),
}
"""By name."""


@dataclass(frozen=True)
class LabelFile:
    """A label file.

    Attributes:
        path: of the file.
        kind: the kind of DICOM result; None for an image, whose suffix determines the format.
    """

    path: Path
    kind: Kind | None

    def write(self, segmentation: Segmentation, details: DicomDetails) -> None:
        """Write the labels.

        Raises:
            UserError: they cannot be written.
        """
        if self.kind is None:
            segmentation.save(self.path)
        else:
            segmentation.save_dicom(self.path, self.kind, details)


def label_files(path: Path, formats: Sequence[str]) -> list[LabelFile]:
    """The label files of a case.

    Args:
        path: of the main file, as named by the user. Its format is the one in `formats` whose ending it has, or else
            the first one that allows its suffix. The other files are written next to it, with their own endings.
        formats: names; if empty, the suffix of `path` decides.

    Raises:
        UserError: a format is unknown, or the name fits none of them.

    >>> [one.path.name for one in label_files(Path("a.dcm"), ["nifti", "dicom-seg-binary", "rtstruct"])]
    ['a.dcm', 'a.nii.gz', 'a.rtstruct.dcm']
    """
    if not formats:
        return [LabelFile(path, dicom_kind(path))]
    chosen = [_format(name) for name in dict.fromkeys(formats)]
    main = _main(path, chosen)
    others = [LabelFile(path.with_name(without_suffix(path) + one.ending), one.kind) for one in chosen if one != main]
    return [LabelFile(path, main.kind), *others]


def _main(path: Path, chosen: Sequence[Format]) -> Format:
    """The format of the file that the user named."""
    for one in chosen:
        if has_suffix(path, (one.ending,)):
            return one
    for one in chosen:
        if has_suffix(path, one.suffixes):
            return one
    endings = ", ".join(dict.fromkeys(suffix for one in chosen for suffix in one.suffixes))
    raise OutputError(f"{path}: does not suit --format; end it in {endings}.")


def ending_of(formats: Sequence[str]) -> str:
    """The ending of a case's main file, if stunet chooses its name."""
    return _format(formats[0]).ending if formats else FORMATS["nifti"].ending


def is_result(path: Path) -> bool:
    """Whether a name is that of a label file."""
    return has_suffix(path, RESULT_SUFFIXES)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UnknownNameError.of("format", name, FORMATS)
    return FORMATS[name]

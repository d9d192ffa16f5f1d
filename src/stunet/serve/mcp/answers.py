"""What the tools answer. All that a stranger may have written lies in fields that say so."""

from dataclasses import dataclass, field

from stunet.serve.mcp.file_text import FileText


@dataclass(frozen=True)
class ModelFound:
    """A model.

    Attributes:
        name: for `segment`.
        modality: such as "CT".
        segments: what it segments.
        available: whether it can be used now.
        structures: what it finds; empty if it is not available.
    """

    name: str
    modality: str
    segments: str
    available: bool
    structures: list[str]


@dataclass(frozen=True)
class Models:
    """All models.

    Attributes:
        models: by name.
    """

    models: list[ModelFound]


@dataclass(frozen=True)
class SeriesFound:
    """A DICOM series.

    Attributes:
        number: for `series` of the other tools.
        modality: CT, MR, PT or NM.
        slices: how many.
        spacing_mm: (z, y, x).
        suitable: whether it can be segmented.
        untrusted_text_of_the_file: description, kernel, and remarks of stunet, which may quote names of files.
    """

    number: int
    modality: str
    slices: int
    spacing_mm: list[float]
    suitable: bool
    untrusted_text_of_the_file: FileText


@dataclass(frozen=True)
class Inspection:
    """What lies at a path.

    Attributes:
        kind: "image" or "dicom".
        shape: (z, y, x) voxels of an image; null for DICOM.
        spacing_mm: (z, y, x) of an image; null for DICOM.
        series: of DICOM.
        chosen: number of the series that is taken where none is named; null where one must be.
    """

    kind: str
    shape: list[int] | None = None
    spacing_mm: list[float] | None = None
    series: list[SeriesFound] = field(default_factory=list)
    chosen: int | None = None


@dataclass(frozen=True)
class StructureFound:
    """What was found of a structure.

    Attributes:
        value: in the label map.
        name: of the 104 structures that stunet knows; "label 7" for any other, whose name is untrusted text.
        volume_mm3: its volume.
        voxels: how many.
        mean: of the scan's values inside; Hounsfield units for CT.
        centroid_mm: (x, y, z), RAS+.
        check: what somebody should look at.
        untrusted_text_of_the_file: the name that the file has for it, and what to check where that quotes names.
    """

    value: int
    name: str
    volume_mm3: float
    voxels: int
    mean: float
    centroid_mm: list[float]
    check: list[str]
    untrusted_text_of_the_file: FileText


@dataclass(frozen=True)
class Measurement:
    """What was found in a scan.

    Attributes:
        labels: file of the label map.
        structures: in the order of the label map; those without a voxel are left out.
        not_a_medical_device: what the numbers are not for.
        untrusted_text_of_the_file: warnings, which may quote names of files.
    """

    labels: str
    structures: list[StructureFound]
    not_a_medical_device: str
    untrusted_text_of_the_file: FileText

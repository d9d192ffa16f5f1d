"""What the API answers, as the page and `stunet.Client` read it. Nothing here needs more than Python itself."""

from dataclasses import dataclass, field
from typing import Literal

State = Literal["queued", "running", "done", "failed", "cancelled"]
"""Of a job. The last three are final."""

FINAL_STATES: tuple[State, ...] = ("done", "failed", "cancelled")

Stage = Literal["queued", "reading", "loading model", "preprocessing", "windows", "labelling", "writing", "done"]
"""What a job is doing, in this order."""

API_VERSION = 1
"""Rises when a client of the version before could no longer talk to a server."""


@dataclass(frozen=True)
class Health:
    """That the server answers.

    Attributes:
        status: always "ok".
        version: of stunet.
        api: `API_VERSION`.
    """

    status: str
    version: str
    api: int


@dataclass(frozen=True)
class Readiness:
    """Whether jobs are run.

    Attributes:
        ready: whether there is a process that runs them.
        device: where networks run.
        queue: jobs that wait.
    """

    ready: bool
    device: str
    queue: int


@dataclass(frozen=True)
class ClassAnswer:
    """A structure that a model finds.

    Attributes:
        value: in the label map.
        name: such as "liver".
        group: such as "organs"; empty if it has none.
        color: such as "#aabbcc".
    """

    value: int
    name: str
    group: str
    color: str


@dataclass(frozen=True)
class ModelAnswer:
    """A model that jobs may name.

    Attributes:
        name: for `model` of a job.
        summary: what it segments.
        modality: such as "CT".
        available: whether it is on the server.
        classes: what it finds; empty if it is not on the server.
        channels: what each image of a scan shows, such as "CT"; empty if it is not on the server.
    """

    name: str
    summary: str
    modality: str
    available: bool
    classes: list[ClassAnswer] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SeriesAnswer:
    """A DICOM series of a scan.

    Attributes:
        number: for `series` of a job.
        modality: CT, MR, PT or NM.
        description: free text of the file. It is data, not markup.
        slices: how many.
        spacing: (z, y, x) mm.
        suitable: whether it can be segmented.
        remark: what speaks against it.
    """

    number: int
    modality: str
    description: str
    slices: int
    spacing: list[float]
    suitable: bool
    remark: str


@dataclass(frozen=True)
class ScanAnswer:
    """A scan that was uploaded.

    Attributes:
        scan: for `scan` of a job.
        kind: "image", or "dicom".
        shape: (z, y, x) voxels of an image; null for DICOM.
        spacing: (z, y, x) mm of an image; null for DICOM.
        bytes: of its files.
        series: of DICOM.
        chosen: number of the series that is taken where a job names none; null where it must name one.
    """

    scan: str
    kind: Literal["image", "dicom"]
    shape: list[int] | None
    spacing: list[float] | None
    bytes: int
    series: list[SeriesAnswer] = field(default_factory=list)
    chosen: int | None = None


@dataclass(frozen=True)
class JobAnswer:
    """A job.

    Attributes:
        job: its name, which cannot be guessed.
        scan: what is segmented.
        state: see `State`.
        stage: see `Stage`.
        ahead: jobs that run before this one.
        window: windows that are done.
        windows: windows in all; 0 while it is not known.
        progress: 0 to 1, never less than before.
        seconds_left: about how long it still takes; null while it is not known.
        error: why it failed, as a sentence.
        warnings: sentences that users of the labels should read.
        created: time, ISO 8601, UTC.
        erased_at: when the job and its results are erased.
        model: that segments.
        series: of DICOM.
    """

    job: str
    scan: str
    state: State
    stage: Stage
    ahead: int
    window: int
    windows: int
    progress: float
    seconds_left: float | None
    error: str | None
    warnings: list[str]
    created: str
    erased_at: str
    model: str
    series: int | None


@dataclass(frozen=True)
class StructureAnswer:
    """What was found of a structure.

    Attributes:
        value: in the label map.
        name: such as "liver".
        group: such as "organs"; empty if it has none.
        color: such as "#aabbcc".
        volume_mm3: its volume.
        mean: of the scan's values inside; Hounsfield units for CT.
        voxels: how many.
        centroid: (x, y, z) mm, RAS+.
        warnings: what makes it doubtful.
    """

    value: int
    name: str
    group: str
    color: str
    volume_mm3: float
    mean: float
    voxels: int
    centroid: list[float]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ClassScore:
    """How well a structure agrees with a reference.

    Attributes:
        name: such as "liver".
        dsc: Dice similarity coefficient, 0 to 1; null where neither has the structure.
        hd95_mm: 95th percentile of the distance between the surfaces; null where one lacks the structure.
    """

    name: str
    dsc: float | None
    hd95_mm: float | None


@dataclass(frozen=True)
class ReferenceAnswer:
    """How well a result agrees with a reference.

    Attributes:
        classes: in the order of the labels.
    """

    classes: list[ClassScore]


@dataclass(frozen=True)
class SessionAnswer:
    """Who is signed in.

    Attributes:
        user: the name that belongs to the token.
    """

    user: str


@dataclass(frozen=True)
class ErrorAnswer:
    """Why a request was refused.

    Attributes:
        error: one sentence.
    """

    error: str

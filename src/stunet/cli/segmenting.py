"""What `stunet predict` and `stunet batch` have in common: how scans are segmented, and what is written."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from stunet.cli.command import Options
from stunet.cli.output import Switch

if TYPE_CHECKING:
    from stunet.batch.dicom_scans import DicomChoice
    from stunet.weights.catalogue import CatalogueEntry

FormatName = Literal["nifti", "nrrd", "seg.nrrd", "dicom-seg", "dicom-seg-binary", "rtstruct"]
"""The names in `stunet.batch.formats.FORMATS`, which is slow to import."""

FAST_MM = 3.0
"""The grid spacing of `--fast`, as in TotalSegmentator."""


@dataclass(kw_only=True)
class Segmenting(Options):
    """The options of commands that segment scans."""

    model: Annotated[str | None, tyro.conf.arg(aliases=["-m"], metavar="MODEL")] = None
    """A trained model: a name (`stunet models` lists them), a .safetensors or .model file, or a model folder of nnU-Net
    v2."""
    folds: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["-f"], metavar="FOLD...")] = ()
    """Folds of a model folder to average. Default: all trained folds."""
    classes: tuple[str, ...] = ()
    """Write only these structures. Default: all. A quick first pass finds them, then only what is near is processed."""
    whole_scan: Switch = False
    """With --classes, process the whole scan. Slower; finds parts that a first pass can miss."""
    format: Annotated[
        tuple[FormatName, ...],
        tyro.conf.arg(metavar="FORMAT..."),
    ] = ()
    """Formats of the labels, one or more of nifti, nrrd, seg.nrrd, dicom-seg, dicom-seg-binary, rtstruct. Default: from
    the name of -o (.dcm: dicom-seg), nifti in a folder."""
    codes: Path | None = None
    """TOML file with codes for your own structures, for DICOM results."""
    separate: Switch = False
    """Write one mask per structure into the folder -o."""
    statistics: Switch = False
    """Write volume, intensity, centroid and bounding box of each structure (.statistics.json)."""
    preview: Switch = False
    """Write a picture (.preview.png)."""
    itksnap: Switch = False
    """Write names and colours for ITK-SNAP (.itksnap.txt)."""
    slicer: Switch = False
    """Write names and colours for 3D Slicer (.ctbl)."""
    probabilities: Switch = False
    """Write one probability map per structure into a folder (.probabilities). Large: use --classes."""
    series: Annotated[str | None, tyro.conf.arg(metavar="NUMBER|UID|all")] = None
    """DICOM series to segment, as listed by `stunet series`. Default: the only one, or the one that is clearly best; if
    -o is a folder, one per study."""
    strict_geometry: Switch = False
    """Refuse DICOM series with a tilted gantry or uneven gaps, instead of resampling them."""
    suv: Switch = False
    """Convert PET activity (DICOM, Bq/ml) to SUV by body weight."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """auto, cpu, cuda, cuda:N or mps. auto: a CUDA GPU if there is one, else the CPU."""
    backend: Literal["auto", "torch", "openvino", "onnx"] = "auto"
    """What runs the network. auto: the fastest that is installed."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the network. auto: float16 on CUDA, bfloat16 with OpenVINO if the CPU has it, each if the model
    keeps its labels (checked on the first scan); else float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the network with torch. The first start takes a minute or more, later ones seconds. auto: off."""
    mirror: Switch = False
    """Average over mirrored copies: up to eight times slower, slightly more accurate."""
    step: float = 0.5
    """Distance between windows as a fraction of the window. Larger is faster and changes the labels."""
    skip_air: Switch = False
    """Process only the body and 20 mm around it (CT only). Faster, and changes labels slightly."""
    fast: Switch = False
    """Work on a grid of 3 mm if the model's is finer. Up to eight times faster, but changes the labels."""

    @property
    def dicom(self) -> "DicomChoice":
        """Which DICOM series, and how they are read."""
        from stunet.batch.dicom_scans import DicomChoice

        return DicomChoice(self.series, self.strict_geometry, self.suv)

    @property
    def inference(self) -> dict[str, Any]:
        """The fields of an `InferenceConfig`."""
        return {
            "step": self.step,
            "mirror": self.mirror,
            "classes": self.classes,
            "whole_scan": self.whole_scan,
            "skip_air": self.skip_air,
            "least_spacing": FAST_MM if self.fast else None,
            "device": self.device,
            "backend": self.backend,
            "precision": self.precision,
            "compiled": self.compile == "on",
        }

    @property
    def written(self) -> dict[str, Any]:
        """The fields of `Outputs`, but for DICOM's."""
        return {
            "separate": self.separate,
            "statistics": self.statistics,
            "preview": self.preview,
            "itksnap": self.itksnap,
            "probabilities": self.probabilities,
            "slicer": self.slicer,
            "formats": self.format,
        }


def which_model(kind: str | None = None) -> str:
    """The message if no model was given; `kind` is a sentence on what the scan looks like."""
    from stunet.weights.catalogue import CATALOGUE

    rows = [f"  -m {entry.name:<12} {entry.task}, {_origin(entry)}" for entry in CATALOGUE.values()]
    return "\n".join(
        [
            "Which model? Add -m with one of these, a model file, or a model folder. For CT, start with -m base.",
            "Larger models are more accurate and slower.",
            *rows,
            *([] if kind is None else [kind]),
        ]
    )


def _origin(entry: "CatalogueEntry") -> str:
    """Where a model comes from, and the size of the download."""
    if entry.repository is None:
        return "comes with stunet"
    return f"{entry.approximate_bytes / 1e6:,.0f} MB to download"

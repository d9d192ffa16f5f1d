"""The catalogue of named models, their sources and licences.

Models are downloaded from the Hugging Face Hub, or from the mirror in `HF_ENDPOINT`, as in other programs that use the
Hub. They are stored in `STUNET_HOME/models` (`~/.stunet/models`), for example `base.safetensors`.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from stunet.errors import UnknownNameError
from stunet.files import home_folder
from stunet.weights.published import CITATION


@dataclass(frozen=True)
class CatalogueEntry:
    """One named model.

    Attributes:
        name: the name that users type.
        size: size of the network, a key of `stunet.networks.stunet.SIZES`.
        modality: modality of the images: "CT" or "MR".
        segments: description of the segmented structures.
        licence: licence of the weights.
        repository: repository on the Hugging Face Hub; None for a model included in stunet.
        file: file in the repository, or in the package's folder `bundled`.
        approximate_bytes: size of that file.
        citation: the paper to cite.
        extent_mm: extent (Z, Y, X) of the training images; None if they show any part of the body.
        revision: the commit of the repository to download from; None for the newest.
        sha256: hash of the file, in hexadecimal digits; None if it is not known, as for the published weights.
    """

    name: str
    size: str
    modality: str
    segments: str
    licence: str
    repository: str | None
    file: str
    approximate_bytes: int
    citation: str = CITATION
    extent_mm: tuple[float, float, float] | None = None
    revision: str | None = None
    sha256: str | None = None

    @property
    def task(self) -> str:
        """Modality and structures in one line."""
        return f"{self.modality}, {self.segments}"

    @property
    def path(self) -> Path:
        """Where its model file is, or will be after the download."""
        if self.repository is None:
            return Path(str(files(__package__) / "bundled" / self.file))
        return models_folder() / f"{self.name}.safetensors"

    @property
    def is_here(self) -> bool:
        """Whether the model is on this machine. If not, it is downloaded on first use."""
        return self.path.is_file()


def _published(size: str, approximate_bytes: int) -> CatalogueEntry:
    return CatalogueEntry(
        name=size,
        size=size,
        modality="CT",
        segments="104 structures (TotalSegmentator v1)",
        licence="Apache-2.0",
        repository="ziyanhuang/STU-Net",
        file=f"{size}_ep4k.model",
        approximate_bytes=approximate_bytes,
    )


CATALOGUE: dict[str, CatalogueEntry] = {
    "hippocampus": CatalogueEntry(
        name="hippocampus",
        size="tiny",
        modality="MR",
        segments="anterior and posterior hippocampus (Medical Segmentation Decathlon, task 4)",
        licence="CC-BY-SA-4.0",
        repository=None,
        file="hippocampus.safetensors",
        approximate_bytes=29_200_000,
        extent_mm=(36.0, 50.0, 35.0),
        sha256="cc9892c9f80af175b75185242775a97615947b9ee00998237ed4d9c83d49b7a4",
    ),
    "small": _published("small", 117_000_000),
    "base": _published("base", 467_000_000),
    "large": _published("large", 3_520_000_000),
    "huge": _published("huge", 11_700_000_000),
}
"""Sizes as on the Hub. Published files also contain the optimiser's momentum; our model files are half as large.

Their revisions and hashes are not known: nobody who wrote stunet could download them. So the first download is trusted
and recorded.
"""


def models_folder() -> Path:
    """The folder of downloaded models: `STUNET_HOME/models`, by default `~/.stunet/models`."""
    return home_folder() / "models"


def list_models() -> tuple[CatalogueEntry, ...]:
    """List all models of the catalogue: structures, licences and sources."""
    return tuple(CATALOGUE.values())


def entry_named(name: str) -> CatalogueEntry:
    """The catalogue's entry of a name.

    Raises:
        UserError: the name is not in the catalogue.
    """
    if name not in CATALOGUE:
        raise UnknownNameError.of("model", name, CATALOGUE)
    return CATALOGUE[name]

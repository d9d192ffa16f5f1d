"""What a batch does with each scan: written down once in DEST, so that any worker on any machine does the same."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet.batch.dicom_scans import DicomChoice
from stunet.batch.ledger import LEDGER, Ledger
from stunet.batch.outputs import Outputs
from stunet.errors import FileError, UserError
from stunet.files import read_json_object
from stunet.imaging.formats.dicom_results import DicomDetails

if TYPE_CHECKING:
    from stunet.inference.config import InferenceConfig

BATCH = "batch.json"
"""In the ledger: the settings."""

MODEL = "model.json"
"""In the ledger: the model that the first worker loaded. All others must have the same."""

TABLES = ("inference", "written", "dicom")
"""The fields of the settings that are tables."""

DIGESTS = ("card_sha256", "weights_sha256")


@dataclass(frozen=True)
class BatchSettings:
    """What is done with each scan.

    Attributes:
        model: as the user names it; a path is absolute.
        channels: that the model takes, as it calls them; known once its card has been read.
        folds: of a model folder; empty for all.
        inference: the fields of an `InferenceConfig`.
        written: the fields of `Outputs` but for DICOM's.
        codes: an absolute path of a TOML file with codes for DICOM results; None for stunet's own codes.
        dicom: which DICOM series are segmented, and how they are read.
    """

    model: str
    channels: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()
    inference: dict[str, Any] = field(default_factory=dict)
    written: dict[str, Any] = field(default_factory=dict)
    codes: str | None = None
    dicom: DicomChoice = field(default_factory=DicomChoice)

    @property
    def config(self) -> "InferenceConfig":
        """How to predict."""
        from stunet.inference.config import InferenceConfig

        return InferenceConfig(**{**self.inference, "classes": tuple(self.inference.get("classes", ()))})

    @property
    def chosen_folds(self) -> list[int | str] | None:
        """The folds as `load_model` takes them."""
        return [int(fold) if fold.isdigit() else fold for fold in self.folds] or None

    def outputs(self) -> Outputs:
        """What is written for each scan.

        Raises:
            UserError: codes that cannot be read.
        """
        from stunet.labels.codes import read_codes

        written = {**self.written, "formats": tuple(self.written.get("formats", ()))}
        return Outputs(**written, dicom=DicomDetails(read_codes(Path(self.codes)) if self.codes else {}))

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @staticmethod
    def from_dict(content: dict[str, Any]) -> "BatchSettings":
        """What `to_dict` wrote.

        Raises:
            KeyError, TypeError: something else.
        """
        if not isinstance(content["model"], str) or not all(isinstance(content[name], dict) for name in TABLES):
            raise TypeError("model is a text, inference, written and dicom are tables")
        tuples = {name: tuple(content[name]) for name in ("channels", "folds")}
        return BatchSettings(**{**content, **tuples, "dicom": DicomChoice(**content["dicom"])})


@dataclass(frozen=True)
class BatchFolder:
    """DEST: the outputs, and beside them the folder with the ledger.

    Attributes:
        path: of DEST, as `stunet.batch.place.place` gives it.
    """

    path: Path

    @property
    def ledger(self) -> Path:
        """The folder with all that is known of the batch."""
        return self.path / LEDGER

    @property
    def workers(self) -> Path:
        """The folder with what is known of the workers."""
        return self.ledger / "workers"

    def settings(self) -> BatchSettings:
        """What the batch does.

        Raises:
            UserError: there is no batch, or its settings cannot be read.
        """
        path = self.ledger / BATCH
        if not path.exists():
            raise FileError(f"{self.path}: there is no batch. Start one with stunet batch SOURCE -o {self.path}.")
        try:
            return BatchSettings.from_dict(read_json_object(path))
        except (KeyError, TypeError) as error:
            raise FileError(f"{path}: was not written by this version of stunet ({error}).") from error

    def start(self, settings: BatchSettings) -> None:
        """Write the settings down; or, where there is a batch already, compare them.

        Raises:
            UserError: the folder cannot be written, or holds a batch with other settings.
        """
        if Ledger(self.ledger).create(self.ledger / BATCH, settings.to_dict()):
            return
        if differing := _difference(self.settings(), settings):
            raise UserError(
                f"{self.path}: holds a batch with other settings ({differing}). Give the same settings to go on with "
                "it, or another folder."
            )


def model_digests(folder: BatchFolder) -> dict[str, Any]:
    """By which a batch knows its model; empty before the first worker has loaded it.

    Raises:
        UserError: the file cannot be read.
    """
    path = folder.ledger / MODEL
    described = read_json_object(path) if path.is_file() else {}
    return {name: described[name] for name in DIGESTS if name in described}


def _difference(before: BatchSettings, now: BatchSettings) -> str:
    """What of two batches' settings differs, in words."""
    pairs = [(one.name, getattr(before, one.name), getattr(now, one.name)) for one in fields(BatchSettings)]
    flat = []
    for name, old, new in pairs:
        if isinstance(old, dict):
            flat += [(key, old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new])]
        else:
            flat.append((name, old, new))
    return ", ".join(f"{name} was {old}, now {new}" for name, old, new in flat if _plain(old) != _plain(new))


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=vars))

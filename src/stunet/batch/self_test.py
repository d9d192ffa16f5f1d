"""Segment a phantom in all orientations, from all formats and with all backends, and compare with its known labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from stunet.batch.phantom import phantom, phantom_model
from stunet.errors import MissingPackageError, UserError
from stunet.files import made_folder
from stunet.imaging.formats.samples import FORMATS, ORIENTATIONS, canonical_labels, write_format, write_oriented
from stunet.imaging.volume import Volume
from stunet.inference.backends.registry import BACKENDS
from stunet.inference.predictor import InferenceConfig, Predictor

PLAIN = InferenceConfig(device="cpu", backend="torch", precision="float32")


@dataclass(frozen=True)
class Check:
    """The result of one comparison.

    Attributes:
        group: orientation, format or backend.
        name: which one.
        problem: what is wrong, as a sentence; None where the labels are right.
        is_skipped: whether it could not be tried, because an optional package is not installed.
    """

    group: str
    name: str
    problem: str | None = None
    is_skipped: bool = False

    @property
    def outcome(self) -> str:
        """In words."""
        return "not installed" if self.is_skipped else self.problem or "same labels"


@dataclass(frozen=True)
class _Trial:
    """A scan to write and to segment.

    Attributes:
        group: orientation, format or backend.
        name: which one.
        write: writes the phantom to a folder and returns what to segment.
        load: returns the predictor.
    """

    group: str
    name: str
    write: Callable[[Volume, Path], Path]
    load: Callable[[], Predictor]

    def compared(self, folder: Path, scan: Volume, labels_ZYX: np.ndarray) -> Check:
        """From a written scan to a written label map, and what of it differs."""
        result = folder / f"{self.group} {self.name}.nii.gz"
        try:
            self.load().predict(self.write(scan, made_folder(folder / f"{self.group} {self.name}"))).save(result)
        except MissingPackageError:
            return Check(self.group, self.name, is_skipped=True)
        except UserError as error:
            return Check(self.group, self.name, str(error))
        return Check(self.group, self.name, next(_differences(result, scan, labels_ZYX), None))


def self_test(on_check: Callable[[int, int], None] = lambda done, total: None) -> list[Check]:
    """Run all checks. Nothing is kept, but for what backends cache.

    Args:
        on_check: called with how many checks are done, and how many there are.
    """
    scan, labels_ZYX = phantom()
    predictor = Predictor(phantom_model(), PLAIN)
    with TemporaryDirectory(prefix="stunet-self-test-") as folder:
        trials = [
            *(_Trial("orientation", name, partial(_oriented, name), lambda: predictor) for name in ORIENTATIONS),
            *(_Trial("format", name, partial(_formatted, name), lambda: predictor) for name in FORMATS),
            *(_Trial("backend", name, partial(_oriented, "LPS"), partial(_predictor_on, name)) for name in BACKENDS),
        ]
        checks = []
        for trial in trials:
            checks.append(trial.compared(Path(folder), scan, labels_ZYX))
            on_check(len(checks), len(trials))
        return checks


def _predictor_on(backend: str) -> Predictor:
    """With the device and the precision that a user gets."""
    return Predictor(phantom_model(), InferenceConfig(backend=backend))


def _oriented(orientation: str, scan: Volume, folder: Path) -> Path:
    path = folder / "scan.nii"
    write_oriented(scan, orientation, path)
    return path


def _formatted(format_name: str, scan: Volume, folder: Path) -> Path:
    return write_format(scan, format_name, folder)


def _differences(result: Path, scan: Volume, labels_ZYX: np.ndarray) -> Iterator[str]:
    found_ZYX, affine = canonical_labels(result)
    if found_ZYX.shape != labels_ZYX.shape:
        yield f"The labels have {found_ZYX.shape} voxels instead of {labels_ZYX.shape}."
    elif not np.allclose(affine, scan.affine, atol=1e-3):
        yield "The labels lie at another place in the patient than the scan."
    elif count := int((found_ZYX != labels_ZYX).sum()):
        yield f"{count} of {labels_ZYX.size} voxels have another label."

"""Verify one label map: whether it is whole, how it was made, and whether running again gives it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stunet.batch.label_record import damages, record_of
from stunet.batch.prediction_record import labels_of
from stunet.errors import UserError, listed
from stunet.files import existing_file
from stunet.imaging.formats.registry import READERS, has_suffix, read_labels
from stunet.imaging.volume import Volume, check_same_grid

if TYPE_CHECKING:
    from stunet.inference.predictor import InferenceConfig


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Attributes:
        question: in a few words.
        answer: a sentence, or a name.
        is_good: False for what is wrong; None for what cannot be known.
    """

    question: str
    answer: str
    is_good: bool | None = True


@dataclass(frozen=True)
class Again:
    """With what to segment again.

    Attributes:
        scan: its channels; empty for what the record says.
        model: as `load_model` takes it; None for what the record says.
        folds: of a model folder; None for what the record says.
    """

    scan: tuple[Path, ...] = ()
    model: str | None = None
    folds: tuple[str, ...] | None = None

    def completed(self, record: Mapping[str, Any]) -> "Again":
        """With what the record says, where nothing is given."""
        scan = self.scan or tuple(map(Path, record.get("scan_paths", ())))
        model = self.model or record.get("model", {}).get("source")
        return Again(scan, model, tuple(record.get("folds", ())) if self.folds is None else self.folds)


def verify_labels(labels: Path, again: Again | None = None) -> list[Finding]:
    """Answer what can be known of a label map.

    Args:
        labels: the file, where it was written: its record is beside it, in the folder's report, or in a ledger.
        again: with what to segment again; None not to.

    Raises:
        UserError: there is no such file, or a record that cannot be read.
    """
    existing_file(labels)
    record = record_of(labels)
    volume, whole = _read(labels)
    findings = [whole, *_recorded(labels, record, volume)]
    return findings if volume is None or again is None else [*findings, _again(again.completed(record), record, volume)]


def _read(labels: Path) -> tuple[Volume | None, Finding]:
    if not has_suffix(labels, READERS):
        return None, Finding("complete and readable", "this format is not read; only its hash is compared", None)
    try:
        volume = read_labels(labels)
    except UserError as error:
        return None, Finding("complete and readable", str(error), False)
    size = " x ".join(map(str, volume.shape[::-1]))
    return volume, Finding(
        "complete and readable", f"yes: {size} voxels, {len(np.unique(volume.array)) - 1} structures"
    )


def _recorded(labels: Path, record: Mapping[str, Any], volume: Volume | None) -> list[Finding]:
    if not record:
        return [Finding("record", "there is none, so it is not known how these labels were made", None)]
    model, backend = record["model"], record.get("backend", {})
    versions = (f"{name} {record['versions'][name]}" for name in ("stunet", "torch") if name in record["versions"])
    changed = {name: value for name, value in record["settings"].items() if value not in (None, False, "auto", [], ())}
    settings = ", ".join(f"{name} {value}" for name, value in changed.items())
    return [
        Finding("model", f"{model.get('name')} ({model.get('source')}), card {str(model.get('card_sha256'))[:12]}"),
        Finding("made with", f"{', '.join(versions)}, {backend.get('name')} in {backend.get('precision')}"),
        Finding("settings", settings),
        _hash(labels, record),
        *([] if volume is None else _values(record, volume)),
    ]


def _hash(labels: Path, record: Mapping[str, Any]) -> Finding:
    written = {name: one for name, one in record.get("outputs", {}).items() if name == labels.name}
    if not written:
        return Finding("hash", "the record has none of this file", None)
    problem = next(damages(labels.parent, written), None)
    return Finding("hash", problem or "the recorded one", problem is None)


def _values(record: Mapping[str, Any], volume: Volume) -> list[Finding]:
    """Labels that the model does not have, where there are any."""
    names = labels_of(record).names
    unknown = sorted({int(value) for value in np.unique(volume.array)} - {0, *names})
    if not names or not unknown:
        return []
    return [Finding("labels", f"the model has no label {listed(unknown)}", False)]


def _again(again: Again, record: Mapping[str, Any], volume: Volume) -> Finding:
    """Segment again, and compare voxel by voxel."""
    question = "segmented again"
    missing = [name for name, value in (("scan (-i)", again.scan), ("model (-m)", again.model)) if not value]
    gone = [str(path) for path in again.scan if not path.exists()]
    if missing or gone:
        what = f"{listed(gone)} is not there; give -i" if gone else f"give the {listed(missing)}"
        return Finding(question, f"not tried: {what}", None)
    try:
        return Finding(question, *_compared(again, record, volume))
    except UserError as error:
        return Finding(question, str(error), False)


def _compared(again: Again, record: Mapping[str, Any], volume: Volume) -> tuple[str, bool | None]:
    from stunet.inference.predictor import Predictor
    from stunet.weights.model import load_model

    assert again.model is not None
    model = load_model(again.model, [int(fold) if fold.isdigit() else fold for fold in again.folds or ()] or None)
    recorded = record.get("model", {}).get("card_sha256", model.card.sha256)
    if model.card.sha256 != recorded:
        return f"{again.model} is another model than the recorded one (card {model.card.sha256[:12]})", False
    segmentation = Predictor(model, _config(record.get("settings", {}))).predict(list(again.scan))
    check_same_grid(segmentation.scan, volume)
    differing = int((segmentation.labels != volume.array[0]).sum())
    if not differing:
        return "gives the same labels", True
    said = f"{differing:,} of {segmentation.labels.size:,} voxels get another label"
    return (f"{said}{_changed(record)}", False) if record else (f"{said} with the default settings", None)


def _config(settings: Mapping[str, Any]) -> "InferenceConfig":
    from stunet.inference.predictor import InferenceConfig

    return InferenceConfig(**{**settings, "classes": tuple(settings.get("classes", ()))})


def _changed(record: Mapping[str, Any]) -> str:
    """Versions that changed since, which may be why."""
    from stunet.batch.prediction_record import installed_versions

    now, then = installed_versions(), record.get("versions", {})
    changed = [f"{name} {then[name]}, now {now.get(name)}" for name in then if name in now and now[name] != then[name]]
    return f" ({listed(changed)})" if changed else ""


def problems(findings: Sequence[Finding]) -> list[Finding]:
    """What is wrong."""
    return [finding for finding in findings if finding.is_good is False]

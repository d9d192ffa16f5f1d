"""The readers of foreign files, each with the strategy that damages what it reads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from stunet.batch.label_record import record_of
from stunet.batch.manifest import read_manifest
from stunet.batch.settings import BatchFolder, model_digests
from stunet.batch.status import BatchReader, status_of
from stunet.batch.table import row_of
from stunet.batch.verify import verify_batch
from stunet.confined import Reader, answer_of, value_in
from stunet.files import read_json_object
from stunet.imaging.formats.registry import read_volume
from stunet.labels.codes import read_codes
from stunet.labels.mapping import load_mapping
from stunet.plans.labels import read_label_table
from stunet.plans.nnunet import dataset_from, plans_from, read_plans_file
from stunet.plans.raw_dataset import read_raw_dataset
from stunet.weights.checkpoint import read_checkpoint
from stunet.weights.model_file import build_network_from, read_model
from tests.fuzz.damage import Files, damaged_bytes, damaged_file
from tests.fuzz.damage_dicom import damaged_dicom, damaged_zip
from tests.fuzz.damage_headers import damaged_nifti, damaged_text_header
from tests.fuzz.damage_pickles import damaged_checkpoint, damaged_pickle
from tests.fuzz.damage_text import damaged_json, damaged_model, damaged_toml

Damage = Callable[[bytes], st.SearchStrategy[bytes]]


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        read: reads the files in a folder.
        damage: of one of the files.
        sources: the source files of stunet that do the reading, as patterns; their coverage counts.
    """

    read: Callable[[Path], object]
    damage: Damage
    sources: tuple[str, ...]

    def damaged(self, files: Files) -> st.SearchStrategy[Files]:
        """The files with one of them damaged."""
        return damaged_file(files, self.damage)


def _only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def _read_image(folder: Path) -> bool:
    return bool(np.asarray(read_volume(_only(folder)).array).any())


def _read_pair(folder: Path) -> bool:
    return bool(np.asarray(read_volume(folder / "scan.hdr").array).any())


def _read_dicom(folder: Path) -> bool:
    return bool(np.asarray(read_volume(folder).array).any())


def _read_model(folder: Path) -> object:
    weights, card = read_model(_only(folder))
    return build_network_from(card, weights) if card.members == 1 else card


def _read_checkpoint(folder: Path) -> object:
    with _in_this_process("stunet.weights.checkpoint.read_confined"):
        checkpoint = read_checkpoint(_only(folder))
    return [tensor.sum() for tensor in checkpoint.state_dict.values()], dataset_from(checkpoint.dataset)


def _read_plans(folder: Path) -> object:
    with _in_this_process("stunet.plans.nnunet.read_confined"):
        return plans_from(read_plans_file(_only(folder)))


@contextmanager
def _in_this_process(read_confined: str) -> Iterator[None]:
    """Read pickles here: a process for each would take a hundred times as long. Too little memory ends the reading."""

    def read(reader: Reader, path: Path) -> Any:
        with path.open("rb") as file:
            try:
                text = answer_of(reader, file, path)
            except MemoryError:
                text = ""
        return value_in(text, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_confined, read)
        yield


def _read_dataset(folder: Path) -> object:
    path = _only(folder)
    return dataset_from(read_json_object(path), path), read_label_table(path), read_raw_dataset(folder)


def _read_ledger(folder: Path) -> object:
    batch = BatchFolder(folder)
    reader = BatchReader(batch)
    records = reader.records()
    live = reader.live()
    read = (status_of(records, live), list(map(row_of, records)), model_digests(batch), verify_batch(batch))
    return *read, [record_of(folder / f"{record.scan.name}.nii.gz") for record in records]


DICOM_SOURCES = ("imaging/formats/dicom/*.py",)

TARGETS: dict[str, Target] = {
    "nifti": Target(_read_image, damaged_nifti, ("imaging/formats/nifti*.py",)),
    "analyze": Target(_read_pair, damaged_bytes, ("imaging/formats/nifti*.py",)),
    "nrrd": Target(_read_image, damaged_text_header, ("imaging/formats/itk.py",)),
    "metaimage": Target(
        _read_image, lambda content: damaged_text_header(content, b"LOCAL\n"), ("imaging/formats/itk.py",)
    ),
    "mgh": Target(_read_image, damaged_bytes, ("imaging/formats/mgh.py",)),
    "dicom": Target(_read_dicom, damaged_dicom, DICOM_SOURCES),
    "zip": Target(_read_image, damaged_zip, DICOM_SOURCES),
    "checkpoint": Target(_read_checkpoint, damaged_checkpoint, ("weights/checkpoint.py", "weights/saved_tensors.py")),
    "plans_pickle": Target(_read_plans, damaged_pickle, ("plans/plain_pickle.py", "plans/nnunet.py", "confined.py")),
    "model": Target(_read_model, damaged_model, ("weights/model_file.py", "plans/network_spec.py")),
    "plans": Target(_read_plans, damaged_json, ("plans/nnunet.py", "plans/preprocessing.py")),
    "dataset": Target(_read_dataset, damaged_json, ("plans/nnunet.py", "plans/labels.py", "plans/raw_dataset.py")),
    "mapping": Target(lambda folder: load_mapping(_only(folder)), damaged_toml, ("labels/mapping.py",)),
    "codes": Target(lambda folder: read_codes(_only(folder)), damaged_toml, ("labels/codes.py",)),
    "manifest": Target(lambda folder: read_manifest(_only(folder), 2), damaged_bytes, ("batch/manifest.py",)),
    "ledger": Target(
        _read_ledger, damaged_json, ("batch/ledger.py", "batch/listing.py", "batch/status.py", "batch/settings.py")
    ),
}

"""Small files and folders in place of those that the pages speak of, by the names that they have there."""

import datetime
import json
import pickle
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stunet.datasets import amos22, msd
from stunet.datasets.raw import dataset_description
from stunet.experiments.mini_data import HIPPOCAMPUS
from stunet.labels.codes import read_codes
from stunet.labels.ontology import LABELS
from stunet.networks.registry import build, network_spec
from stunet.weights.model_file import save_model
from tests.conftest import REPOSITORY
from tests.datasets import published
from tests.docs.blocks import blocks_of
from tests.inference.samples import STRIDES, card, plan
from tests.phantoms import write_dicom_series
from tests.weights import samples

COARSE = plan(spacing=(6.0, 6.0, 6.0), patch_size=(16, 32, 32))
"""Few windows cover a CT."""


def write_certificate(certificate: Path, key: Path) -> None:
    """A certificate for ct.example.org that nobody signed."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ct.example.org")])
    private, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(subject, subject, private.public_key(), x509.random_serial_number())
    signed = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate.write_bytes(signed.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(private.private_bytes(*form))


def copy_into(folder: Path, files: Iterable[Path], shift: int = 0) -> None:
    """Copies of images, moved by some voxels."""
    folder.mkdir()
    for file in files:
        image = nibabel.load(file)
        array = np.roll(np.asarray(image.dataobj), shift, axis=0)
        nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), folder / file.name)


def write_series(folder: Path, study: str, series: str) -> list[Path]:
    """Some slices of `ct.nii.gz` as DICOM."""
    slices = np.asarray(nibabel.load("ct.nii.gz").dataobj).T[:8].astype(np.int16)
    uids = {"FrameOfReferenceUID": "1.2.3.7", "StudyInstanceUID": study, "SeriesInstanceUID": series}
    paths = write_dicom_series(folder, slices, **uids)
    for number, path in enumerate(paths, start=1):
        instance = pydicom.dcmread(path)
        instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
        instance.save_as(path)
    return paths


def write_hippocampi(raw: Path, source: Path, names: Iterable[str]) -> None:
    """Copies of some cases, in nnU-Net's raw layout."""
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    names = list(names)
    for name in names:
        for file in (f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"):
            shutil.copy(source / file, raw / file)
    states = json.loads((source / "dataset.json").read_text()) | {"numTraining": len(names)}
    (raw / "dataset.json").write_text(json.dumps(states))


def write_base(folder: Path, size: str) -> None:
    """`base` as if it had been downloaded: a network of some size with random weights."""
    network = build(network_spec(size, 1, 105, strides=STRIDES))
    named = replace(card(network, COARSE), name="base", labels=LABELS, channels=("CT",))
    save_model(folder / "base.safetensors", network.state_dict(), named)


def write_decathlon(root: Path, source: Path) -> None:
    """The cases of the mini experiments, as the Decathlon publishes them."""
    published.hippocampi(source, root, [*HIPPOCAMPUS.split.train, *HIPPOCAMPUS.split.val])


def _spleen(folder: Path) -> None:
    task = msd.TASKS["Spleen"]
    published.msd(folder, list(task.channels), list(task.labels), 3, 1)


def _totalsegmentator(folder: Path) -> None:
    parts = ("train", "train", "train", "train", "val", "test")
    published.totalsegmentator(folder, {f"s{number:04d}": part for number, part in enumerate(parts)})


def _abdomen(folder: Path) -> None:
    """Two small CT with three labels of the many, as nnU-Net's raw layout has them."""
    for case in range(2):
        published.write_nifti(folder / "imagesTr" / f"case_{case}_0000.nii.gz", published.scan(case))
        published.write_nifti(folder / "labelsTr" / f"case_{case}.nii.gz", published.blocks(1, 2, 3))
    described = dataset_description(("CT",), ("background", "one", "two", "three"), 2)
    (folder / "dataset.json").write_text(json.dumps(described))


def _official_file(path: Path) -> None:
    samples.write_v1(path, samples.network("base", 1, 105).state_dict())


def _own_file(path: Path) -> None:
    samples.write_v1(path, samples.network().state_dict())
    path.with_name(f"{path.name}.pkl").write_bytes(pickle.dumps(samples.v1_plans()))


def _model_with_codes(codes: Path) -> None:
    """The page's `codes.toml`, and a model with these classes."""
    (block,) = (block for block in blocks_of(REPOSITORY / "docs" / "dicom.md") if block.language == "toml")
    codes.write_text(block.text)
    network = build(network_spec("tiny", 1, 3, strides=STRIDES))
    named = replace(card(network, COARSE), labels=("background", *read_codes(codes)), channels=("CT",))
    save_model(codes.with_name("my_model.safetensors"), network.state_dict(), named)


STAND_INS: dict[str, Callable[[Path], object]] = {
    "Totalsegmentator_dataset": _totalsegmentator,
    "Task09_Spleen": _spleen,
    "amos22 amos22": lambda path: published.amos22(path.with_name("amos22"), amos22.LABELS, Tr=[1, 507], Va=[508]),
    "FLARE22 --id": lambda path: published.flare22(path.with_name("FLARE22"), 3),
    "FDG-PET-CT-Lesions": lambda path: published.autopet22(path, {f"PETCT_{n}": [True, n == 0] for n in range(5)}),
    "Dataset011_BTCV": _abdomen,
    "Dataset560_WORD": _abdomen,
    "base_ep4k.model": _official_file,
    "my.model": _own_file,
    "codes.toml": _model_with_codes,
    "results/.../STUNetTrainer_small__STUNetPlans_small__3d_fullres": samples.write_folder,
}
"""By what a page says, the function that writes it. Only pages that say so get it."""

SHARED = ("Dataset004_Hippocampus", "Dataset901_STSPET", "totalseg_example")
"""Folders of real images that pages name."""

"""Miniatures of published datasets, in the folder layout in which they were published."""

import json
from pathlib import Path

import nibabel
import numpy as np

from stunet.datasets.msd import TASKS
from stunet.labels.ontology import LABELS
from tests.phantoms import smooth_scan

SHAPE = (6, 8, 10)
"""(Z, Y, X) of every miniature."""


def write_nifti(path: Path, array: np.ndarray, spacing_xyz: tuple[float, float, float] = (1.5, 1.5, 1.5)) -> Path:
    """Write (Z, Y, X), or (C, Z, Y, X) as a 4D file, with nibabel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.transpose(), np.diag([*spacing_xyz, 1.0])), path)
    return path


def scan(seed: int) -> np.ndarray:
    """(Z, Y, X) int16."""
    return smooth_scan(SHAPE, seed)


def blocks(*labels: int) -> np.ndarray:
    """A label map (Z, Y, X) whose slices hold one label each, the last slice background."""
    array = np.zeros(SHAPE, np.uint8)
    for z, label in enumerate(labels):
        array[z] = label
    return array


def read(path: Path) -> np.ndarray:
    """(Z, Y, X) as nibabel reads it."""
    return np.asarray(nibabel.load(path).dataobj).transpose()


def totalsegmentator(root: Path, split: dict[str, str]) -> Path:
    """Version 1: a folder for each subject with 104 masks, and `meta.csv`.

    `aorta` fills slices 0 and 1, `liver` slices 1 and 2: they overlap in slice 1. Others are empty.
    """
    for number, subject in enumerate(split):
        write_nifti(root / subject / "ct.nii.gz", scan(number))
        for name in LABELS[1:]:
            mask = np.zeros(SHAPE, np.uint8)
            mask[{"aorta": slice(0, 2), "liver": slice(1, 3)}.get(name, slice(0, 0))] = 1
            write_nifti(root / subject / "segmentations" / f"{name}.nii.gz", mask)
    rows = [f"{subject};60;m;A;ct;{part}" for subject, part in split.items()]
    header = "\ufeffimage_id;age;gender;institute;study_type;split"  # published with a byte order mark
    (root / "meta.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return root


def msd(root: Path, channels: list[str], labels: list[str], training: int, test: int) -> Path:
    """A task of the Decathlon; images of several channels are 4D."""
    for number in range(training + test):
        part = "Tr" if number < training else "Ts"
        image = np.stack([scan(10 * number + channel) for channel in range(len(channels))])
        write_nifti(root / f"images{part}" / f"case_{number:03d}.nii.gz", image if len(channels) > 1 else image[0])
        if part == "Tr":
            write_nifti(root / "labelsTr" / f"case_{number:03d}.nii.gz", blocks(*range(1, len(labels))))
    names = [f"case_{number:03d}.nii.gz" for number in range(training + test)]
    description = {
        "name": root.name,
        "description": "a miniature",
        "licence": "CC-BY-SA 4.0",
        "modality": {str(number): channel for number, channel in enumerate(channels)},
        "labels": {str(number): label for number, label in enumerate(labels)},
        "numTraining": training,
        "numTest": test,
        "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names[:training]],
        "test": [f"./imagesTs/{name}" for name in names[training:]],
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def hippocampi(raw: Path, root: Path, names: list[str]) -> Path:
    """Links to real cases in nnU-Net's raw layout, as the Decathlon publishes them."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for name in names:
        (root / "imagesTr" / f"{name}.nii.gz").symlink_to(raw / "imagesTr" / f"{name}_0000.nii.gz")
        (root / "labelsTr" / f"{name}.nii.gz").symlink_to(raw / "labelsTr" / f"{name}.nii.gz")
    description = {
        "modality": {"0": "MRI"},
        "labels": {str(n): label for n, label in enumerate(TASKS["Hippocampus"].labels)},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def amos22(root: Path, labels: tuple[str, ...], **numbers: list[int]) -> Path:
    """`numbers`: part ("Tr", "Va", "Ts") -> numbers of its cases."""
    lists: dict[str, list[dict[str, str]]] = {}
    for part, key in (("Tr", "training"), ("Va", "validation"), ("Ts", "test")):
        names = [f"amos_{number:04d}.nii.gz" for number in numbers.get(part, [])]
        for number, name in zip(numbers.get(part, []), names, strict=True):
            write_nifti(root / f"images{part}" / name, scan(number))
            if part != "Ts":
                write_nifti(root / f"labels{part}" / name, blocks(1, 15))
        lists[key] = [{"image": f"./images{part}/{name}", "label": f"./labels{part}/{name}"} for name in names]
    description = {"modality": {"0": "CT"}, "labels": {str(n): name for n, name in enumerate(labels)}, **lists}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def flare22(root: Path, cases: int) -> Path:
    """The labelled part, as the challenge's download unpacks."""
    folder = root / "Training" / "FLARE22_LabeledCase50"
    for number in range(1, cases + 1):
        write_nifti(folder / "images" / f"FLARE22_Tr_{number:04d}_0000.nii.gz", scan(number))
        write_nifti(folder / "labels" / f"FLARE22_Tr_{number:04d}.nii.gz", blocks(1, 13))
    return root


def autopet22(root: Path, studies: dict[str, list[bool]]) -> Path:
    """`studies`: patient -> for each study whether it has a lesion."""
    for patient, lesions in studies.items():
        for number, has_lesion in enumerate(lesions):
            study = root / patient / f"05-0{number + 1}-2002-NA-PET-CT Ganzkoerper  primaer mit KM-4296{number}"
            for name, seed in (("CTres", 1), ("SUV", 2), ("CT", 3), ("PET", 4)):
                write_nifti(study / f"{name}.nii.gz", scan(seed).astype(np.float32))
            write_nifti(study / "SEG.nii.gz", blocks(*([1] if has_lesion else [])))
    return root

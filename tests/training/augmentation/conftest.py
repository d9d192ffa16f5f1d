"""A crop of real scans as nnU-Net's loader makes it, and nnU-Net's own transforms."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from tests.training.augmentation.samples import CROP, arguments


def _pad_to_crop(volume_ZYX: np.ndarray, outside: float) -> np.ndarray:
    margins = [(wanted - length) // 2 for wanted, length in zip(CROP, volume_ZYX.shape, strict=True)]
    padded = np.full(CROP, outside, volume_ZYX.dtype)
    inside = tuple(slice(max(m, 0), max(m, 0) + n) for m, n in zip(margins, volume_ZYX.shape, strict=True))
    padded[inside] = volume_ZYX[tuple(slice(0, i.stop - i.start) for i in inside)]
    return padded


@pytest.fixture(scope="session")
def crop(shared_data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Two channels (2, Z, Y, X), from two hippocampus cases, and the labels (1, Z, Y, X) of the first; -1 outside."""
    folder = shared_data / "Dataset004_Hippocampus"
    cases = json.loads((folder / "mini.json").read_text())["train"][:2]
    channels = []
    for case in cases:
        image_ZYX = nib.load(folder / f"imagesTr/{case}_0000.nii.gz").get_fdata(dtype=np.float32).T
        channels.append(_pad_to_crop((image_ZYX - image_ZYX.mean()) / image_ZYX.std(), 0))
    labels_ZYX = np.asarray(nib.load(folder / f"labelsTr/{cases[0]}.nii.gz").dataobj).T.astype(np.int16)
    return torch.from_numpy(np.stack(channels)), torch.from_numpy(_pad_to_crop(labels_ZYX, -1)[None])


@pytest.fixture(scope="session")
def nnunet() -> list:
    """nnU-Net's transforms, in its order."""
    return nnUNetTrainer.get_training_transforms(**arguments()).transforms

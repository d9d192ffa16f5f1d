"""nnU-Net as this machine has it: whether it is installed, and how it learns of its folders and of our trainers.

The files that start a training or a preparation import this file first, so that a missing nnU-Net is one sentence.
"""

import os
from pathlib import Path

from stunet.errors import MissingPackageError
from stunet.files import made_folder
from stunet.folders import Folders, nnunet_folders

try:
    import nnunetv2  # noqa: F401
except ImportError as error:
    raise MissingPackageError("Training needs nnU-Net. Install it with: pip install 'stunet[train]'") from error

TRAINER_FOLDER = Path(__file__).parent / "nnunet_names"
"""nnU-Net imports every module of this folder when it looks for a trainer by name (variable nnUNet_extTrainer)."""


def set_nnunet_environment() -> Folders:
    """Create the three folders and tell nnU-Net of them and of our trainers, by its environment variables."""
    folders = nnunet_folders()
    for name, folder in vars(folders).items():  # raw, preprocessed, results
        os.environ[f"nnUNet_{name}"] = str(made_folder(folder))
    known = [p for p in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if p]
    if str(TRAINER_FOLDER) not in known:
        os.environ["nnUNet_extTrainer"] = os.pathsep.join([*known, str(TRAINER_FOLDER)])
    return folders

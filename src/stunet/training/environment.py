"""nnU-Net on this machine: whether it is installed, its folders, and how it finds our trainers.

Modules that start a training or a preparation import this one first, so that a missing nnU-Net gives a clear error.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stunet.errors import MissingPackageError
from stunet.extras import how_to_install
from stunet.files import made_folder
from stunet.folders import Folders, nnunet_folders

try:
    import nnunetv2  # noqa: F401
except ImportError as error:
    raise MissingPackageError(f"Training needs nnU-Net. Install it with {how_to_install('train')}.") from error

TRAINER_FOLDER = Path(__file__).parent / "nnunet_names"
"""nnU-Net imports every module of this folder when it looks for a trainer by name (variable nnUNet_extTrainer)."""


def set_nnunet_environment() -> Folders:
    """Create the three folders and set nnU-Net's environment variables for them and for our trainers."""
    folders = nnunet_folders()
    for name, folder in vars(folders).items():  # raw, preprocessed, results
        os.environ[f"nnUNet_{name}"] = str(made_folder(folder))
    known = [p for p in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if p]
    if str(TRAINER_FOLDER) not in known:
        os.environ["nnUNet_extTrainer"] = os.pathsep.join([*known, str(TRAINER_FOLDER)])
    return folders


@contextmanager
def loading_processes(count: int | None) -> Iterator[None]:
    """Set the number of processes that nnU-Net starts to load images; None leaves its default."""
    kept = os.environ.get("nnUNet_n_proc_DA")
    if count is not None:
        os.environ["nnUNet_n_proc_DA"] = str(count)
    try:
        yield
    finally:
        os.environ.pop("nnUNet_n_proc_DA", None)
        if kept is not None:
            os.environ["nnUNet_n_proc_DA"] = kept

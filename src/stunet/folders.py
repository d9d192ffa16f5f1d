"""Find nnU-Net's folders for raw data, preprocessed data and results, and the datasets in them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from stunet.errors import UnknownNameError, UserError, listed
from stunet.files import home_folder


@dataclass(frozen=True)
class Folders:
    """nnU-Net's three folders."""

    raw: Path
    preprocessed: Path
    results: Path


def nnunet_folders() -> Folders:
    """Read nnU-Net's environment variables; the defaults are `raw`, `preprocessed` and `results` in STUNET_HOME.

    Variables from an .env file may contain what a shell would remove: quotes around the path, and `~`.
    """
    raw, preprocessed, results = (_folder(name) for name in ("raw", "preprocessed", "results"))
    return Folders(raw, preprocessed, results)


def _folder(name: str) -> Path:
    stated = os.environ.get(f"nnUNet_{name}", "").strip().strip("\"'")
    return Path(stated).expanduser() if stated else home_folder() / name


def find_dataset(dataset: str, root: Path) -> str:
    """The full name of a dataset ("Dataset004_Hippocampus") given its number ("4") or its name.

    Raises:
        UserError: `root` has no dataset with this name, or not exactly one with this number.
    """
    if not dataset.isdigit():
        if not re.match(r"Dataset\d{3,}_", dataset):
            raise UserError(f"A dataset is a number (4) or a name like Dataset004_Hippocampus, not {dataset!r}.")
        if not (root / dataset).is_dir():
            raise UnknownNameError(f"{UnknownNameError.of('dataset', dataset, _names(root))} stunet looked in {root}.")
        return dataset
    found = sorted(p.name for p in root.glob(f"Dataset{int(dataset):03d}_*") if p.is_dir())
    if not found:
        raise UserError(
            f"There is no folder Dataset{int(dataset):03d}_* in {root}. It contains: {listed(_names(root))}."
        )
    if len(found) > 1:
        raise UserError(f"Several datasets in {root} have the number {dataset}: {', '.join(found)}. Keep one.")
    return found[0]


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("Dataset*"))

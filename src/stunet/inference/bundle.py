"""A model as a MONAI bundle: a folder that `python -m monai.bundle run` executes, without stunet.

MONAI's own components do what they do as nnU-Net does; for the grid and the windows the bundle has steps of its own
(`bundle_steps`). The network is TorchScript, which holds no Python, and it is tried before the folder appears.
"""

import warnings
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from stunet.errors import OutputError
from stunet.files import made_folder, replacing_files_in, require_short_name, require_writable, write_json
from stunet.inference.bundle_config import MODEL_FILE, inference_config, metadata, require_bundle
from stunet.inference.export import Exported, MeanLogits, example_window, require_agreement
from stunet.networks.stunet import STUNet
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.model import Model
from stunet.weights.model_card import stunet_on

METADATA = Path("configs/metadata.json")

STEPS_FILE = Path(__file__).with_name("bundle_steps.py")


def export_bundle(model: Model, folder: Path) -> Exported:
    """Write a model as a MONAI bundle. The folder appears only once the network in it has been tried.

    Args:
        model: one network, or several folds, which are averaged.
        folder: made where missing; else it must be empty.

    Returns:
        The files; the card is `configs/metadata.json`.

    Raises:
        UserError: a model that a bundle cannot hold, a folder that is not empty or cannot be written, or a network
            whose answers are not those of torch.
    """
    require_empty(folder)
    stunet_on(model.card)
    require_bundle(model)
    with replacing_files_in(folder) as temporary:
        for name in ("configs", "models", "scripts", "docs"):
            made_folder(temporary / name)
        difference = _write_network(model, temporary / MODEL_FILE, folder)
        write_json(temporary / METADATA, metadata(model))
        write_json(temporary / "configs/inference.json", inference_config(model))
        (temporary / "scripts/__init__.py").write_text("")
        (temporary / "scripts/stunet_steps.py").write_text(STEPS_FILE.read_text(encoding="utf-8"), encoding="utf-8")
        (temporary / "docs/README.md").write_text(_readme(model), encoding="utf-8")
        (temporary / "LICENSE").write_text(_licence(model), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / METADATA)
    return Exported(tuple(files), folder / METADATA, difference)


def require_empty(folder: Path) -> None:
    """Refuse a folder in which something is, before any work is done.

    Raises:
        UserError: see `export_bundle`.
    """
    require_short_name(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"{folder}: is there already, and a bundle needs a new or empty folder; give -o another name."
        )
    require_writable(folder)


class InMonaisOrder(nn.Module):
    """A network for images with the axes of MONAI.

    Args:
        network: from (B, C, Z, Y, X) to (B, K, Z, Y, X), in the network's order of axes.
        plan: says that order.
    """

    def __init__(self, network: nn.Module, plan: PreprocessingPlan):
        super().__init__()
        self.network = network
        self._there = [0, 1, *(4 - axis for axis in plan.transpose_forward)]
        self._back = [self._there.index(axis) for axis in range(5)]

    def forward(self, image_BCXYZ: torch.Tensor) -> torch.Tensor:
        """(B, C, X, Y, Z) to (B, K, X, Y, Z)."""
        return self.network(image_BCXYZ.permute(self._there)).permute(self._back)

    def restored(self, array_BCZYX: np.ndarray) -> torch.Tensor:
        """An array in the network's order of axes, as `forward` takes it."""
        return torch.from_numpy(array_BCZYX).permute(self._back)

    def reordered(self, array_BCXYZ: torch.Tensor) -> np.ndarray:
        """What `forward` gives, in the network's order of axes."""
        return array_BCXYZ.permute(self._there).numpy()


@torch.inference_mode()
def _write_network(model: Model, path: Path, folder: Path) -> float:
    """Write the network, and see that what was written answers as torch does."""
    network = InMonaisOrder(MeanLogits(cast(list[STUNet], model.networks)), model.plan).eval()
    image = network.restored(example_window(model)).contiguous()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to leave TorchScript, which MONAI's bundles still use
        torch.jit.trace(network, image, check_trace=False).save(str(path))
        written = torch.jit.load(str(path))
        logits = network.reordered(written(image))
    return require_agreement(model, logits, folder)


def _readme(model: Model) -> str:
    card = model.card
    structures = "\n".join(f"| {label} | {name} |" for label, name in enumerate(card.labels))
    scans = "*.nii.gz" if len(card.channels) == 1 else "CASE_0000.nii.gz, CASE_0001.nii.gz, ..."
    return f"""# {card.name}

An STU-Net, exported by stunet. Research only; not a medical device.

Input: {", ".join(card.channels)}. Licence of the weights: {card.licence}. Source: {card.source or "not stated"}.

## Run

    pip install monai pytorch-ignite fire nibabel scipy
    cd BUNDLE
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir SCANS

SCANS is a folder with {scans}. Labels go to `eval`, or to `--output_dir FOLDER`. To run from elsewhere, add
`--bundle_root BUNDLE`. To load components without running, put BUNDLE on PYTHONPATH.

Logits of all classes are held in memory on the scan's grid: 4 bytes for each class and voxel.

## Labels

| label | structure |
|---|---|
{structures}
"""


def _licence(model: Model) -> str:
    citation = f"\n\nPlease cite:\n{model.card.citation}" if model.card.citation else ""
    return f"""Weights (models/): {model.card.licence}
All other files: Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0{citation}
"""

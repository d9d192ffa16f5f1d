"""`stunet doctor`: installed versions, available devices, and problems."""

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from stunet.cli.command import DONE, FAILED, Options
from stunet.cli.output import RESULTS, Switch, print_result, print_summary, progress_bar
from stunet.extras import how_to_install
from stunet.files import home_folder
from stunet.folders import nnunet_folders

if TYPE_CHECKING:
    from stunet.batch.self_test import Check

PACKAGES = ("stunet", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom", "python-gdcm", "safetensors")

OPTIONAL = {
    "nnunetv2": f"needed to train: {how_to_install('train')}",
    "openvino": f"about twice as fast on a CPU: {how_to_install('cpu')}",
    "onnxruntime": f"another backend: {how_to_install('onnx')}",
    "fastapi": f"needed for `stunet serve`: {how_to_install('serve')}",
    "mcp": f"needed for `stunet mcp`: {how_to_install('mcp')}",
    "ipyniivue": f"shows segmentations in notebooks: {how_to_install('notebook')}",
    "highdicom": f"needed for results as DICOM: {how_to_install('dicom')}",
}
"""What each optional package is for."""


@dataclass
class Doctor(Options):
    """Show versions, devices and folders, or test the whole way from a scan to labels.

    Examples: stunet doctor
              stunet doctor --self-test
    """

    nnunet: Switch = False
    """Print lines that let nnU-Net's own commands find stunet's trainers and folders:
    eval \"$(stunet doctor --nnunet)\"."""
    self_test: Switch = False
    """Segment a phantom in 48 orientations, in every format that is read and with every backend, and compare the
    labels with the known ones."""

    def run(self) -> int:
        """Print versions, devices and folders, or the lines for nnU-Net; or test. 1 if labels differ."""
        if self.nnunet:
            for name, folder in _nnunet_variables().items():
                RESULTS.print(f"export {name}={shlex.quote(str(folder))}", soft_wrap=True)
            return DONE
        if self.self_test:
            return _self_test(self.json)
        print_summary("This machine", _findings(), self.json)
        return DONE


def _nnunet_variables() -> dict[str, Path]:
    """What nnU-Net's commands read: where the trainers are, and the folders that stunet uses."""
    folders = asdict(nnunet_folders())
    trainers = Path(__file__).parents[1] / "training" / "nnunet_names"
    return {"nnUNet_extTrainer": trainers, **{f"nnUNet_{name}": folder for name, folder in folders.items()}}


def _self_test(as_json: bool) -> int:
    """Test, and show each check."""
    from stunet.batch.self_test import self_test

    with progress_bar("self-test") as update:
        checks = self_test(update)
    wrong = sum(check.problem is not None for check in checks)
    title = f"{wrong} of {len(checks)} checks are wrong" if wrong else f"All {len(checks)} checks are right"
    result = {"checks": [{**asdict(check), "outcome": check.outcome} for check in checks], "wrong": wrong}
    rows = _shown(checks)
    print_result(result, as_json, f"{title}: a phantom, segmented and compared", ("", "", "outcome"), rows)
    return FAILED if wrong else DONE


def _shown(checks: "Sequence[Check]") -> list[tuple[str, str, str]]:
    """A row for each check; one for all orientations that are right."""
    oriented = [check for check in checks if check.group == "orientation"]
    right = [check for check in oriented if not check.problem]
    rows = [(check.group, check.name, check.outcome) for check in checks if check not in right]
    return [("orientation", f"{len(right)} of {len(oriented)}", "same labels"), *rows]


def _findings() -> dict[str, str]:
    import torch

    found = {name: _version(name) for name in (*PACKAGES, *OPTIONAL)}
    found["torchvision"] = _torchvision()
    found["python"] = platform.python_version()
    found["processors"] = str(os.cpu_count())
    found["CUDA GPU"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    found["Apple GPU"] = "yes" if torch.backends.mps.is_available() else "none"
    found["STUNET_HOME"] = str(home_folder())
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        if variable in os.environ:
            found[f"{variable} (wins)"] = os.environ[variable]
    return found


def _torchvision() -> str:
    """stunet does not need it, but nnU-Net's own commands import it when they look for a trainer."""
    try:
        return str(import_module("torchvision").__version__)
    except ImportError:
        return "not installed"
    except RuntimeError:
        return "made for another torch, so nnUNetv2_train can't start: install both from one source"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed" + (f" ({OPTIONAL[package]})" if package in OPTIONAL else "")

"""`stunet doctor`: what is installed, what this machine can run, and what is wrong."""

import os
import platform
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stunet.cli.command import Options
from stunet.cli.output import RESULTS, Switch, print_summary
from stunet.files import home_folder

PACKAGES = ("stunet", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom", "safetensors")

OPTIONAL = {
    "nnunetv2": "needed to train: pip install 'stunet[train]'",
    "openvino": "about twice as fast on a CPU: pip install 'stunet[cpu]'",
    "onnxruntime": "a further backend: pip install 'stunet[onnx]'",
}
"""What packages that are no must are good for."""


@dataclass
class Doctor(Options):
    """Show versions, devices and folders."""

    nnunet: Switch = False
    """Print the line that lets nnU-Net's own commands find stunet's trainers: eval \"$(stunet doctor --nnunet)\"."""

    def run(self) -> int:
        """Look and tell."""
        if self.nnunet:
            folder = Path(__file__).parents[1] / "training" / "nnunet_names"
            RESULTS.print(f"export nnUNet_extTrainer={folder}", soft_wrap=True)
            return 0
        print_summary("This machine", _findings(), self.json)
        return 0


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
    """stunet needs none, but nnU-Net's own commands import it when they look for a trainer."""
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

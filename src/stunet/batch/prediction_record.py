"""The machine-readable record that every prediction leaves: versions, settings, timings."""

import json
import os
import platform
import resource
import sys
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from stunet.inference.segmentation import Segmentation

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor

PACKAGES = ("stunet", "torch", "openvino", "onnxruntime", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom")


def run_record(predictor: "Predictor") -> dict[str, Any]:
    """What holds for all scans of a run: versions, machine, model and settings."""
    import torch  # here, for the scans are known before torch is loaded

    model = predictor.model
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(predictor.backend.device),
        },
        "backend": {"name": predictor.backend.name, "precision": predictor.backend.precision},
        "model": {
            "name": model.card.name,
            "source": model.source,
            "licence": model.card.licence,
            "card_sha256": sha256(json.dumps(model.card.to_dict(), sort_keys=True).encode()).hexdigest(),
            "networks": len(model.networks),
        },
        "settings": asdict(predictor.config),
    }


def _versions() -> dict[str, str]:
    """Of all packages that a prediction may use and that are installed."""
    installed = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def scan_record(segmentation: Segmentation) -> dict[str, Any]:
    """What one scan gave: seconds by stage, volumes in mm³, warnings, and the process's peak memory so far."""
    return {
        "input": segmentation.scan.source,
        "seconds": {**asdict(segmentation.timings), "total": segmentation.timings.total},
        "volumes_mm3": segmentation.volumes_mm3(),
        "warnings": list(segmentation.warnings),
        "peak_memory_mib": round(peak_memory_bytes() / 2**20),
    }


def peak_memory_bytes() -> int:
    """The largest resident memory this process ever had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

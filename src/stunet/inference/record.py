"""The machine-readable record that every prediction leaves: versions, settings, timings."""

import os
import platform
import resource
import sys
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from stunet.inference.predictor import Predictor
from stunet.inference.segmentation import Segmentation

PACKAGES = ("stunet", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom")


def run_record(predictor: Predictor) -> dict[str, Any]:
    """What holds for all scans of a run: versions, machine, model and settings."""
    model = predictor.model
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(predictor.backend.device),
        },
        "model": {
            "name": model.card.name,
            "source": model.source,
            "licence": model.card.licence,
            "networks": len(model.networks),
        },
        "settings": asdict(predictor.config),
    }


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

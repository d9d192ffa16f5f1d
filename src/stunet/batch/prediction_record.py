"""The machine-readable record that every prediction leaves: versions, settings, timings."""

import json
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet.errors import OutputError
from stunet.files import as_json
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
        "peak_memory_mib": None if (peak := peak_memory_bytes()) is None else round(peak / 2**20),
    }


def peak_memory_bytes() -> int | None:
    """The largest resident memory this process ever had, in bytes; None on Windows, which does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# One line for each case, written when it is done


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add one case's record to a file of one JSON object per line.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(as_json(record, indent=None) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """The last record of each case by its name; a line that a killed run left unfinished is passed over."""
    records = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            records[record["case"]] = record
    return records


def answer_key(run: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's record decides its labels: the model, and the settings that change the answer."""
    settings = {name: run["settings"][name] for name in ("step", "mirror", "classes", "skip_air", "least_spacing")}
    plain: dict[str, Any] = json.loads(json.dumps({"card_sha256": run["model"]["card_sha256"], **settings}))
    return plain

"""The machine-readable record of every prediction: versions, settings, timings."""

import json
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet.files import read_json_lines, read_json_object
from stunet.imaging.formats.registry import without_suffix
from stunet.inference.segmentation import Segmentation
from stunet.plans.labels import LabelTable

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor
    from stunet.inference.search import Search

PACKAGES = ("stunet", "torch", "openvino", "onnxruntime", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom")

FOLDER_REPORT = "stunet_report.json"
"""The record of a folder of predictions."""

RECORD_ENDING = "report.json"
"""The record of a single prediction is the label map's name with this ending."""


def run_record(predictor: "Predictor") -> dict[str, Any]:
    """The record that all scans of a run share: versions, machine, model and settings."""
    import torch  # imported late, because the scans are known before torch is loaded

    model = predictor.model
    return {
        "versions": installed_versions(),
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(predictor.backend.device),
        },
        "backend": backend_record(predictor),
        "model": {
            "name": model.card.name,
            "source": model.source,
            "licence": model.card.licence,
            "card_sha256": model.card.sha256,
            "networks": len(model.networks),
            "labels": {str(label): name for label, name in model.names.items()},
            "members": {str(label): list(labels) for label, labels in predictor.members.items()},
        },
        "settings": asdict(predictor.config),
    }


def backend_record(predictor: "Predictor") -> dict[str, Any]:
    """What runs the network, in which precision, and how this was chosen. The first scans may change it."""
    backend, check = predictor.backend, predictor.precision_check
    compared = {} if check is None else {"precision_check": asdict(check)}
    return {"name": backend.name, "precision": backend.precision, **compared}


@cache
def installed_versions() -> Mapping[str, str]:
    """Versions of Python and of all installed packages that a prediction may use. Looking them up takes 10 ms."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def scan_record(segmentation: Segmentation) -> dict[str, Any]:
    """The record of one scan: seconds by stage, volumes in mm³, warnings, and the process's peak memory so far."""
    return {
        "input": segmentation.scan.source,
        "seconds": {**asdict(segmentation.timings), "total": segmentation.timings.total},
        "volumes_mm3": segmentation.volumes_mm3(),
        "warnings": list(segmentation.warnings),
        **({} if segmentation.search is None else {"search": search_record(segmentation.search)}),
        "peak_memory_mib": None if (peak := peak_memory_bytes()) is None else round(peak / 2**20),
    }


def search_record(search: "Search") -> dict[str, Any]:
    """What a first pass did: its windows, all that count, those known from the first pass, and where the others begin.

    Places are the first voxels (z, y, x) on the network's grid.
    """
    return {
        "first_pass_windows": search.first_pass,
        "windows": len(search.windows),
        "known_windows": search.known,
        "left_out": [list(start) for start in search.windows.left_out],
    }


def peak_memory_bytes() -> int | None:
    """The largest resident memory of this process so far, in bytes; None on Windows, which does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# Read again


def record_beside(labels: Path) -> dict[str, Any]:
    """The record of the run that wrote a label map; empty where there is none.

    Args:
        labels: its file. The record of a single scan is beside it; that of a folder of scans is in the folder.
    """
    single = labels.with_name(f"{without_suffix(labels)}.{RECORD_ENDING}")
    if single.is_file():
        return read_json_object(single)
    of_folder = labels.parent / FOLDER_REPORT
    if not of_folder.is_file():
        return {}
    run = read_json_object(of_folder)
    of_case = next((case for case in run.pop("cases", ()) if Path(case.get("output", "")).name == labels.name), None)
    return {} if of_case is None else {**run, **of_case}


def labels_of(record: Mapping[str, Any]) -> LabelTable:
    """What the labels of a run mean; without names where the record does not say."""
    model = record.get("model", {})
    names = {int(label): str(name) for label, name in model.get("labels", {}).items() if int(label)}
    return LabelTable(names, {int(label): tuple(of) for label, of in model.get("members", {}).items()})


# One line per case, written when it is done


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """The last record of each case by name. A line that a killed run left unfinished is ignored."""
    records = {}
    for record in read_json_lines(path):
        with suppress(KeyError, TypeError):
            records[record["case"]] = record
    return records


ANSWER_SETTINGS = ("step", "mirror", "classes", "whole_scan", "skip_air", "least_spacing")
"""The fields of an `InferenceConfig` that change labels."""


def answer_key(run: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's record that determines its labels: the model, and the settings that change the result."""
    settings = {name: run["settings"][name] for name in ANSWER_SETTINGS}
    plain: dict[str, Any] = json.loads(json.dumps({"card_sha256": run["model"]["card_sha256"], **settings}))
    return plain

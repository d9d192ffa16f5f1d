import json
import platform
from dataclasses import asdict, replace
from importlib.metadata import version

import nibabel
import numpy as np
import psutil

from stunet.batch.prediction_record import peak_memory_bytes, run_record, scan_record
from stunet.files import write_json
from stunet.inference.predictor import InferenceConfig, Predictor
from tests.inference.samples import tiny_model
from tests.phantoms import smooth_scan


def test_what_a_run_leaves(tmp_path):
    scan = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(smooth_scan((20, 18, 12)), np.diag([1.0, 2.0, 1.5, 1.0])), scan)
    predictor = Predictor(tiny_model(num_classes=3), InferenceConfig(mirror=True))
    segmentation = predictor.predict(scan)
    record = {**run_record(predictor), **scan_record(segmentation)}
    write_json(tmp_path / "record.json", record)
    saved = json.loads((tmp_path / "record.json").read_text())
    assert saved["versions"]["torch"] == version("torch")
    assert saved["versions"]["python"] == platform.python_version()
    assert saved["machine"]["device"] == str(predictor.backend.device)
    digest = saved["model"].pop("card_sha256")
    labels = {str(label): name for label, name in predictor.model.names.items()}
    assert saved["model"] == {
        **{"name": "sample", "source": "sample", "licence": "unknown", "networks": 1},
        **{"labels": labels, "members": {}},
    }
    other = replace(predictor.model, card=replace(predictor.model.card, licence="other"))
    assert run_record(Predictor(other))["model"]["card_sha256"] != digest and len(digest) == 64
    backend, check = predictor.backend, predictor.precision_check
    compared = {} if check is None else {"precision_check": asdict(check)}
    assert saved["backend"] == {"name": backend.name, "precision": backend.precision, **compared}
    assert saved["settings"]["mirror"] is True
    assert saved["input"] == str(scan)
    assert saved["volumes_mm3"] == segmentation.volumes_mm3()
    assert sum(saved["volumes_mm3"].values()) <= 20 * 18 * 12 * 3.0
    assert saved["seconds"]["total"] > 0
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_peak_memory_is_in_bytes():
    assert peak_memory_bytes() >= 0.5 * psutil.Process().memory_info().rss

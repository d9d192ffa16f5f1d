"""Small sound files of every kind that is read, in `corpus`, and files that once crashed a reader, in `crashes`.

`python -m tests.fuzz.corpus` writes the sound ones again.
"""

import gzip
import io
import json
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
import torch

import stunet.labels
from stunet.batch.ledger import Ledger
from stunet.networks.stunet import PUBLISHED_STRIDES, STUNet
from stunet.weights.model_file import save_model
from tests.batch.batches import listed_batch
from tests.fuzz.damage import Files
from tests.imaging.dicom.samples import write_enhanced
from tests.phantoms import rotated_affine, smooth_scan, write_dicom_series
from tests.weights.samples import V2_DATASET, card, v1_content, v1_plans, v2_content, v2_plans

CORPUS = Path(__file__).with_name("corpus")
CRASHES = Path(__file__).with_name("crashes")

SHAPE_ZYX = (5, 6, 7)

MAPPING = Path(stunet.labels.__file__).with_name("datasets") / "kits2021.toml"

CODES = """[core]
code = "49755003"
meaning = "Morphologically abnormal structure"
scheme = "SCT"
laterality = "left"
category = "structure"
"""

MANIFEST = "scan,name,channel_0001\na.nii.gz,first,b.nii.gz\nc.nii.gz,second,d.nii.gz\n"


def files_in(folder: Path) -> Files:
    """Content by path in the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def put_files(files: Files, folder: Path) -> None:
    """Write files by their paths in the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def entries(kind: str, root: Path = CORPUS) -> list[Files]:
    """The entries of a kind: each a folder of files."""
    return [files_in(entry) for entry in sorted((root / kind).glob("*"))]


def save_crash(kind: str, files: Files, name: str) -> Path:
    """Keep files that crashed a reader."""
    put_files(files, CRASHES / kind / name)
    return CRASHES / kind / name


def main() -> None:
    """Write the sound files."""
    for write in (_write_images, _write_dicom, _write_weights, _write_texts):
        for place, content in write():
            path = CORPUS / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


Written = Iterator[tuple[str, bytes]]


def _made_by(write: Callable[[Path], object], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def _write_images() -> Written:
    scan_ZYX = smooth_scan(SHAPE_ZYX)
    affine = rotated_affine((0.5, 0.75, 2.0))
    image = nibabel.Nifti1Image(scan_ZYX.transpose(2, 1, 0), affine)
    scaled = nibabel.Nifti1Image(scan_ZYX.transpose(2, 1, 0).astype(np.float32), affine)
    yield "nifti/int16/scan.nii", image.to_bytes()
    yield "nifti/float32/scan.nii", scaled.to_bytes()
    yield "nifti/second_version/scan.nii", nibabel.Nifti2Image(scan_ZYX.transpose(2, 1, 0), affine).to_bytes()
    yield "nifti/gzip/scan.nii.gz", gzip.compress(image.to_bytes(), mtime=0)
    for ending in ("hdr", "img"):
        yield f"analyze/pair/scan.{ending}", _analyze(scan_ZYX, affine)[ending]
    yield (
        "mgh/scan/scan.mgh",
        _made_by(
            lambda path: nibabel.save(nibabel.MGHImage(scan_ZYX.transpose(2, 1, 0).astype(np.int16), affine), path),
            "scan.mgh",
        ),
    )
    sitk = SimpleITK.GetImageFromArray(scan_ZYX)
    sitk.SetSpacing((0.5, 0.75, 2.0))
    for kind, ending in (("nrrd", "nrrd"), ("metaimage", "mha")):
        for name, compressed in (("raw", False), ("compressed", True)):
            write = lambda path, compressed=compressed: SimpleITK.WriteImage(sitk, str(path), compressed)  # noqa: E731
            yield f"{kind}/{name}/scan.{ending}", _made_by(write, f"scan.{ending}")


def _analyze(scan_ZYX: np.ndarray, affine: np.ndarray) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        nibabel.save(nibabel.Nifti1Pair(scan_ZYX.transpose(2, 1, 0), affine), Path(folder) / "scan.hdr")
        return {ending: (Path(folder) / f"scan.{ending}").read_bytes() for ending in ("hdr", "img")}


def _write_dicom() -> Written:
    scan_ZYX = smooth_scan(SHAPE_ZYX)
    frames = [{"position": [-10.0, -20.0, 2.0 * z], "slope": 1.0 + z} for z in range(len(scan_ZYX))]
    with tempfile.TemporaryDirectory() as folder:
        write_dicom_series(Path(folder) / "series", scan_ZYX)
        write_enhanced(Path(folder) / "enhanced" / "frames.dcm", scan_ZYX, frames)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder, "series").iterdir()):
                archive.writestr(zipfile.ZipInfo(f"series/{path.name}"), path.read_bytes(), zipfile.ZIP_DEFLATED)
        for path in sorted(Path(folder).glob("*/*.dcm")):
            yield f"dicom/{path.parent.name}/{path.name}", path.read_bytes()
    yield "zip/series/scan.zip", buffer.getvalue()


def _write_weights() -> Written:
    torch.manual_seed(0)
    weights = OrderedDict(STUNet(1, 3, 1, 1, strides=PUBLISHED_STRIDES).state_dict())
    few = {name: weights[name] for name in list(weights)[:4]}
    for name, content in (("v1", v1_content(few)), ("v2", v2_content(few, v2_plans()))):
        for form, is_zip in (("zip", True), ("pickles", False)):
            save = partial(torch.save, content, _use_new_zipfile_serialization=is_zip)
            yield f"checkpoint/{name}_{form}/weights.model", _made_by(save, "weights.model")
    yield "plans_pickle/v1/plans.pkl", pickle.dumps(v1_plans(), 2)
    yield "plans_pickle/text/plans.pkl", pickle.dumps(v1_plans(), 0)
    whole = _made_by(lambda path: save_model(path, weights, card(width=1)), "model.safetensors")
    yield "model/tiny/model.safetensors", whole


def _write_texts() -> Written:
    yield "plans/v2/plans.json", json.dumps(v2_plans(), indent=1).encode()
    regions = {"background": 0, "whole": [1, 2], "core": 2}
    yield "dataset/labels/dataset.json", json.dumps({**V2_DATASET, "numTraining": 2}).encode()
    yield (
        "dataset/regions/dataset.json",
        json.dumps({**V2_DATASET, "numTraining": 2, "labels": regions, "regions_class_order": [1, 2]}).encode(),
    )
    yield "mapping/kits2021/mapping.toml", MAPPING.read_bytes()
    yield "codes/one/codes.toml", CODES.encode()
    yield "manifest/two/scans.csv", MANIFEST.encode()
    with tempfile.TemporaryDirectory() as folder:
        batch = listed_batch(Path(folder), list("abc"))
        ledger = Ledger(batch.ledger, "writer")
        done = {
            "seconds": {"load": 1.0, "total": 3.0},
            "peak_memory_mib": 100,
            "outputs": {"a.nii.gz": {"bytes": 7, "sha256": "f00d"}},
            "model": {"card_sha256": "c", "weights_sha256": "w"},
            "versions": {"stunet": "1"},
            "answer": {},
            "warnings": ["odd"],
        }
        for scan, event, details in (
            ("a", "claimed", {}),
            ("a", "done", done),
            ("b", "claimed", {}),
            ("b", "died", {}),
        ):
            ledger.append(scan, len(ledger.history(scan)), event, worker="w", **details)
        (batch.ledger / "model.json").write_text(json.dumps({"card_sha256": "c", "weights_sha256": "w"}))
        (batch.workers).mkdir(exist_ok=True)
        (batch.workers / "w.json").write_text(json.dumps({"name": "w", "host": "h", "process": 1, "started": 1}))
        for name, content in files_in(batch.path).items():
            yield f"ledger/batch/{name}", content


if __name__ == "__main__":
    main()

"""`import stunet` offers each name with its type, fast, and prints nothing."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nibabel
import numpy as np
import pytest

import stunet

SOURCE = Path(stunet.__file__).parents[1]
NAMES = sorted(set(stunet.__all__) - {"__version__"})
PROMISED = (
    "build_network load_model Predictor InferenceConfig Segmentation Volume predict_cases list_models list_networks "
    "Client evaluate read_volume find_series write_labels UserError Stopped LABELS GROUPS show"
)


def test_the_names():
    assert sorted(PROMISED.split()) == NAMES == [name for name in dir(stunet) if name != "__version__"]
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        stunet.Predicter  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_what_it_says(name):
    value = getattr(stunet, name)
    assert value is getattr(import_module(stunet._FRONT_DOOR[name]), name)


def test_a_type_checker_sees_every_name(tmp_path):
    assert (Path(stunet.__file__).parent / "py.typed").is_file()
    program = "import stunet\n" + "".join(f"reveal_type(stunet.{name})\n" for name in NAMES)
    program += "reveal_type(stunet.Predictor('m').predict('scan').volumes_mm3())\n"
    program += "reveal_type(stunet.build_network('tiny', num_classes=3))\n"
    program += "for result in stunet.predict_cases('m', 'scans', 'out'):\n    reveal_type(result)\n"
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "program.py"]
    environment = {"MYPYPATH": str(SOURCE), "PATH": "", "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=600)
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert done.returncode == 0 and len(revealed) == len(NAMES) + 3, done.stdout + done.stderr
    assert not [kind for kind in revealed if re.fullmatch(r"(builtins\.object|.*-> Any|Any)", kind)], revealed
    assert revealed[-3] == "dict[str, float]"
    assert revealed[-2:] == ["stunet.networks.network.Network", "stunet.batch.predict_cases.CaseResult"]


SILENT = """
import sys, warnings
import stunet
predictor = stunet.Predictor("hippocampus")
segmentation = predictor.predict(sys.argv[1])
segmentation.save(sys.argv[2])
segmentation.to_sitk(), segmentation.to_nibabel(), segmentation.statistics()
stunet.build_network("tiny", pretrained=True, num_classes=3)
assert [result.error for result in stunet.predict_cases(predictor, [sys.argv[1]], sys.argv[3])] == [None]
"""


def test_nothing_is_printed(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((12, 13, 14), np.int16), np.eye(4))
    (tmp_path / "scan.nii").write_bytes(image.to_bytes() + bytes(3))  # data after the last voxel causes a warning
    command = [sys.executable, "-c", SILENT, *(str(tmp_path / name) for name in ("scan.nii", "labels.nii.gz", "out"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    remark = SILENT.replace("import stunet\n", "import stunet, logging\nlogging.basicConfig()\n", 1)
    done = subprocess.run([*command[:2], remark, *command[3:]], capture_output=True, text=True, timeout=300)
    assert "data after the last voxel" in done.stderr and done.stdout == ""

"""For every command: a place that cannot be written is found before any work, and a path that is too long is said."""

import pytest

LONG = "x" * 300
LOST = "/proc/none"


@pytest.fixture
def no_work(monkeypatch):
    """Whatever takes long fails the test, and the message would not be that of the place."""
    for name in (
        "stunet.weights.import_model.import_model",
        "stunet.weights.model.read_pretrained",
        "stunet.weights.model.load_model",
        "stunet.inference.predictor.Predictor",
        "stunet.evaluation.report.evaluate",
        "stunet.experiments.run.run_experiment",
    ):
        monkeypatch.setattr(name, work)


def work(*arguments, **options):
    raise AssertionError("work was begun")


@pytest.mark.parametrize(
    "words",
    [
        ("weights", "import", "base.model", "-o", f"{LOST}/base.safetensors"),
        ("weights", "export", "-m", "base", "-o", f"{LOST}/base.pth"),
        ("export", "-m", "base", "--to", "onnx", "-o", f"{LOST}/base.onnx"),
        ("export", "-m", "base", "--to", "openvino", "-o", f"{LOST}/base.xml"),
        ("demo", "-o", LOST),
        ("evaluate", "-p", "a", "-r", "b", "-o", f"{LOST}/report.json"),
        ("experiment", "run", "table2", "-o", LOST),
    ],
)
def test_a_place_that_cannot_be_written_is_found_first(stunet, capsys, no_work, words):
    assert stunet(*words) == 2
    assert f"stunet: {LOST}: cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "-i", LONG, "-o", "labels.nii.gz", "-m", "hippocampus"),
        ("predict", "-i", "scan.nii.gz", "-o", f"{LONG}/labels.nii.gz", "-m", "hippocampus"),
        ("predict", "-i", "scan.nii.gz", "-o", "labels.nii.gz", "-m", f"{LONG}.safetensors"),
        ("demo", "-o", LONG),
        ("evaluate", "-p", LONG, "-r", LONG),
        ("evaluate", "-p", "scan.nii.gz", "-r", "scan.nii.gz", "--names", LONG),
        ("evaluate", "-p", "scan.nii.gz", "-r", "scan.nii.gz", "--tolerance", f"{LONG}.csv"),
        ("evaluate", "-p", "scan.nii.gz", "-r", "scan.nii.gz", "--mapping", f"{LONG}.toml"),
        ("evaluate", "-p", "scan.nii.gz", "-r", "scan.nii.gz", "-o", f"{LONG}.json"),
        ("weights", "import", f"{LONG}.model", "-o", "out.safetensors"),
        ("weights", "export", "-m", f"{LONG}.model", "-o", "out.pth"),
        ("export", "-m", f"{LONG}.safetensors", "--to", "onnx", "-o", "out.onnx"),
        ("dataset", "convert", "flare22", LONG, "--id", "5"),
        ("dataset", "check", "-d", LONG),
        ("prepare", "-d", LONG),
        ("experiment", "run", "table2", "-o", LONG),
        ("experiment", "plot", "figure4", "-o", LONG),
    ],
)
def test_a_name_too_long_for_any_system_is_a_sentence(stunet, capsys, monkeypatch, scan, tmp_path, words):
    if "prepare" in words:
        pytest.importorskip("nnunetv2")
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert stunet(*words) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and said.splitlines()[-1].startswith("stunet: ") and LONG[:40] in said
    assert [name for name in sorted(path.name for path in tmp_path.iterdir()) if name != "stunet_home"] == before

"""The folder in which the blocks of a page run."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import SimpleITK

from stunet.experiments import training_cases
from stunet.experiments.training_cases import Split
from stunet.experiments.training_run import TrainingRun
from tests.conftest import REPOSITORY
from tests.docs.blocks import LONG, blocks_of
from tests.docs.programs import write_programs
from tests.docs.serving import SERVICES, Server, is_here
from tests.docs.stand_ins import (
    SHARED,
    STAND_INS,
    copy_into,
    write_base,
    write_certificate,
    write_decathlon,
    write_hippocampi,
    write_series,
)


@pytest.fixture(scope="module", params=["tiny"])
def models(request, tmp_path_factory) -> Path:
    """A folder with `base`, as large as the real one where a page fine-tunes it, and else of the size `tiny`."""
    folder = tmp_path_factory.mktemp("models")
    write_base(folder, request.param)
    return folder


@pytest.fixture
def shell(tmp_path, monkeypatch) -> None:
    """The programs are on the PATH, with this stunet."""
    programs = write_programs(tmp_path / "bin")
    monkeypatch.setenv(
        "PATH", os.pathsep.join((str(programs), str(Path(shutil.which("python")).parent), os.environ["PATH"]))
    )
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}")


@pytest.fixture
def clone(shell, tmp_path, monkeypatch) -> Path:
    """A folder in which `pip install .` finds the package."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src"):
        (folder / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def home(models, tmp_path, monkeypatch) -> Path:
    """A home folder with `base` in it, where the blocks run in the folder `work`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("STUNET_HOME", raising=False)
    (tmp_path / ".stunet" / "models").mkdir(parents=True)
    for name in ("base", "large", "huge"):
        (tmp_path / ".stunet" / "models" / f"{name}.safetensors").symlink_to(models / "base.safetensors")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PWD", str(tmp_path / "work"))
    return tmp_path


@pytest.fixture
def workplace(home, shell, models, shared_data, page) -> Path:
    """The home folder, with what a page speaks of."""
    hippocampus = shared_data / "Dataset004_Hippocampus"
    images, labels = (sorted((hippocampus / name).glob("*.nii.gz"))[:50] for name in ("imagesTr", "labelsTr"))
    shutil.copy(images[0], "scan.nii.gz")
    shutil.copy(images[0], "new_scan.nii.gz")
    shutil.copy(shared_data / "totalseg_example" / "ct_crop.nii.gz", "ct.nii.gz")
    for folder, files in (("scans", images), ("imagesTr", images), ("labelsTr", labels), ("references", labels)):
        copy_into(Path(folder), files[:3])
    for folder, shift in (("predictions", 0), ("ours", 0), ("theirs", 1)):
        copy_into(Path(folder), labels[:3], shift)
    shutil.copy(hippocampus / "dataset.json", "dataset.json")
    Path("transfer").mkdir()
    for place in ("results.json", "transfer/transfer.json"):
        shutil.copy(REPOSITORY / "docs" / "experiments" / "transfer.json", place)
    for name in ("base", "spine", "my_model"):
        shutil.copy(models / "base.safetensors", f"{name}.safetensors")
    write_certificate(Path("cert.pem"), Path("key.pem"))
    Path("tokens.txt").write_text(f"anna:{'5e' * 24}\n")
    Path("tokens.txt").chmod(0o600)
    for folder in ("bench", "examples", "integrations"):
        Path(folder).symlink_to(REPOSITORY / folder)
    for folder, study in (
        ("dicom_folder", "1.2.3.6"),
        ("patients/p1/day1", "1.2.3.8"),
        ("patients/p2/day1", "1.2.3.9"),
    ):
        write_series(Path(folder), study, f"{study}.5")
    series = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames("dicom_folder")
    SimpleITK.WriteImage(SimpleITK.ReadImage(series), "converted.nii.gz")
    _write_datasets(page.read_text(encoding="utf-8"), home, shared_data)
    return home


def _write_datasets(text: str, home: Path, shared_data: Path) -> None:
    """What only some pages speak of."""
    source = shared_data / "Dataset004_Hippocampus"
    if "Task04_Hippocampus" in text:
        write_decathlon(Path("Task04_Hippocampus"), source)
    else:
        names = sorted(path.name.removesuffix(".nii.gz") for path in (source / "labelsTr").glob("*.nii.gz"))
        cases = 50 if "stunet dataset subset" in text else 10
        write_hippocampi(home / ".stunet" / "raw" / source.name, source, names[:cases])
    for name in SHARED:
        if name in text:
            Path(name).symlink_to(shared_data / name)
    for name, write in STAND_INS.items():
        if name in text:
            write(Path(name))


@pytest.fixture
def services(workplace, page, tmp_path) -> Iterator[None]:
    """An archive or a store, for a page that needs one."""
    needed = {block.needs for block in blocks_of(page) if block.needs in SERVICES and is_here(block.needs)}
    with ExitStack() as running:
        for name in sorted(needed):
            running.enter_context(SERVICES[name](tmp_path / name))
        yield


@pytest.fixture
def server(workplace, services) -> Iterator[Server]:
    """Of a page; it ends with the page."""
    one = Server(workplace / ".stunet" / "serve")
    yield one
    one.end()


@pytest.fixture
def short_trainings(page, monkeypatch) -> Iterator[None]:
    """Trainings start no processes, except with several GPUs, and those of an experiment are short."""
    if not any(word in page.read_text(encoding="utf-8") for word in LONG):
        yield
        return
    from tests.training.serial_pool import serial_pools

    monkeypatch.setattr("stunet.training.prepare.MAX_PROCESSES", 1)
    _shorten_experiments(monkeypatch)
    with serial_pools():
        yield


def _shorten_experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    """One iteration, few cases, no mirroring, and small patches where the paper has large ones."""
    whole, split = TrainingRun.settings, training_cases._split

    def settings(run, *arguments):
        made = whole(run, *arguments)
        patch = (32, 32, 32) if run.plan == "published" else made.schedule.patch
        schedule = replace(made.schedule, epochs=1, iterations_per_epoch=1, patch=patch)
        return replace(made, schedule=schedule, augmentation=replace(made.augmentation, mirror=False))

    def few(cases, *arguments):
        all_cases = split(cases, *arguments)
        number = None if cases.fractions else 4
        return Split(all_cases.train[:number], all_cases.val[:1])

    monkeypatch.setattr(TrainingRun, "settings", settings)
    monkeypatch.setattr(training_cases, "_split", few)

"""What comes from a server and goes to one, with a server of our own."""

import pydicom
import pytest

from stunet.batch.dicom_scans import DicomChoice
from stunet.batch.dicomweb import at_hand
from stunet.batch.outputs import Outputs
from stunet.errors import UserError
from tests.imaging.dicomweb.fake_server import PATH, STUDY, Answer, FakeServer, as_json, files_of_a_series, serving


@pytest.fixture
def series(tmp_path):
    return files_of_a_series(tmp_path / "scan")


@pytest.fixture
def server(series):
    with serving(FakeServer(series)) as one:
        yield one


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STUNET_HOME", str(tmp_path / "home"))
    return tmp_path / "home/cache/dicomweb"


def asked(inputs, output, outputs=Outputs(), dicom=DicomChoice()):  # noqa: B008 (frozen)
    return at_hand(inputs, str(output), outputs, dicom)


def test_paths_stay_what_they_are(tmp_path):
    choice = DicomChoice("all")
    with asked([str(tmp_path / "a"), "b.nii.gz"], "out", dicom=choice) as local:
        assert [str(path) for path in local.inputs] == [str(tmp_path / "a"), "b.nii.gz"]
        assert str(local.output) == "out" and not local.outputs.formats and local.dicom == choice
        assert local.called == {} and local.store() == []


def test_what_is_retrieved_is_private_and_goes_when_all_is_done(server, cache):
    with asked([server.address + PATH], "out.nii.gz") as local:
        (folder,) = local.inputs
        assert folder.parent == cache and len(list(folder.iterdir())) == 8
        assert folder.stat().st_mode & 0o777 == 0o700
        assert local.called == {str(folder): server.address + PATH}
        assert "Zweifelhaft" not in str(folder) and STUDY not in str(folder)
    assert not list(cache.iterdir())


def test_after_a_failure_it_stays_and_is_not_asked_for_again(server, cache, caplog):
    with pytest.raises(UserError, match="no memory"), asked([server.address + PATH], "out.nii.gz"):
        raise UserError("no memory")
    (folder,) = cache.iterdir()
    assert f"{folder}: what was retrieved or made is kept here" in caplog.text
    server.asked.clear()
    with asked([server.address + PATH], "out.nii.gz") as local:
        assert local.inputs == (folder,) and server.retrieved() == []
    assert not list(cache.iterdir())


def test_results_are_stored(server, series, cache):
    with asked(["scan"], server.address) as local:
        assert local.outputs.formats == ("dicom-seg",) and local.output.name == "labels.seg.dcm"
        assert local.output.parent.stat().st_mode & 0o777 == 0o700
        local.output.write_bytes(series["1.2.3.4.1"])
        (stored,) = local.store()
        assert stored.instance == "1.2.3.4.1"
    assert not list(cache.iterdir())


def test_a_result_that_is_refused_is_kept(server, series, cache, caplog):
    server.answer = lambda method, path: Answer(409)
    with pytest.raises(UserError, match="cannot store the result"), asked(["scan"], server.address) as local:
        local.output.write_bytes(series["1.2.3.4.1"])
        local.store()
    (folder,) = cache.iterdir()
    assert pydicom.dcmread(folder / "labels.seg.dcm").SOPInstanceUID == "1.2.3.4.1"
    assert f"{folder}: what was retrieved or made is kept here" in caplog.text


def test_several_scans_have_a_folder(server):
    for inputs, dicom in ((["a", "b"], DicomChoice()), (["a"], DicomChoice("all"))):
        with asked(inputs, server.address, dicom=dicom) as local:
            assert local.output.is_dir()


@pytest.mark.parametrize(
    ("outputs", "option"),
    [
        (Outputs(preview=True), "--preview"),
        (Outputs(separate=True), "--separate"),
        (Outputs(formats=("dicom-seg", "nifti")), "--format nifti"),
    ],
)
def test_what_a_server_does_not_take(server, cache, outputs, option):
    with (
        pytest.raises(UserError, match=f"DICOM results only. Leave {option} out"),
        asked([server.address + PATH], server.address, outputs),
    ):
        pass
    assert not server.asked


def test_addresses_that_say_too_little_or_too_much(server):
    with pytest.raises(UserError, match=r"names no study. Add /studies/UID"), asked([server.address], "out.nii.gz"):
        pass
    with (
        pytest.raises(UserError, match=f"Give -o the server alone, {server.address}"),
        asked(["scan"], f"{server.address}/studies/{STUDY}"),
    ):
        pass


def test_a_study(server):
    """--series names a series of the study; with a series in the address it names a volume in that."""
    table = [
        {"0020000E": {"Value": [uid]}, "00080060": {"Value": [modality]}}
        for uid, modality in (("1.2.3.5", "CT"), ("1.2.3.0", "SEG"), ("1.2.3.9", "MR"))
    ]

    def answer(method, path):
        return as_json(table) if path == f"/studies/{STUDY}/series" else None

    server.answer = answer
    study = f"{server.address}/studies/{STUDY}"
    with pytest.raises(UserError, match="holds 2 series that could be meant"), asked([study], "out.nii.gz"):
        pass
    for name in ("1", "1.2.3.5"):
        with asked([study], "out.nii.gz", dicom=DicomChoice(name, suv=True)) as local:
            assert local.dicom == DicomChoice(None, suv=True) and len(list(local.inputs[0].iterdir())) == 8
    with asked([server.address + PATH], "out.nii.gz", dicom=DicomChoice("1")) as local:
        assert local.dicom == DicomChoice("1")
    table.clear()
    with pytest.raises(UserError, match="holds no series that may be a scan"), asked([study], "out.nii.gz"):
        pass

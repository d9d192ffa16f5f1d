import json
import os

import pytest

from stunet.batch.dicom_scans import DicomChoice
from stunet.batch.find_listed import find_listed
from stunet.batch.ledger import Ledger
from stunet.batch.listing import ListedFile, ListedScan, ScanLists
from stunet.batch.manifest import read_manifest
from stunet.errors import FileError, UserError
from stunet.imaging.scan import as_volume
from tests.batch.batches import write_scans
from tests.phantoms import smooth_scan, write_dicom_series


def found(*sources, channels=("CT",), choice=DicomChoice()):  # noqa: B008 (frozen)
    scans, _ = find_listed([str(source) for source in sources], choice, channels)
    return {scan.name: [os.path.basename(file.path) for file in scan.files] for scan in scans}


def test_a_folder_a_pattern_and_files(tmp_path):
    scans = write_scans(tmp_path / "scans", ["a", "b", "c_ct"])
    whole = {"a": ["a.nii.gz"], "b": ["b.nii.gz"], "c_ct": ["c_ct.nii.gz"]}
    assert found(scans) == whole
    assert found(tmp_path / "*" / "*.nii.gz") == whole
    assert found(scans / "*_ct.nii.gz") == {"c_ct": ["c_ct.nii.gz"]}
    assert found(scans / "a.nii.gz", scans / "b.nii.gz") == {"a": ["a.nii.gz"], "b": ["b.nii.gz"]}
    with pytest.raises(FileError, match="no file has a name like this"):
        found(scans / "*.mha")


def test_channels_are_joined_for_a_model_that_takes_several(tmp_path):
    scans = write_scans(tmp_path / "scans", ["a_0000", "a_0001", "b_0000"])
    both, _ = find_listed([str(scans)], DicomChoice(), ("T1", "T2"))
    assert [(scan.name, len(scan.files), scan.problem) for scan in both] == [
        ("a", 2, None),
        ("b", 1, "b: channel 0001 is missing; the model takes channels 0000 to 0001."),
    ]


def test_a_manifest_names_scans_beside_it_and_their_outputs(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("name,scan\nfirst,scans/a.nii.gz\n,/data/b_0000.nii.gz\n")
    one, other = read_manifest(manifest, 1)
    assert (one.name, one.files[0].path) == ("first", str(tmp_path / "scans" / "a.nii.gz"))
    assert (other.name, other.files[0].path) == ("b", "/data/b_0000.nii.gz")
    manifest.write_text("scan,channel_0001\na_t1.nii,a_t2.nii\n")
    (two,) = read_manifest(manifest, 2)
    assert [os.path.basename(file.path) for file in two.files] == ["a_t1.nii", "a_t2.nii"]


def test_a_manifest_in_parquet_says_the_same(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"name": "first", "scan": "a.nii.gz", "age": 50}, {"name": None, "scan": "/data/b.nii", "age": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_text("name,scan,age\nfirst,a.nii.gz,50\n,/data/b.nii,\n")
    scans = read_manifest(tmp_path / "list.parquet", 1)
    assert scans == read_manifest(tmp_path / "list.csv", 1) and [scan.name for scan in scans] == ["first", "b"]
    assert found(tmp_path / "list.parquet") == {"first": ["a.nii.gz"], "b": ["b.nii"]}
    with pytest.raises(FileError, match="has no column channel_0001"):
        read_manifest(tmp_path / "list.parquet", 2)
    (tmp_path / "list.parquet").write_bytes(b"no table")
    with pytest.raises(FileError, match=r"list\.parquet: is not a table in Parquet"):
        read_manifest(tmp_path / "list.parquet", 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image\na.nii\n", "has no column scan"),
        ("", "has no column scan"),
        ("scan,name\na.nii,x\n,y\n", "line 3 lacks a path"),
        ("scan,name\na.nii,../x\n", "cannot be the name of an output"),
        ("scan\nday1/a.nii\nday2/a.nii\n", "have one name, 'a'"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_with_a_sentence(tmp_path, text, sentence):
    manifest = tmp_path / "list.csv"
    manifest.write_text(text)
    with pytest.raises(UserError, match=sentence):
        found(manifest)


def test_patients_in_dicom_are_listed_without_what_names_them_and_found_again(tmp_path):
    for number in (1, 2):
        write_dicom_series(
            tmp_path / "in" / f"patient{number}" / "ct",
            smooth_scan((4, 5, 6), number),
            SeriesInstanceUID=f"1.2.{number}",
            StudyInstanceUID=f"1.3.{number}",
            PatientName="Zaphod^Beeblebrox",
        )
    scans, _ = find_listed([str(tmp_path / "in")], DicomChoice(), ("CT",))
    assert [scan.name for scan in scans] == ["patient1_ct", "patient2_ct"]
    lists = ScanLists(Ledger(tmp_path / "ledger"))
    lists.add(scans)
    (path,) = (tmp_path / "ledger" / "lists").iterdir()
    assert "Zaphod" not in path.read_text() and "1.2.1" not in path.read_text()
    for number, scan in enumerate(lists.scans.values(), 1):
        (file,) = scan.files
        volume = as_volume(file.found(DicomChoice(), "CT"))
        assert volume.array.shape == (1, 4, 5, 6)
        expected = as_volume(str(tmp_path / "in" / f"patient{number}" / "ct"))
        assert (volume.array == expected.array).all()


def test_lists_add_up_and_two_scans_of_one_name_are_refused(tmp_path):
    lists = ScanLists(Ledger(tmp_path))
    scans = [ListedScan(name, (ListedFile(f"/in/{name}.nii"),)) for name in "ab"]
    assert (lists.add(scans), lists.add(scans)) == (2, 0)
    other = ScanLists(Ledger(tmp_path))
    assert other.add([*scans, ListedScan("c", (ListedFile("/in/c.nii"),))]) == 1
    lists.refresh()
    assert set(lists.scans) == set(other.scans) == set("abc")
    with pytest.raises(UserError, match=r"/other/a\.nii: this batch already has another scan called 'a', /in/a\.nii"):
        lists.add([ListedScan("a", (ListedFile("/other/a.nii"),))])


@pytest.mark.parametrize("name", ["../a", "/tmp/a", "a/b", "", ".", "..", "a\0", 1, None])
def test_a_list_in_a_shared_folder_cannot_name_another_folder(tmp_path, name):
    ledger = Ledger(tmp_path / "stunet_batch")
    ScanLists(ledger).add([ListedScan("a", (ListedFile("/scans/a.nii"),))])
    (path,) = (ledger.folder / "lists").iterdir()
    path.write_text(path.read_text().replace('"name": "a"', f'"name": {json.dumps(name)}'))
    with pytest.raises(FileError, match="was not written by this version of stunet"):
        ScanLists(ledger).refresh()

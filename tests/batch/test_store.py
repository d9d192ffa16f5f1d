"""A batch from and to an S3-compatible store: who creates an object owns it, and a store that fails is waited for."""

import re
from importlib.util import find_spec
from threading import Event

import pytest

from stunet.batch import store as store_module
from stunet.batch.crew import Crew
from stunet.batch.dicom_scans import DicomChoice
from stunet.batch.find_listed import find_listed
from stunet.batch.member import WorkerOptions
from stunet.batch.place import files_at, place
from stunet.batch.settings import BatchFolder
from stunet.batch.start import join_batch, start_batch
from stunet.batch.status import BatchReader
from stunet.batch.store import fetch
from stunet.batch.verify import verify_batch
from stunet.batch.worker import work
from stunet.errors import FileError, OutputError, UserError
from tests.batch.batches import settings, write_scans
from tests.batch.test_crew import kill_a_worker
from tests.phantoms import smooth_scan, write_dicom_series

pytest.importorskip("s3fs", reason="needs the extra batch")
pytest.importorskip("moto", reason="needs moto[server]")


@pytest.fixture(scope="module")
def store():
    from tests.batch.loopback_store import faulty_store

    with faulty_store() as running:
        yield running


@pytest.fixture
def bucket(store):
    yield store.bucket()
    store.refuses, store.ignores_conditions = (lambda number: False), False


def upload(store, folder, bucket, prefix="in"):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            store.client().upload_file(str(path), bucket.removeprefix("s3://"), key)
    return f"{bucket}/{prefix}"


def states(batch):
    return {record.scan.name: record.state.state for record in BatchReader(batch).records()}


def outputs(store, bucket):
    """The labels in out/, by file name."""
    content = store.content(bucket).items()
    return {key.removeprefix("out/"): value for key, value in content if re.fullmatch("out/[^/]+", key)}


def test_of_two_that_create_an_object_one_succeeds(bucket):
    one, other = files_at(place(f"{bucket}/out"), "one"), files_at(place(f"{bucket}/out"), "other")
    path = place(f"{bucket}/out") / "records" / "ab" / "abc.1"
    assert one.create(path, b"one") and not other.create(path, b"other")
    assert path.read_bytes() == b"one"
    assert one.create(path, b"one"), "an answer that was lost on the way is asked for again"
    one.write(path.parent / "beat", b"1")
    one.write(path.parent / "beat", b"2")
    assert (path.parent / "beat").read_bytes() == b"2"
    assert sorted(one.names(place(f"{bucket}/out"))) == ["abc.1", "beat"]
    assert list(one.names(place(f"{bucket}/none"))) == []


def test_a_store_that_ignores_conditions_is_refused(store, bucket):
    files_at(place(bucket), "one").require_writable(place(f"{bucket}/out"))
    assert store.content(bucket) == {}
    store.ignores_conditions = True
    with pytest.raises(OutputError, match="two workers could own one scan"):
        files_at(place(bucket), "one").require_writable(place(f"{bucket}/out"))
    assert store.content(bucket) == {}


def test_no_such_bucket_or_scan(bucket, tmp_path):
    with pytest.raises(OutputError, match=r"s3://nothing-here/out.*: cannot be reached or written"):
        files_at(place("s3://nothing-here/out"), "one").require_writable(place("s3://nothing-here/out"))
    with pytest.raises(FileError, match=r"a\.nii\.gz: no such file or folder"):
        fetch(f"{bucket}/a.nii.gz", tmp_path)
    with pytest.raises(FileError, match="there are no scans"):
        find_listed([f"{bucket}/in"], DicomChoice(), ("CT",))


def test_another_kind_of_store_or_a_missing_package():
    with pytest.raises(UserError, match="There is no kind of store 's4'"):
        place("s4://bucket/out")
    if find_spec("gcsfs") is None:
        with pytest.raises(UserError, match=r"pip install '\.\[batch\]'"):
            place("gs://bucket/out")


def test_scans_of_a_store_are_named_by_their_keys(store, bucket, tmp_path):
    for name in ("a.nii.gz", "p1/ct.nii", "p2/ct.nii", ".hidden.nii", "notes.txt", "b_0000.nii", "b_0001.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    source = upload(store, tmp_path, bucket)
    scans, _ = find_listed([source], DicomChoice(), ("CT", "PET"))
    found = {scan.name: [file.path for file in scan.files] for scan in scans}
    assert found["a"] == [f"{source}/a.nii.gz"] and found["p1_ct"] == [f"{source}/p1/ct.nii"]
    assert found["b"] == [f"{source}/b_0000.nii", f"{source}/b_0001.nii"]
    assert set(found) == {"a", "b", "p1_ct", "p2_ct"}


def test_from_and_to_a_store_as_from_and_to_a_folder(store, bucket, model, tmp_path):
    scans = write_scans(tmp_path / "scans", ["a", "b", "c"])
    (scans / "bad.nii.gz").write_bytes(b"no scan")
    plain = start_batch([str(scans)], tmp_path / "plain", settings(model)).folder
    work(plain, Event())
    source = upload(store, scans, bucket)
    started = start_batch([source], f"{bucket}/out", settings(model))
    assert (started.scans, started.open) == (4, 4)
    work(started.folder, Event())
    assert outputs(store, bucket) == {f"{name}.nii.gz": (plain.path / f"{name}.nii.gz").read_bytes() for name in "abc"}
    status = BatchReader(started.folder).status()
    assert status.states["done"] == 3 and list(status.errors) == ["bad"]
    assert status.errors["bad"].startswith(f"{source}/bad.nii.gz: ")
    assert list(verify_batch(started.folder).problems) == ["bad"]
    assert join_batch(f"{bucket}/out").open == 0
    store.client().put_object(Bucket=bucket.removeprefix("s3://"), Key="out/a.nii.gz", Body=b"changed")
    assert set(verify_batch(started.folder, redo=True).problems) == {"a", "bad"}
    work(started.folder, Event())
    assert list(verify_batch(started.folder).problems) == ["bad"]


def test_dicom_and_a_manifest_in_a_store(store, bucket, model, tmp_path):
    write_dicom_series(tmp_path / "series", smooth_scan((12, 20, 18)))
    (tmp_path / "scans.csv").write_text(f"name,scan\np1,series\np2,{bucket}/in/series\n")
    source = upload(store, tmp_path, bucket)
    started = start_batch([f"{source}/scans.csv"], f"{bucket}/out", settings(model))
    work(started.folder, Event())
    assert states(started.folder) == {"p1": "done", "p2": "done"}
    labels = outputs(store, bucket)
    assert labels["p1.nii.gz"] == labels["p2.nii.gz"]


def test_a_store_that_answers_503_for_a_while_costs_no_scan(store, bucket, model, tmp_path):
    scans = write_scans(tmp_path / "scans", ["a", "b", "c"])
    source = upload(store, scans, bucket)
    started = start_batch([source], f"{bucket}/out", settings(model))
    store.refused = 0
    store.refuses = lambda number: number % 4 == 0
    work(started.folder, Event())
    store.refuses = lambda number: False
    assert store.refused > 5
    assert states(started.folder) == dict.fromkeys("abc", "done")
    events = [event["event"] for record in BatchReader(started.folder).records() for event in record.history]
    assert sorted(events) == ["claimed"] * 3 + ["done"] * 3
    assert not verify_batch(started.folder).problems


def test_a_store_that_fails_for_long_ends_the_batch_and_costs_no_scan(store, bucket, model, tmp_path, monkeypatch):
    scans = write_scans(tmp_path / "scans", ["a", "b", "c"])
    source = upload(store, scans, bucket)
    started = start_batch([source], f"{bucket}/out", settings(model))
    impatient = {"s3": {"use_listings_cache": False, "config_kwargs": {"retries": {"max_attempts": 1}}}}
    monkeypatch.setattr(store_module, "OPTIONS", impatient)
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)

    def refuse_after_the_first(end):
        store.refuses = lambda number: True

    with pytest.raises(UserError, match="cannot be reached"):
        work(BatchFolder(place(f"{bucket}/out")), Event(), refuse_after_the_first)
    store.refuses = lambda number: False
    assert "failed" not in states(started.folder).values()
    work(started.folder, Event(), lease=0.0)
    assert states(started.folder) == dict.fromkeys("abc", "done")


def test_a_lost_answer_to_a_claim_is_no_lost_claim(store, bucket):
    """The object is made, but the answer is 503: the repetition finds it, and must not take it for another worker's."""
    answered = store._app

    def losing(environ, start_response):
        if environ["REQUEST_METHOD"] == "PUT" and not lost:
            lost.append(list(answered(environ, lambda *_: None)))
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Slow down.</Message></Error>"]
        return answered(environ, start_response)

    lost: list[object] = []
    store._app = losing
    try:
        assert files_at(place(bucket), "one").create(place(f"{bucket}/claim"), b"mine")
    finally:
        store._app = answered
    assert lost and store.content(bucket) == {"claim": b"mine"}


@pytest.mark.slow
def test_killed_workers_and_faults_lose_nothing_and_do_nothing_twice(store, bucket, model, tmp_path):
    names = [f"scan{number:02d}" for number in range(16)]
    scans = write_scans(tmp_path / "scans", names)
    (scans / "bad.nii.gz").write_bytes(b"no scan")
    started = start_batch([upload(store, scans, bucket)], f"{bucket}/out", settings(model))
    store.refuses = lambda number: number % 7 == 0
    ended, kills = [], []

    def after(end):
        ended.append(end)
        if len(ended) in (3, 9) and kill_a_worker(started.folder):
            kills.append(end.scan)

    Crew(started.folder, 2, WorkerOptions(2), on_scan=after).run()
    store.refuses = lambda number: False
    assert kills and store.refused
    assert states(started.folder) == {**dict.fromkeys(names, "done"), "bad": "failed"}
    events = [event["event"] for record in BatchReader(started.folder).records() for event in record.history]
    assert events.count("done") == 16
    assert set(outputs(store, bucket)) == {f"{name}.nii.gz" for name in names}
    assert list(verify_batch(started.folder).problems) == ["bad"]

import json
import pickle
import shutil

import blosc2
import nibabel
import numpy as np
import pytest
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, preprocess_dataset
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from stunet.errors import OutputError, UserError
from stunet.networks.stunet import PUBLISHED_STRIDES
from stunet.plans.nnunet import plans_from
from stunet.training import fingerprint, preprocessing
from stunet.training.planners import STUNetPlanner
from stunet.training.prepare import prepare
from stunet.training.raw_cases import find_cases
from stunet.weights.published import PUBLISHED_PLAN
from tests.training.conftest import DATASET, environment, make_raw_dataset
from tests.training.serial_pool import serial_pools


@pytest.fixture
def few(shared_data, tmp_path):
    """Three real cases, not yet prepared; the paths are copies, which a test may damage."""
    home = tmp_path / "home"
    make_raw_dataset(shared_data / DATASET, home / "links" / DATASET, cases=3)
    shutil.copytree(home / "links" / DATASET, home / "raw" / DATASET)
    with environment(home):
        yield home


def cases_of(home):
    return find_cases(home / "raw" / DATASET)[1]


def files_of(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}


def test_all_is_what_nnunet_makes(few, tmp_path):
    """Fingerprint, images, labels and properties, against nnU-Net's own functions on the same cases."""
    ours = prepare("4", "tiny", processes=1).plans_file.parent
    with environment(tmp_path / "theirs"), serial_pools():
        shutil.copytree(few / "raw", tmp_path / "theirs" / "raw", dirs_exist_ok=True)
        extract_fingerprint_dataset(4, num_processes=1, check_dataset_integrity=True)
        STUNetPlanner(4, size="tiny").plan_experiment()
        preprocess_dataset(4, "STUNetPlans_tiny", ("3d_fullres",), (1,))
        theirs = tmp_path / "theirs" / "preprocessed" / DATASET
    for name in ("dataset_fingerprint.json", "STUNetPlans_tiny.json"):
        assert json.loads((ours / name).read_text()) == json.loads((theirs / name).read_text())
    images = "STUNetPlans_3d_fullres"
    made = {path.name for path in (theirs / images).iterdir()}
    assert made == {path.name for path in (ours / images).iterdir()} and len(made) == 9
    for name in made:
        assert same_content(ours / images / name, theirs / images / name), name
    for case in cases_of(few):
        copies = [folder / "gt_segmentations" / f"{case.name}.nii.gz" for folder in (ours, theirs)]
        assert copies[0].read_bytes() == copies[1].read_bytes()


def same_content(one, other):
    if one.suffix == ".b2nd":
        return np.array_equal(blosc2.open(str(one))[:], blosc2.open(str(other))[:])
    ours, theirs = (pickle.loads(path.read_bytes()) for path in (one, other))
    locations = [properties.pop("class_locations") for properties in (ours, theirs)]
    return str(ours) == str(theirs) and all(
        np.array_equal(locations[0][label], locations[1][label]) for label in locations[1]
    )


def test_what_is_there_is_not_made_again(home):
    """All sizes share the images, and another size may be training on them."""
    images = home / "preprocessed" / DATASET / "STUNetPlans_3d_fullres"
    before = files_of(images)
    seen = []
    made = prepare("4", "tiny", processes=1, on_case=lambda *told: seen.append(told))
    assert made.cases == 10 and files_of(images) == before
    assert seen == [("checking", 10, 10), ("preprocessing", 10, 10)]


def test_an_interrupted_fingerprint_goes_on(few, monkeypatch):
    looked_at = []
    real = fingerprint.analyse_case

    def analyse(case, *arguments):
        looked_at.append(case.name)
        if len(looked_at) == 2:
            raise KeyboardInterrupt
        real(case, *arguments)

    monkeypatch.setattr(fingerprint, "analyse_case", analyse)
    with pytest.raises(KeyboardInterrupt):
        prepare("4", "tiny", processes=1)
    first, second, third = (case.name for case in cases_of(few))
    prepare("4", "tiny", processes=1)
    assert looked_at == [first, second, second, third]


def test_interrupted_images_go_on_and_only_whole_cases_count(few, monkeypatch):
    made = []
    real = preprocessing.preprocess_case

    def preprocess(case, *arguments):
        made.append(case.name)
        real(case, *arguments)
        if len(made) == 2:  # killed before the last of the three files was in its place
            (arguments[-1] / f"{case.name}.pkl").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(preprocessing, "preprocess_case", preprocess)
    with pytest.raises(KeyboardInterrupt):
        prepare("4", "tiny", processes=1)
    first, second, third = (case.name for case in cases_of(few))
    folder = few / "preprocessed" / DATASET / "STUNetPlans_3d_fullres"
    untouched = (folder / f"{first}.b2nd").stat().st_mtime_ns
    prepare("4", "tiny", processes=1)
    assert made == [first, second, second, third]
    assert (folder / f"{first}.b2nd").stat().st_mtime_ns == untouched
    assert len(list(folder.glob("*.pkl"))) == 3 and not (folder / ".partial").exists()


def test_a_case_that_changed_is_made_again(few):
    prepare("4", "tiny", processes=1)
    folder = few / "preprocessed" / DATASET / "STUNetPlans_3d_fullres"
    case = cases_of(few)[1]
    before = (folder / f"{case.name}.pkl").stat().st_mtime_ns
    image = nibabel.load(case.images[0])
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) * 2, image.affine), case.images[0])
    prepare("4", "tiny", processes=1)
    assert (folder / f"{case.name}.pkl").stat().st_mtime_ns > before
    stamp = json.loads(preprocessing.stamp_path(folder).read_text())
    plans = json.loads((folder.parent / "STUNetPlans_tiny.json").read_text())
    assert stamp["intensities"] == plans["foreground_intensity_properties_per_channel"]


def test_a_case_that_was_removed_is_not_trained_on(few):
    prepare("4", "tiny", processes=1)
    raw = few / "raw" / DATASET
    gone = cases_of(few)[0]
    for file in gone.files:
        file.unlink()
    description = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**description, "numTraining": 2}))
    assert prepare("4", "tiny", processes=1).cases == 2
    assert not list((few / "preprocessed" / DATASET / "STUNetPlans_3d_fullres").glob(f"{gone.name}*"))


def test_bad_cases_are_all_named_and_cost_only_themselves(few):
    first, second, third = cases_of(few)
    content = (few / "raw" / DATASET / "imagesTr" / f"{first.name}_0000.nii.gz").read_bytes()
    (few / "raw" / DATASET / "imagesTr" / f"{first.name}_0000.nii.gz").write_bytes(content[: len(content) // 2])
    labels = nibabel.load(second.label)
    nibabel.save(nibabel.Nifti1Image(np.asarray(labels.dataobj) + np.uint8(7), labels.affine), second.label)
    with pytest.raises(UserError, match="refuses the dataset Dataset004_Hippocampus: 2 of 3") as caught:
        prepare("4", "tiny", processes=1)
    lines = str(caught.value).splitlines()
    assert f"{first.name}_0000.nii.gz" in lines[1] and "too early" in lines[1]
    assert second.name in lines[2] and "Unexpected labels" in lines[2]
    kept = few / "preprocessed" / DATASET / fingerprint.CASES_FOLDER
    assert [path.stem for path in kept.iterdir()] == [third.name]


def test_the_published_plan(few):
    made = prepare("4", "tiny", processes=1, plan="published")
    plans = json.loads(made.plans_file.read_text())
    assert list(plans["configurations"]) == ["3d_fullres"]
    written = plans_from(plans).preprocessing.to_dict()
    published = PUBLISHED_PLAN.to_dict()
    assert (written.pop("convention"), published.pop("convention")) == ("nnunet_v2", "nnunet_v1")
    assert written == published
    fullres = PlansManager(plans).get_configuration("3d_fullres")
    assert [tuple(stride) for stride in fullres.pool_op_kernel_sizes] == list(PUBLISHED_STRIDES)
    assert fullres.batch_size == 2
    case = cases_of(few)[0]
    image = blosc2.open(str(made.plans_file.parent / "STUNetPublishedPlans_3d_fullres" / f"{case.name}.b2nd"))[:]
    assert image.shape[1:] == tuple(round(n / 1.5) for n in nibabel.load(case.images[0]).shape[::-1])
    assert abs(image.mean()) < 0.1 and abs(image.std() - 1) < 0.1


def test_a_split_of_the_raw_dataset_comes_along(few):
    names = [case.name for case in cases_of(few)]
    split = [{"train": names[:2], "val": names[2:]}]
    (few / "raw" / DATASET / "splits_final.json").write_text(json.dumps(split))
    prepared = prepare("4", "tiny", processes=1).plans_file.parent / "splits_final.json"
    assert json.loads(prepared.read_text()) == split
    prepared.write_text(json.dumps([{"train": names[1:], "val": names[:1]}]))
    with pytest.raises(UserError, match=r"has other folds than the raw dataset's"):
        prepare("4", "tiny", processes=1)


def test_an_unknown_size_plan_or_dataset(home):
    with pytest.raises(UserError, match=r"no network 'gigantic'.*tiny, small"):
        prepare("4", "gigantic")
    with pytest.raises(UserError, match=r"no plan 'mine'.*nnunet, published"):
        prepare("4", "tiny", plan="mine")
    with pytest.raises(UserError, match="no folder Dataset005"):
        prepare("5", "tiny")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"numTraining": 4}, r"states 4 training cases \(numTraining\), but there are 3: hippo"),
        ({"numTraining": "3"}, r"numTraining as '3', which is not a whole number"),
        ({"file_ending": ".nrrd"}, r"no training image that ends in \.nrrd"),
        ({"file_ending": ".png"}, r"end with \.png are 2D"),
        ({"labels": {"background": 0, "a": 2}}, "count from 0 without a gap"),
        ({"labels": {"a": 1}}, "label 0 should be called background"),
        ({"labels": None}, "no table of labels"),
        ({"labels": {"background": 0, "a": 1, "b": 2, "c": 2}}, "b, c share one"),
        ({"channel_names": ["MRI"]}, r'write "channel_names": \{"0": "MRI"\}'),
        (
            {"channel_names": {"0": "T1", "1": "T2"}},
            r"channels 0000, 0001, but 3 of 3 cases have others: .*_001 \(0000\)",
        ),
        ({"file_ending": ".mhd"}, r"whose files end in \.nii\.gz, \.nii, \.nrrd, \.mha"),
    ],
)
def test_a_description_that_nnunet_cannot_use(few, changes, sentence):
    path = few / "raw" / DATASET / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError, match=sentence):
        prepare("4", "tiny", processes=1)


def test_a_folder_that_is_no_dataset(tmp_path):
    (tmp_path / "raw" / "Dataset007_Empty").mkdir(parents=True)
    with environment(tmp_path), pytest.raises(UserError, match=r"no dataset.json"):
        prepare("7", "tiny")


def test_a_label_map_that_is_missing(few):
    label = cases_of(few)[2].files[-1]
    label.unlink()
    with pytest.raises(UserError, match=rf"1 of 3 cases have no label map .*: {label.name.removesuffix('.nii.gz')}"):
        prepare("4", "tiny", processes=1)


def test_all_label_maps_that_are_missing_are_named(few):
    names = [case.name for case in cases_of(few)]
    for case in cases_of(few):
        case.files[-1].unlink()
    with pytest.raises(UserError, match=", ".join(names)):
        prepare("4", "tiny", processes=1)


@pytest.mark.parametrize(("axis", "factor"), [(0, 1), (1, 1), (0, -1)], ids=["shifted", "shifted in y", "mirrored"])
def test_a_label_map_beside_its_image(few, axis, factor):
    """nnU-Net warns of it, and trains."""
    path = cases_of(few)[1].files[-1]
    label = nibabel.load(path)
    affine = label.affine.copy()
    affine[axis, 3] += 30 if factor > 0 else 0
    affine[axis, axis] *= factor
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(label.dataobj), affine), path)
    with pytest.raises(UserError, match=r"1 of 3 cases cannot be used\.\n.*is up to .* mm away from"):
        prepare("4", "tiny", processes=1)


def test_files_that_dataset_json_names(few):
    """nnU-Net's `dataset`: the same files elsewhere give the same fingerprint and the same images."""
    prepare("4", "tiny", processes=1)
    prepared, raw = few / "preprocessed" / DATASET, few / "raw" / DATASET
    before = {path.name: blosc2.open(str(path))[:] for path in prepared.glob("STUNetPlans_3d_fullres/*.b2nd")}
    fingerprint_before = (prepared / "dataset_fingerprint.json").read_text()
    shutil.rmtree(prepared)
    (few / "elsewhere").mkdir()
    files = {}
    for case in cases_of(few):
        image, label = (path.rename(few / "elsewhere" / f"my{path.name}") for path in case.files)
        files[case.name] = {"images": [str(image)], "label": f"../../elsewhere/{label.name}"}
    described = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**described, "dataset": files}))
    assert prepare("4", "tiny", processes=1).cases == 3
    assert (prepared / "dataset_fingerprint.json").read_text() == fingerprint_before
    for name, array in before.items():
        np.testing.assert_array_equal(blosc2.open(str(prepared / "STUNetPlans_3d_fullres" / name))[:], array)
    assert {path.name for path in (prepared / "gt_segmentations").iterdir()} == {f"{name}.nii.gz" for name in files}


def test_hidden_files_of_macos(few):
    image = cases_of(few)[0].files[0]
    image.with_name(f"._{image.name}").write_bytes(bytes(200))
    with pytest.raises(UserError, match=r"hidden files.*\._hippocampus_001_0000\.nii\.gz.*-delete"):
        prepare("4", "tiny", processes=1)


def test_images_without_a_channel_number(few):
    for case in cases_of(few):
        image = case.files[0]
        image.rename(image.with_name(image.name.replace("_0000", "")))
    with pytest.raises(UserError, match=r"3 images have no channel number.* Call them \S+_0000.nii.gz"):
        prepare("4", "tiny", processes=1)


def each_file_becomes(home, change):
    """Change the voxels (x, y, z) of each file, given whether they are labels."""
    for case in cases_of(home):
        for path in case.files:
            image = nibabel.load(path)
            voxels = change(np.asanyarray(image.dataobj), path == case.files[-1])
            nibabel.save(nibabel.Nifti1Image(voxels, image.affine), path)


def test_images_of_one_slice(few):
    each_file_becomes(few, lambda voxels, are_labels: voxels[:, :, 15:16])
    with pytest.raises(UserError, match=r"are 2D: they have one slice\. stunet's networks are 3D"):
        prepare("4", "tiny", processes=1)


def test_labels_without_any_foreground(few):
    each_file_becomes(few, lambda voxels, are_labels: np.zeros_like(voxels) if are_labels else voxels)
    with pytest.raises(UserError, match=r"No label map of .* has any foreground"):
        prepare("4", "tiny", processes=1)


def test_a_label_that_dataset_json_lacks_is_a_plain_number(few):
    each_file_becomes(few, lambda voxels, are_labels: voxels + 7 * are_labels)
    with pytest.raises(UserError, match="Unexpected labels") as caught:
        prepare("4", "tiny", processes=1)
    assert "np." not in str(caught.value)
    assert "7" in str(caught.value)


def test_other_datasets_whose_numbers_nnunet_takes_for_the_same(few):
    """nnU-Net finds Dataset0041_... where it looks for number 4, and refuses two of one number."""
    for name in ("Dataset004_Other", "Dataset0041_Other"):
        (few / "raw" / name).mkdir()
    assert prepare(DATASET, "tiny", processes=1).dataset == DATASET


def test_a_folder_that_may_not_be_written(few, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", "preprocessed/plans.json")

    monkeypatch.setattr(STUNetPlanner, "plan_experiment", refuse)
    with pytest.raises(UserError, match=r"preprocessed/plans.json: cannot be read or written \(Permission denied\)"):
        prepare("4", "tiny", processes=1)


def test_a_full_disk_is_found_before_any_case_is_read(few, monkeypatch):
    def refuse(folder):
        raise OutputError(f"{folder}: cannot be written to")

    monkeypatch.setattr("stunet.training.prepare.require_writable", refuse)
    monkeypatch.setattr("stunet.training.prepare.extract_fingerprint", None)
    with pytest.raises(OutputError, match=rf"preprocessed/{DATASET}: cannot be written to"):
        prepare("4", "tiny", processes=1)


def test_too_few_processes(home):
    with pytest.raises(UserError, match="--workers must be 1 or more, not -1"):
        prepare("4", "tiny", processes=-1)


@pytest.mark.slow
def test_another_size_leaves_the_images_alone(home):
    images = home / "preprocessed" / DATASET / "STUNetPlans_3d_fullres"
    before = {path: path.stat().st_mtime_ns for path in images.iterdir()}
    made = prepare("4", "base", processes=1)
    assert (made.cases, made.plans_file.name) == (10, "STUNetPlans_base.json")
    assert json.loads(made.plans_file.read_text())["plans_name"] == "STUNetPlans_base"
    assert {path: path.stat().st_mtime_ns for path in images.iterdir()} == before


@pytest.mark.slow
def test_a_configuration_that_nnunet_does_not_plan(home):
    with pytest.raises(UserError, match="no '3d_lowres' for Dataset004_Hippocampus, only: 3d_fullres"):
        prepare("4", "tiny", "3d_lowres", processes=1)


def test_a_configuration_of_ones_own(few):
    """Its images are at its spacing, and nnU-Net's own configuration can be prepared beside it."""
    prepared = prepare("4", "tiny", "3d_coarse", processes=1, spacing=(2.0, 2.0, 2.0))
    plans = json.loads(prepared.plans_file.read_text())
    assert list(plans["configurations"]) == ["3d_coarse"]
    folder = prepared.plans_file.parent
    assert len(list((folder / "STUNetPlans_3d_coarse").glob("*.pkl"))) == prepared.cases
    prepare("4", "tiny", processes=1)
    assert set(json.loads(prepared.plans_file.read_text())["configurations"]) == {"3d_coarse", "3d_fullres"}
    assert (folder / "STUNetPlans_3d_fullres").is_dir()


def test_the_published_plan_has_its_own_spacing(few):
    with pytest.raises(UserError, match="leave --spacing and --memory out"):
        prepare("4", "tiny", "mine", plan="published", memory=16.0)

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from stunet.errors import UserError
from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation, Timings, file_names
from tests.phantoms import rotated_affine

NAMES = {0: "background", 1: "liver", 2: "spleen", 3: "aorta"}


def segmentation() -> Segmentation:
    labels = np.zeros((3, 4, 5), dtype=np.uint8)
    labels[0, 0, :3] = 1
    labels[2] = 3
    affine = np.diag([0.5, -2.0, 3.0, 1.0])
    scan = Volume(np.zeros((1, 3, 4, 5), dtype=np.int16), affine)
    return Segmentation(labels, NAMES, scan, Timings(1.0, 2.0, 3.0, 4.0))


def test_volumes():
    assert segmentation().voxel_counts.tolist() == [37, 3, 0, 20]


def test_a_structure_of_some_that_was_not_found():
    found = replace(segmentation(), names={0: "background", 1: "liver", 9: "spleen"})
    found = replace(found, labels=np.where(found.labels == 1, 1, 0).astype(np.uint8))
    assert found.volumes_mm3()["spleen"] == 0.0 and found.volumes_mm3()["liver"] > 0
    assert segmentation().volumes_mm3() == pytest.approx({"liver": 9.0, "spleen": 0.0, "aorta": 60.0})


def test_what_is_painted_over_a_region_still_lies_in_it(tmp_path):
    """The liver has labels 1 and 3, the aorta only 3: 23 and 20 voxels of 3 mm3."""
    regions = replace(segmentation(), members={1: (1, 3), 3: (3,)})
    assert regions.volumes_mm3() == pytest.approx({"liver": 69.0, "spleen": 0.0, "aorta": 60.0})
    assert {name: one.voxels for name, one in regions.statistics().items()} == {"liver": 23, "aorta": 20}
    regions.save_structures(tmp_path)
    masks = {path.name.split(".")[0]: read_labels(path).array[0] for path in tmp_path.iterdir()}
    assert np.array_equal(masks["liver"], np.isin(regions.labels, (1, 3)))
    assert np.array_equal(masks["aorta"], regions.labels == 3)


def test_timings_add_up():
    assert segmentation().timings.total == 10.0


def test_saved_labels_come_back(tmp_path):
    path = tmp_path / "labels.nii.gz"
    segmentation().save(path)
    read = read_labels(path)
    assert np.array_equal(read.array[0], segmentation().labels)
    assert np.allclose(read.affine, segmentation().affine)


def test_statistics_are_those_of_labels_and_scan():
    statistics = segmentation().statistics()
    assert list(statistics) == ["liver", "aorta"]
    assert {name: one.volume_mm3 for name, one in statistics.items()} == pytest.approx({"liver": 9.0, "aorta": 60.0})


def masks_of(folder: Path) -> dict[str, nibabel.Nifti1Image]:
    return {path.name: nibabel.load(path) for path in sorted(folder.iterdir())}


def test_one_file_per_structure(tmp_path):
    segmentation().save_structures(tmp_path / "new" / "masks")
    masks = masks_of(tmp_path / "new" / "masks")
    assert list(masks) == ["aorta.nii.gz", "liver.nii.gz", "spleen.nii.gz"]
    for label, name in list(NAMES.items())[1:]:
        mask = masks[f"{name}.nii.gz"]
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asarray(mask.dataobj).T, segmentation().labels == label)
        np.testing.assert_array_equal(mask.affine, segmentation().affine)


def test_masks_keep_the_geometry_of_a_nifti_scan_to_the_byte(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((5, 4, 3), dtype=np.int16), rotated_affine((0.7, 0.8, 2.5)))
    image.set_qform(image.affine, code=1)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    scan = read_volume(tmp_path / "scan.nii.gz")
    replace(segmentation(), scan=scan).save_structures(tmp_path / "masks", ["liver"])
    written, stored = (
        nibabel.load(tmp_path / "masks" / "liver.nii.gz").header,
        nibabel.load(tmp_path / "scan.nii.gz").header,
    )
    for field in ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                  "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"):  # fmt: skip
        assert written[field].tobytes() == stored[field].tobytes(), field


def test_only_the_structures_that_are_asked_for(tmp_path):
    segmentation().save_structures(tmp_path / "masks", ["aorta"])
    assert list(masks_of(tmp_path / "masks")) == ["aorta.nii.gz"]


def test_a_structure_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match=r"'livre'.*liver, spleen, aorta"):
        segmentation().save_structures(tmp_path / "masks", ["aorta", "livre"])
    assert not (tmp_path / "masks").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "masks").write_text("a file")
    with pytest.raises(UserError, match="cannot be created"):
        segmentation().save_structures(tmp_path / "masks")


def test_names_of_any_kind_become_files_in_the_folder(tmp_path):
    names = {0: "background", 1: "../../up", 2: "a b/c", 3: "A_b:c"}
    replace(segmentation(), names=names).save_structures(tmp_path / "masks")
    assert list(masks_of(tmp_path / "masks")) == ["A_b_c_3.nii.gz", "_.._up.nii.gz", "a_b_c.nii.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def test_file_names_differ_whatever_the_names():
    names = {0: "a", 1: "a", 2: "A", 3: "a_2", 4: "", 5: "...", 6: "x" * 300, 7: "x" * 301, 8: "Läsion"}
    files = file_names(names)
    assert list(files) == list(range(1, 9))
    assert len({file.casefold() for file in files.values()}) == 8
    assert files[1] == "a" and files[8] == "Läsion"
    assert all(0 < len(file.encode()) < 230 and not file.startswith(".") for file in files.values())

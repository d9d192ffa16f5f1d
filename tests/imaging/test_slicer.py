"""What 3D Slicer reads, parsed as its developer guide describes it."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from stunet.errors import UserError
from stunet.imaging.formats.registry import read_labels, write_labels
from stunet.imaging.formats.slicer import write_slicer_colours
from stunet.imaging.volume import Volume
from stunet.labels.ontology import COLOURS, LABELS, colour_of
from tests.phantoms import rotated_affine


def test_the_colour_table_of_the_104_structures(tmp_path: Path) -> None:
    write_slicer_colours(tmp_path / "labels.ctbl", dict(enumerate(LABELS)))
    first, *lines = (tmp_path / "labels.ctbl").read_text(encoding="utf-8").splitlines()
    assert first.startswith("# Color table file")
    rows = [line.split(" ") for line in lines if not line.startswith("#")]
    assert [(int(label), name) for label, name, *_ in rows] == list(enumerate(LABELS))
    assert [tuple(map(int, row[2:])) for row in rows] == [(0, 0, 0, 0), *((*COLOURS[n], 255) for n in LABELS[1:])]


def test_any_names_and_labels_in_a_colour_table(tmp_path: Path) -> None:
    write_slicer_colours(tmp_path / "labels.ctbl", {7: " ", 2: "left  kidney\n(Läsion)"})
    rows = [line.split() for line in (tmp_path / "labels.ctbl").read_text(encoding="utf-8").splitlines()[2:]]
    assert [row[:2] for row in rows] == [["0", "background"], ["2", "left_kidney_(Läsion)"], ["7", "label_7"]]
    with pytest.raises(UserError, match="cannot be written"):
        write_slicer_colours(tmp_path / "absent" / "labels.ctbl", {1: "liver"})


def segments(path: Path) -> list[dict[str, str]]:
    """The fields of each segment, in order, as SimpleITK finds them in the header."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    keys, found = reader.GetMetaDataKeys(), []
    while f"Segment{len(found)}_ID" in keys:
        prefix = f"Segment{len(found)}_"
        found.append({key.removeprefix(prefix): reader.GetMetaData(key) for key in keys if key.startswith(prefix)})
    assert reader.GetMetaData("Segmentation_SourceRepresentation") == "Binary labelmap"
    assert reader.GetMetaData("Segmentation_ReferenceImageExtentOffset") == "0 0 0"
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_segmentation_names_what_it_holds(tmp_path: Path, dtype: type) -> None:
    labels = np.zeros((4, 5, 6), dtype)
    labels[1:3, 2:5, 3] = 3
    labels[0, 0, :2] = 200
    names = {0: "background", 3: "left kidney\n", 4: "liver", 200: "aorta"}
    path = tmp_path / "labels.seg.nrrd"
    write_labels(labels, Volume(np.zeros((1, 4, 5, 6)), rotated_affine((0.7, 0.9, 2.5))), path, names)
    kidney, aorta = segments(path)
    assert (kidney["Name"], kidney["LabelValue"], kidney["Layer"]) == ("left kidney", "3", "0")
    assert (aorta["Name"], aorta["LabelValue"], aorta["Layer"]) == ("aorta", "200", "0")
    assert kidney["ID"] != aorta["ID"]
    for segment, label in ((kidney, 3), (aorta, 200)):
        z, y, x = np.nonzero(labels == label)
        extent = [x.min(), x.max(), y.min(), y.max(), z.min(), z.max()]
        assert segment["Extent"].split() == [str(int(edge)) for edge in extent]
        colour = [float(value) * 255 for value in segment["Color"].split()]
        np.testing.assert_allclose(colour, colour_of(segment["Name"], label), atol=1e-3)
    np.testing.assert_array_equal(read_labels(path).array[0], labels)


def test_a_segmentation_without_names_or_labels(tmp_path: Path) -> None:
    like, labels = Volume(np.zeros((1, 4, 5, 6)), np.eye(4)), np.zeros((4, 5, 6), np.uint8)
    write_labels(labels, like, tmp_path / "empty.seg.nrrd")
    assert segments(tmp_path / "empty.seg.nrrd") == []
    labels[0] = 7
    write_labels(labels, like, tmp_path / "one.seg.nrrd")
    assert [segment["Name"] for segment in segments(tmp_path / "one.seg.nrrd")] == ["label 7"]


def test_the_104_structures_have_their_codes_in_slicers_own_notation(tmp_path: Path) -> None:
    labels = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    names = {1: "kidney_left", 2: "aorta", 3: "a tumour of mine"}
    write_labels(labels, Volume(np.zeros((1, 1, 2, 2)), np.eye(4)), tmp_path / "labels.seg.nrrd", names)
    kidney, aorta, tumour = (segment["Tags"] for segment in segments(tmp_path / "labels.seg.nrrd"))
    entry = (
        "TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left"
        "~Anatomic codes - DICOM master list~^^~^^"
    )
    assert kidney.split("|")[:-1] == ["Segmentation.Status:completed", entry] and kidney.endswith("|")
    assert "~SCT^15825003^Aorta~^^~Anatomic" in aorta
    assert tumour == "Segmentation.Status:completed|"

"""Read, check and write one case of a published dataset, whole or not at all."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from stunet.datasets.raw import FILE_ENDING, CaseFiles, case_files
from stunet.datasets.record import CaseRecord
from stunet.datasets.regrid import at_spacing, has_spacing
from stunet.datasets.source import LabelMap, SourceCase, SourceDataset
from stunet.errors import UserError, listed
from stunet.files import made_folder, replacing
from stunet.imaging.formats.nifti_write import split_nifti_channels, write_nifti_image
from stunet.imaging.formats.registry import read_volume, write_labels
from stunet.imaging.volume import Volume


def convert_case(
    source: SourceDataset, case: SourceCase, folder: Path, link: bool = False, only_labelled: bool = False
) -> CaseRecord:
    """Write one case, the label map last. Nothing is left of a case that cannot be used.

    Args:
        source: the dataset that it belongs to.
        case: the case.
        folder: of the new dataset.
        link: link images that need no change.
        only_labelled: skip the case if its label map is empty.

    Returns:
        The outcome. An error is a sentence in it.
    """
    places = case_files(folder, case.name, len(source.published.channels), case.part == "test")
    try:
        return _write_case(source, case, places, link, only_labelled)
    except UserError as error:
        _remove_all(places)
        if case.name in source.known_damage:
            reason = f"{case.name}: {source.known_damage[case.name]}; left out."
            return CaseRecord(case.name, case.part, "damaged", reason)
        return CaseRecord(case.name, case.part, "failed", f"{case.name}: {error}")


def _write_case(
    source: SourceDataset, case: SourceCase, places: CaseFiles, link: bool, only_labelled: bool
) -> CaseRecord:
    made_folder(places.images[0].parent)
    made_folder(places.label.parent)
    image = _read_image(case, places)
    labels = source.read_labels(case, image) if case.label is not None else None
    present = _labels_present(case, labels, len(source.published.labels))
    if only_labelled and labels is not None and not present:
        _remove_all(places)
        return CaseRecord(case.name, case.part, "empty", f"{case.name}: its label map is empty; left out.")
    record = CaseRecord(case.name, case.part, "written", labels=present)
    if source.spacing is not None and not has_spacing(image, source.spacing):
        record = replace(record, spacing=image.spacing)
        image, labels = _resampled(image, labels, source.spacing)
        for channel_ZYX, place in zip(image.array, places.images, strict=True):
            write_nifti_image(channel_ZYX, image, place)
    else:
        _bring_images(case, places, link)
    if labels is None:
        return record
    names = source.published.labels
    write_labels(labels.array, image, places.label, {label: names[label] for label in present})
    return replace(record, overlaps=dict(labels.overlaps), missing=labels.missing)


def _read_image(case: SourceCase, places: CaseFiles) -> Volume:
    """Read all channels of a case. Those of a 4D file are first written to their places."""
    paths = case.images
    if len(case.images) < len(places.images):
        split_nifti_channels(case.images[0], places.images)
        paths = places.images
    image = read_volume(paths)
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise UserError(f"{image.source}: has voxels that are not finite.")
    return image


def _labels_present(case: SourceCase, labels: LabelMap | None, classes: int) -> tuple[int, ...]:
    """The integers in a label map, without background.

    Raises:
        UserError: an integer has no name.
    """
    if labels is None:
        return ()
    present = [int(label) for label in np.unique(labels.array) if label > 0]
    unknown = [label for label in present if label >= classes]
    if unknown:
        raise UserError(
            f"{case.label}: contains the label {listed(unknown)}, but the dataset has labels up to {classes - 1}."
        )
    return tuple(present)


def _resampled(
    image: Volume, labels: LabelMap | None, spacing: tuple[float, float, float]
) -> tuple[Volume, LabelMap | None]:
    array_ZYX = labels.array if labels else np.zeros(image.shape, np.uint8)
    image, array_ZYX = at_spacing(image, array_ZYX, spacing)
    return image, replace(labels, array=array_ZYX) if labels else None


def _bring_images(case: SourceCase, places: CaseFiles, link: bool) -> None:
    """Copy or link the files of a case, and compress uncompressed ones. Channels of a 4D file are already in place."""
    if len(case.images) < len(places.images):
        return
    for path, place in zip(case.images, places.images, strict=True):
        if not path.name.endswith(FILE_ENDING):
            split_nifti_channels(path, [place])
            continue
        with replacing(place) as temporary:
            if link:
                temporary.symlink_to(path.resolve())
            else:
                shutil.copyfile(path, temporary)


def _remove_all(places: CaseFiles) -> None:
    for path in (*places.images, places.label):
        path.unlink(missing_ok=True)

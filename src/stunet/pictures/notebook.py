"""A segmentation in a notebook: a view to turn and scroll where ipyniivue is installed, else a picture."""

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stunet.errors import MissingPackageError
from stunet.extras import how_to_install
from stunet.imaging.formats.nifti_write import write_nifti_image
from stunet.inference.segmentation import Segmentation
from stunet.labels.ontology import colour_of
from stunet.pictures.display import intensity_window
from stunet.pictures.preview import draw_preview

HEIGHT = 480
"""Pixels of the view."""

OPACITY = 0.6
"""Of the labels over the scan."""


def show(segmentation: Segmentation) -> object:
    """Show scan and labels; make it the last line of a notebook's cell.

    Args:
        segmentation: what a predictor gave.

    Returns:
        A `NiiVue` widget of ipyniivue with three planes and 3D where ipyniivue is installed, else the picture of
        `stunet.pictures.preview` as an `IPython.display.Image`.

    Raises:
        UserError: neither ipyniivue nor IPython is installed.
    """
    try:
        import ipyniivue
    except ImportError:
        return _picture(segmentation)
    return _view(segmentation, ipyniivue)


def _view(segmentation: Segmentation, ipyniivue: Any) -> object:
    """The widget. Both images travel inside it, so it needs no server and no file."""
    scan = segmentation.scan.array[0]
    low, high = intensity_window(scan)
    with TemporaryDirectory(prefix="stunet") as folder:
        scan_file, labels_file = Path(folder) / "scan.nii.gz", Path(folder) / "labels.nii.gz"
        write_nifti_image(scan, segmentation.scan, scan_file)
        segmentation.save(labels_file)
        image = ipyniivue.Volume(
            name=scan_file.name, data=scan_file.read_bytes(), colormap="gray", cal_min=low, cal_max=high
        )
        labels = ipyniivue.Volume(name=labels_file.name, data=labels_file.read_bytes(), opacity=OPACITY)
    labels.set_colormap_label(_colours(segmentation))
    view = ipyniivue.NiiVue(height=HEIGHT, is_radiological_convention=True, show_legend=False)
    view.load_volumes([image, labels])
    return view


def _colours(segmentation: Segmentation) -> dict[str, list[Any]]:
    """Names and colours of the structures that were found, as NiiVue takes them; the background is clear."""
    found = [label for label in sorted(segmentation.names) if label and segmentation.voxel_counts[label]]
    rows = [(0, 0, 0), *(colour_of(segmentation.names[label], label) for label in found)]
    red, green, blue = (list(values) for values in zip(*rows, strict=True))
    return {
        "R": red,
        "G": green,
        "B": blue,
        "A": [0, *[255] * len(found)],
        "I": [0, *found],
        "labels": ["background", *(segmentation.names[label] for label in found)],
    }


def _picture(segmentation: Segmentation) -> object:
    try:
        from IPython.display import Image
    except ImportError as error:
        raise MissingPackageError(
            f"Nothing is installed that shows a segmentation: {how_to_install('notebook')}, or write a picture with "
            "stunet.pictures.preview.save_preview."
        ) from error
    file = io.BytesIO()
    draw_preview(file, segmentation.scan, segmentation.labels, segmentation.names)
    return Image(data=file.getvalue(), format="png")

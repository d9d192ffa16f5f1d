"""A scan and labels that were written earlier become a segmentation again."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stunet.batch.prediction_record import labels_of
from stunet.imaging.formats.registry import read_labels
from stunet.imaging.scan import Scan, as_volume
from stunet.imaging.volume import check_same_grid
from stunet.inference.segmentation import Segmentation, Timings
from stunet.plans.labels import LabelTable

logger = logging.getLogger(__name__)

NO_NAMES = (
    "{}: the structures have no names, because the record of `stunet predict` (.report.json) is not beside the file. "
    "--names takes them from a dataset.json."
)


def read_segmentation(
    scan: Scan, labels: Path, record: Mapping[str, Any], table: LabelTable | None = None
) -> Segmentation:
    """A segmentation without its seconds.

    Args:
        scan: what was segmented.
        labels: label map on its grid.
        record: of the run, see `stunet.batch.prediction_record.record_beside`; empty where there is none.
        table: what the labels mean; None for what the record says. Where that says nothing, each value is a structure
            without a name, and a warning says so.

    Raises:
        UserError: files that cannot be read, or labels on another grid.
    """
    volume, values = as_volume(scan), read_labels(labels)
    check_same_grid(volume, values)
    table = table or labels_of(record)
    names, remarks = table.names, list(volume.warnings)
    if not names:
        names = {value: f"label {value}" for value in range(1, int(values.array.max()) + 1)}
        remarks.append(NO_NAMES.format(labels.name))
        logger.warning(remarks[-1])
    return Segmentation(
        labels=values.array[0],
        names={0: "background", **names},
        scan=volume,
        timings=Timings(0, 0, 0, 0),
        warnings=(*remarks, *record.get("warnings", ())),
        members=table.members,
    )

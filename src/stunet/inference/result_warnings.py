"""What users should know about the labels of a scan."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from stunet.errors import listed
from stunet.inference.search import Search

NOT_SEEN = "The first, quick pass did not find: {}. To be sure, run the whole scan (--whole-scan)."


def result_warnings(
    labels: np.ndarray, names: Mapping[int, str], classes: Sequence[str], found: Search | None
) -> Iterator[str]:
    """Warn of an empty result, and of structures that the first pass did not find.

    Args:
        labels: of the scan, any shape.
        names: label to requested structure; 0 is background.
        classes: names of the structures that the user requested; empty for all.
        found: what a first pass found; None if all windows ran.
    """
    if not labels.any():
        yield nothing_found(classes)
    if found is not None and (missing := [names[label] for label in names if label and label not in found.boxes]):
        yield NOT_SEEN.format(", ".join(sorted(missing)))


def nothing_found(classes: Sequence[str]) -> str:
    """The warning about labels that are all background.

    Args:
        classes: names of the requested structures; empty for all.

    >>> nothing_found(["liver", "spleen"])
    'None of the requested structures was found: liver, spleen. Does the scan show this part of the body?'
    """
    if classes:
        return (
            f"None of the requested structures was found: {listed(classes)}. Does the scan show this part of the body?"
        )
    return "No structure was found: all voxels are background. Does the scan show what the model was trained on?"

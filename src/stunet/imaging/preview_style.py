"""Colours and sizes that all parts of a preview share."""

import numpy as np

DOTS_PER_INCH = 160

BACKGROUND_COLOUR, PANEL_COLOUR = "#0d1015", "#000000"
TEXT_COLOUR, DIM_COLOUR, REFERENCE_COLOUR = "#e8ebf0", "#8b93a1", "#ffffff"

OUTLINE_POINTS, REFERENCE_POINTS, CAPTION_POINTS, SIDE_POINTS, TITLE_POINTS = 1.3, 0.9, 7.5, 10.0, 15.0


def lightened(colour: np.ndarray) -> np.ndarray:
    """A colour (3,) in 0..1, a quarter of the way to white."""
    return colour + 0.25 * (1 - colour)


def shortened(text: str, longest: int) -> str:
    """A text of at most `longest` letters.

    >>> shortened("gallbladder", 8)
    'gallbla…'
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"

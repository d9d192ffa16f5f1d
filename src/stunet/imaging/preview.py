"""A picture of a segmentation: three planes through its middle, with outlines, names and volumes.

The planes are laid out as on a drawing board, coronal above axial and sagittal beside coronal, all at one scale in
millimetres, so that what lies in line in the picture lies in line in the patient. Each plane is drawn at its full
extent with row 0 at the top; the orientation "LPI" makes that the radiological display (the patient's right on the
left, anterior to the left in sagittal planes) without any further flip.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from stunet.files import replacing
from stunet.imaging.resample import axis_operator
from stunet.imaging.volume import Volume, reorient
from stunet.labels.ontology import colour_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DISPLAY_ORIENTATION = "LPI"

SOFT_TISSUE_HU = (-160.0, 240.0)
"""The usual soft-tissue window of CT: level 40, width 400."""

AIR_AND_TISSUE_HU = (-200.0, 100.0)
"""Intensities that reach below the first (lung, air) and above the second are taken for Hounsfield units."""

WINDOW_PERCENTILES = (0.5, 99.5)
"""What is black and what is white in images without units."""

WINDOW_SAMPLES = 1_000_000
"""About as many voxels are looked at to find the window."""

LONGEST_LEGEND = 20
"""Structures that the legend names; the rest are counted."""

FILL_OPACITY = 0.34

SMOOTHING_VOXELS = 0.5
"""Standard deviation; rounds the corners of voxels. Straight edges stay in place, and a single voxel stays visible."""

LEAST_ENLARGEMENT = 2
"""Dots per voxel at least, so that no structure falls between them."""

DOTS_PER_INCH = 160

PLANES_INCHES = 8.2
"""Both columns of planes together are as wide, unless the picture would become taller than `TALLEST_INCHES`."""

TALLEST_INCHES = 11.0
LEGEND_INCHES = 3.4
"""The legend gets at least this width; and so the right column does."""

LEGEND_LINE = 0.2
"""Inches from line to line at least; a third more where there is room."""

LETTERS_PER_LINE = 0.62
"""Height of letters by the distance between lines."""

COLUMN_LINES = 3.6
"""Width of a column of numbers by the distance between lines."""

LONGEST_NAME, LONGEST_TITLE = 30, 56
"""Letters; longer ones are cut."""

THINNEST_LETTERED_INCHES = 0.5
"""Planes that are narrower carry no letters for the patient's sides."""

OUTLINE_POINTS, REFERENCE_POINTS, CAPTION_POINTS, SIDE_POINTS, TITLE_POINTS = 1.3, 0.9, 7.5, 10.0, 15.0

MARGIN, GAP, TITLE, FOOTER = 0.28, 0.12, 0.52, 0.42
"""Inches around everything, between planes, for the title and for the footer."""

BACKGROUND_COLOUR, PANEL_COLOUR = "#0d1015", "#000000"
TEXT_COLOUR, DIM_COLOUR, REFERENCE_COLOUR = "#e8ebf0", "#8b93a1", "#ffffff"

LARGEST_IN_MM3 = 20_000.0
"""Volumes are told in mm³ if none is larger, else in ml."""


@dataclass(frozen=True)
class _Plane:
    """One of the three planes: its name, the axis it is perpendicular to, and the letters on its edges."""

    name: str
    axis: int
    left: str
    right: str
    top: str
    bottom: str

    def cut(self, array_ZYX: np.ndarray, centre: tuple[int, int, int]) -> np.ndarray:
        """The 2D slice through `centre`, rows downwards."""
        return np.take(array_ZYX, centre[self.axis], axis=self.axis)

    def of(self, values_ZYX: tuple[float, float, float]) -> tuple[float, float]:
        """The values of the rows' and the columns' axis."""
        rows, columns = (value for axis, value in enumerate(values_ZYX) if axis != self.axis)
        return rows, columns


_CORONAL = _Plane("coronal", 1, "R", "L", "S", "I")
_SAGITTAL = _Plane("sagittal", 2, "A", "P", "S", "I")
_AXIAL = _Plane("axial", 0, "R", "L", "A", "P")


@dataclass(frozen=True, eq=False)
class _Scene:
    """What is drawn, in display orientation.

    Attributes:
        image: (Z, Y, X), the first channel.
        labels: (Z, Y, X).
        reference: (Z, Y, X) or None.
        centre: voxel (z, y, x) where the planes meet.
        extent: size (Z, Y, X) in mm.
        window: intensities that are black and white.
        colours: label to red, green, blue in 0..1; the labels that have a name.
    """

    image: np.ndarray
    labels: np.ndarray
    reference: np.ndarray | None
    centre: tuple[int, int, int]
    extent: tuple[float, float, float]
    window: tuple[float, float]
    colours: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class _Row:
    """One line of the legend."""

    label: int
    name: str
    mm3: float
    dsc: float | None


def save_preview(
    path: str | Path,
    volume: Volume,
    labels_ZYX: np.ndarray,
    names: Mapping[int, str],
    reference_ZYX: np.ndarray | None = None,
    dsc: Mapping[int, float] | None = None,
    title: str = "",
) -> None:
    """Draw a segmentation over its scan as a PNG file, in radiological display.

    It may be called from several threads at once.

    Args:
        path: The picture; it appears only when complete.
        volume: The scan, in any orientation; its first channel is drawn.
        labels_ZYX: (Z, Y, X) integers on the scan's grid; 0 is background.
        names: Label to structure; labels without a name are not drawn.
        reference_ZYX: Labels to compare with, on the same grid, drawn as white outlines.
        dsc: Label to Dice similarity coefficient, told in the legend.
        title: Above the planes, such as the scan's name.

    Raises:
        UserError: If the file cannot be written.
        ValueError: If labels or reference do not fit the scan.
    """
    for array in (labels_ZYX, reference_ZYX):
        if array is not None and array.shape != volume.shape:
            raise ValueError(f"labels of shape {array.shape} do not fit a scan of shape {volume.shape}")
    scene = _scene(volume, labels_ZYX, reference_ZYX, names)
    rows = _legend_rows(labels_ZYX, names, float(np.prod(volume.spacing)), dsc)
    figure = _draw(scene, rows, title, _footer(volume, scene.window))
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png", facecolor=BACKGROUND_COLOUR)


# What is to be seen


def _scene(
    volume: Volume, labels_ZYX: np.ndarray, reference_ZYX: np.ndarray | None, names: Mapping[int, str]
) -> _Scene:
    first_channel = replace(volume, array=volume.array[:1])
    shown, moves = reorient(first_channel, DISPLAY_ORIENTATION)
    labels = moves.apply(labels_ZYX)
    z, y, x = (size * spacing for size, spacing in zip(shown.shape, shown.spacing, strict=True))
    return _Scene(
        image=shown.array[0],
        labels=labels,
        reference=None if reference_ZYX is None else moves.apply(reference_ZYX),
        centre=centre_of_mass(labels),
        extent=(z, y, x),
        window=intensity_window(shown.array[0]),
        colours={label: np.array(colour_of(name, label)) / 255 for label, name in names.items() if label},
    )


def centre_of_mass(labels_ZYX: np.ndarray) -> tuple[int, int, int]:
    """The voxel (z, y, x) nearest to the centre of mass of all that is not 0; the grid's middle if all is 0."""
    is_structure = labels_ZYX != 0
    centre = []
    for axis, size in enumerate(labels_ZYX.shape):
        others = tuple(other for other in range(3) if other != axis)
        weights = is_structure.sum(axis=others, dtype=np.float64)
        centre.append(round(np.average(np.arange(size), weights=weights)) if weights.any() else size // 2)
    z, y, x = centre
    return z, y, x


def intensity_window(image_ZYX: np.ndarray) -> tuple[float, float]:
    """Which intensities are drawn black and white: a soft-tissue window for Hounsfield units, else percentiles."""
    stride = max(1, round((image_ZYX.size / WINDOW_SAMPLES) ** (1 / 3)))
    sample = image_ZYX[::stride, ::stride, ::stride].astype(np.float32)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(sample, WINDOW_PERCENTILES))
    if low <= AIR_AND_TISSUE_HU[0] and high >= AIR_AND_TISSUE_HU[1]:
        return SOFT_TISSUE_HU
    return (low, high) if high > low else (low, low + 1.0)


def _legend_rows(
    labels_ZYX: np.ndarray, names: Mapping[int, str], voxel_mm3: float, dsc: Mapping[int, float] | None
) -> list[_Row]:
    """The structures that are there; in the order of their labels where all have room, else the largest first."""
    # slice by slice, for bincount makes 8 bytes of each voxel
    size = max(names, default=0) + 1
    counts = sum((np.bincount(slice_YX.ravel(), minlength=size)[:size] for slice_YX in labels_ZYX), np.zeros(size))
    rows = [
        _Row(label, name.replace("_", " "), float(counts[label]) * voxel_mm3, (dsc or {}).get(label))
        for label, name in sorted(names.items())
        if label and counts[label]
    ]
    return rows if len(rows) <= LONGEST_LEGEND else sorted(rows, key=lambda row: -row.mm3)


def _footer(volume: Volume, window: tuple[float, float]) -> str:
    size = " × ".join(str(n) for n in reversed(volume.shape))
    spacing = " × ".join(f"{mm:.3g}" for mm in reversed(volume.spacing))
    unit = " HU" if window == SOFT_TISSUE_HU else ""
    low, high = (f"{value:,.0f}" if window[1] - window[0] > 20 else f"{value:.3g}" for value in window)
    shown = f"window {low} to {high}{unit}".replace("-", "−")
    return f"{size} voxels of {spacing} mm    {shown}    radiological display    not for diagnosis"


# The sheet


@dataclass(frozen=True)
class _Sheet:
    """Where everything lies, in inches from the lower left corner."""

    scale: float
    width: float
    height: float
    extent: tuple[float, float, float]

    @property
    def right_column(self) -> float:
        """Where the second column begins."""
        return MARGIN + self.extent[2] * self.scale + GAP

    @property
    def top(self) -> float:
        """Where the upper row ends."""
        return self.height - MARGIN - TITLE

    def box(self, plane: _Plane) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a plane."""
        rows, columns = (mm * self.scale for mm in plane.of(self.extent))
        left = self.right_column if plane is _SAGITTAL else MARGIN
        bottom = self.top - rows - (self.extent[0] * self.scale + GAP if plane is _AXIAL else 0.0)
        return left, bottom, columns, rows

    @property
    def legend_box(self) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of the empty corner, the legend's."""
        top = self.top - self.extent[0] * self.scale - GAP
        bottom = MARGIN + FOOTER
        return self.right_column, bottom, self.width - MARGIN - self.right_column, top - bottom

    def fraction(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box as matplotlib wants it: as fractions of the sheet."""
        left, bottom, width, height = box
        return left / self.width, bottom / self.height, width / self.width, height / self.height


def _sheet(extent: tuple[float, float, float], legend_height: float) -> _Sheet:
    z, y, x = extent
    around = 2 * MARGIN + TITLE + FOOTER + GAP
    scale = min(PLANES_INCHES / (x + y), (TALLEST_INCHES - around) / (z + y))
    width = 2 * MARGIN + GAP + x * scale + max(y * scale, LEGEND_INCHES)
    height = around + z * scale + max(y * scale, legend_height)
    return _Sheet(scale, width, height, extent)


def _draw(scene: _Scene, rows: list[_Row], title: str, footer: str) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = _sheet(scene.extent, _lines(rows) * LEGEND_LINE)
    figure = Figure(figsize=(sheet.width, sheet.height), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    for plane in (_CORONAL, _SAGITTAL, _AXIAL):
        axes = figure.add_axes(sheet.fraction(sheet.box(plane)))
        _draw_plane(axes, scene, plane, sheet.scale * DOTS_PER_INCH)
    legend = sheet.legend_box
    _draw_legend(figure.add_axes(sheet.fraction(legend)), scene, rows, legend[2:], 1 / sheet.scale)
    left, top, bottom = MARGIN / sheet.width, 1 - MARGIN / sheet.height, MARGIN / sheet.height
    heading = _shortened(title, LONGEST_TITLE)
    figure.text(left, top, heading, color=TEXT_COLOUR, size=TITLE_POINTS, weight="bold", va="top", parse_math=False)
    figure.text(left, bottom, footer, color=DIM_COLOUR, size=CAPTION_POINTS, va="bottom", parse_math=False)
    return figure


def _draw_plane(axes: "Axes", scene: _Scene, plane: _Plane, dots_per_mm: float) -> None:
    """Image, fills, outlines and letters of one plane; the axes' units are mm from the plane's upper left corner."""
    height, width = plane.of(scene.extent)
    axes.set(xticks=[], yticks=[], facecolor=PANEL_COLOUR)
    for spine in axes.spines.values():
        spine.set_visible(False)
    image = plane.cut(scene.image, scene.centre)
    dots = (_dots(height, dots_per_mm, image.shape[0]), _dots(width, dots_per_mm, image.shape[1]))
    picture = _grey(image, scene.window, dots)
    for label, mask in _smooth_masks(plane.cut(scene.labels, scene.centre), scene.colours, dots):
        inside = mask >= 0.5
        picture[inside] = (1 - FILL_OPACITY) * picture[inside] + FILL_OPACITY * scene.colours[label]
        _outline(axes, mask, (height, width), _lightened(scene.colours[label]), OUTLINE_POINTS)
    if scene.reference is not None:
        for _, mask in _smooth_masks(plane.cut(scene.reference, scene.centre), scene.colours, dots):
            _outline(axes, mask, (height, width), REFERENCE_COLOUR, REFERENCE_POINTS)
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="antialiased", aspect="auto", zorder=0)
    axes.set(xlim=(0, width), ylim=(height, 0))
    _letter(axes, plane, min(height, width) * dots_per_mm / DOTS_PER_INCH)


def _dots(mm: float, dots_per_mm: float, voxels: int) -> int:
    return max(round(mm * dots_per_mm), LEAST_ENLARGEMENT * voxels)


def _grey(image: np.ndarray, window: tuple[float, float], dots: tuple[int, int]) -> np.ndarray:
    """A plane of the scan, enlarged, as (rows, columns, red green blue) in 0..1."""
    low, high = window
    finite = np.nan_to_num(image.astype(np.float64), nan=low, posinf=high, neginf=low)
    grey = np.clip((_enlarged(finite, dots) - low) / (high - low), 0, 1)
    return np.repeat(grey[..., None], 3, axis=-1)


def _smooth_masks(
    labels: np.ndarray, colours: Mapping[int, np.ndarray], dots: tuple[int, int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Each structure of a plane with its enlarged mask, whose level 0.5 is a smooth outline along voxel edges."""
    for label in np.unique(labels).tolist():
        if label in colours:
            mask = ndimage.gaussian_filter((labels == label).astype(np.float64), SMOOTHING_VOXELS, mode="nearest")
            yield label, _enlarged(mask, dots)


def _enlarged(plane: np.ndarray, dots: tuple[int, int]) -> np.ndarray:
    """A 2D array brought to a number of rows and columns over the same extent, by cubic splines."""
    rows, columns = (axis_operator(n_in, n_out, 3) for n_in, n_out in zip(plane.shape, dots, strict=True))
    used_rows, used_columns = _range_of(plane.any(axis=1)), _range_of(plane.any(axis=0))  # the rest adds zeros only
    return rows[:, used_rows] @ plane[used_rows, used_columns] @ columns[:, used_columns].T


def _range_of(is_used: Any) -> slice:
    """From the first to the last True."""
    places = np.flatnonzero(is_used)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def _outline(axes: "Axes", mask: np.ndarray, size: tuple[float, float], colour: object, points: float) -> None:
    """The line around a mask; where the mask touches the plane's edge, it is closed there."""
    is_inside = mask >= 0.5
    if not is_inside.any():
        return
    y, x = (
        np.concatenate([[0.0], (np.arange(n) + 0.5) * mm / n, [mm]]) for n, mm in zip(mask.shape, size, strict=True)
    )
    rows, columns = (_widened(_range_of(is_inside.any(axis=axis))) for axis in (1, 0))
    ringed = np.pad(mask, 1)[rows, columns]
    axes.contour(x[columns], y[rows], ringed, levels=[0.5], colors=[colour], linewidths=[points], zorder=2)


def _widened(places: slice) -> slice:
    """The same places and their neighbours on both sides, in an array that begins one place earlier."""
    return slice(places.start, places.stop + 2)


def _lightened(colour: np.ndarray) -> np.ndarray:
    return colour + 0.25 * (1 - colour)


def _letter(axes: "Axes", plane: _Plane, inches: float) -> None:
    """The plane's name, and the patient's sides on its edges, if the plane is not too thin for them."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.0, foreground="#000000b0")]
    sides = (
        (plane.left, (0, 0.5), (5, 0), "left", "center"),
        (plane.right, (1, 0.5), (-5, 0), "right", "center"),
        (plane.top, (0.5, 1), (0, -5), "center", "top"),
        (plane.bottom, (0.5, 0), (0, 5), "center", "bottom"),
    )
    notes = [(*side, SIDE_POINTS, "bold") for side in sides] if inches > THINNEST_LETTERED_INCHES else []
    for text, place, shift, ha, va, points, weight in (
        *notes,
        (plane.name, (0, 1), (5, -5), "left", "top", CAPTION_POINTS, "normal"),
    ):
        axes.annotate(
            text, place, xycoords="axes fraction", xytext=shift, textcoords="offset points",
            color=TEXT_COLOUR, size=points, weight=weight, ha=ha, va=va, path_effects=halo,
        )  # fmt: skip


# The legend


def _draw_legend(axes: "Axes", scene: _Scene, rows: list[_Row], size: tuple[float, float], mm_per_inch: float) -> None:
    """Names, colours, volumes and DSC from the top; what white outlines mean and a scale bar at the bottom."""
    width, height = size
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    line = min(max(height / _lines(rows), LEGEND_LINE), 1.35 * LEGEND_LINE)
    write = _Writer(axes, line * LETTERS_PER_LINE * 72)
    _draw_rows(write, scene, rows, width, line)
    last_line = height - 0.5 * line
    if scene.reference is not None:
        _draw_stroke(axes, 0.9 * line, last_line - line, REFERENCE_POINTS)
        write(1.3 * line, last_line - line, "outline of the reference", DIM_COLOUR)
    length = _round_length(0.4 * width * mm_per_inch)
    _draw_stroke(axes, length / mm_per_inch, last_line, 2.0)
    write(length / mm_per_inch + 0.4 * line, last_line, f"{length:g} mm", DIM_COLOUR)


def _draw_rows(write: "_Writer", scene: _Scene, rows: list[_Row], width: float, line: float) -> None:
    """One line for each structure, and one for those that have no room."""
    columns = [(width - line * COLUMN_LINES * number, *column) for number, column in enumerate(_columns(rows))]
    for x, heading, _ in columns:
        write(x, 0.5 * line, heading, DIM_COLOUR, "right")
    write(0, 0.5 * line, "structure" if rows else "no structure was found", DIM_COLOUR)
    for number, row in enumerate(rows[:LONGEST_LEGEND]):
        y = (number + 1.6) * line
        _draw_swatch(write.axes, scene.colours[row.label], y, line)
        write(1.3 * line, y, _shortened(row.name, LONGEST_NAME), TEXT_COLOUR)
        for x, _, values in columns:
            write(x, y, values[number], TEXT_COLOUR, "right")
    if len(rows) > LONGEST_LEGEND:
        more = f"and {len(rows) - LONGEST_LEGEND} more"
        write(1.3 * line, (LONGEST_LEGEND + 1.6) * line, more, DIM_COLOUR)


def _draw_swatch(axes: "Axes", colour: np.ndarray, middle: float, line: float) -> None:
    from matplotlib.patches import Rectangle

    side = 0.6 * line
    corner = (0.15 * line, middle - side / 2)
    axes.add_patch(Rectangle(corner, side, side, facecolor=colour, edgecolor=_lightened(colour)))


def _draw_stroke(axes: "Axes", length: float, y: float, points: float) -> None:
    axes.plot([0, length], [y, y], color=REFERENCE_COLOUR, linewidth=points, solid_capstyle="butt")


@dataclass(frozen=True)
class _Writer:
    """Writes words of one size, centred on a height."""

    axes: "Axes"
    points: float

    def __call__(self, x: float, y: float, text: str, colour: str, align: str = "left") -> None:
        self.axes.text(x, y, text, color=colour, size=self.points, ha=align, va="center_baseline", parse_math=False)


def _lines(rows: list[_Row]) -> int:
    """How many lines the legend has: heading, structures, how many more, what the outlines mean, the scale bar."""
    return min(len(rows), LONGEST_LEGEND) + 5


def _columns(rows: list[_Row]) -> list[tuple[str, list[str]]]:
    """The columns of numbers, from the right: heading and values."""
    in_mm3 = all(row.mm3 <= LARGEST_IN_MM3 for row in rows)
    volumes = [f"{row.mm3:,.0f}" if in_mm3 else f"{row.mm3 / 1000:,.1f}" for row in rows]
    scores = ["" if row.dsc is None else f"{row.dsc:.3f}" for row in rows]
    columns = [("DSC", scores)] if any(scores) else []
    return [*columns, ("mm³" if in_mm3 else "ml", volumes)]


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _round_length(mm: float) -> float:
    """The largest of 1, 2, 5, 10, 20, 50, ... that is at most `mm`.

    >>> _round_length(34.0)
    20.0
    """
    power = 10.0 ** math.floor(math.log10(mm))
    return next(factor * power for factor in (5, 2, 1) if factor * power <= mm)

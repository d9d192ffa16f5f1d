"""Whether a model keeps its structures in a coarser precision: a comparison with float32 on windows of a scan.

Rounding changes some models' labels more than others'. So `auto` compares both precisions when a model is first used,
and takes the coarser one only if each structure that float32 finds has nearly the same voxels. The result is stored,
and later scans start at once.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from time import perf_counter

import torch
from torch.nn import functional

from stunet.errors import OutputError, UserError
from stunet.files import cache_folder, read_json_object, write_json
from stunet.inference.backends.base import Backend
from stunet.inference.backends.names import PRECISIONS, Precision
from stunet.inference.batching import is_lack_of_memory
from stunet.inference.sliding import PlaneSource
from stunet.inference.windows import padding_to
from stunet.networks.digest import digest_of
from stunet.networks.network import Network

logger = logging.getLogger(__name__)

BAR = 0.995
"""Lowest DSC between the precisions at which a structure counts as kept."""

LEAST_VOXELS = 100
"""Structures with fewer voxels are not compared: a single one would decide."""

MOST_WINDOWS = 4
"""Windows that are compared, spread along the scan."""

FORMAT = 1
"""Version of the stored results; increase it when the comparison changes."""


@dataclass(frozen=True)
class PrecisionCheck:
    """The comparison of a precision with float32, for one model on one machine.

    Attributes:
        precision: that was compared.
        dice: DSC between the labels in both precisions, for each structure that float32 found.
        windows: number of windows that ran in both.
        seconds: that the comparison took, including the start of float32.
    """

    precision: Precision
    dice: Mapping[str, float]
    windows: int
    seconds: float

    @property
    def is_passed(self) -> bool:
        """Whether every structure is kept."""
        return all(dsc >= BAR for dsc in self.dice.values())

    @property
    def chosen(self) -> Precision:
        """The precision to use."""
        return self.precision if self.is_passed else "float32"


@torch.inference_mode()
def compare(
    image: PlaneSource, coarse: Backend, exact: Backend, window_size: Sequence[int], names: Mapping[int, str]
) -> tuple[dict[str, float], int]:
    """Label some windows with two backends.

    Args:
        image: on the network's grid.
        coarse, exact: the same networks in another precision and in float32.
        window_size: voxels (Z, Y, X).
        names: label to structure.

    Returns:
        The DSC of each structure with at least `LEAST_VOXELS` voxels in float32, and the number of windows.
    """
    size = exact.head.num_classes
    counts = torch.zeros(3, max(size, max(names) + 1), dtype=torch.long)
    windows = 0
    for window_BCZYX in central_windows(image, window_size):
        few, many = (_labels(backend, window_BCZYX) for backend in (coarse, exact))
        for row, labels in zip(counts, (few, many, many[few == many]), strict=True):
            row += labels.bincount(minlength=len(row))
        windows += 1
    in_coarse, in_exact, in_both = counts.tolist()
    compared = [label for label in names if label and in_exact[label] >= LEAST_VOXELS]
    return {names[label]: 2 * in_both[label] / (in_coarse[label] + in_exact[label]) for label in compared}, windows


def central_windows(image: PlaneSource, size: Sequence[int]) -> Iterator[torch.Tensor]:
    """At most `MOST_WINDOWS` windows (1, C, Z, Y, X) along the middle of an image, from its first plane to its last."""
    _, depth, rows, columns = image.shape
    padding = [amount for axis in reversed(padding_to(image.shape[1:], size)) for amount in axis]
    last_z, y, x = (max(0, voxels - window) for voxels, window in zip((depth, rows, columns), size, strict=True))
    number = min(MOST_WINDOWS, ceil(depth / size[0]))
    for position in range(number):
        z = last_z * position // (number - 1) if number > 1 else last_z // 2
        planes_CZYX = image.planes(z, min(z + size[0], depth))
        window_CZYX = planes_CZYX[:, :, y // 2 : y // 2 + size[1], x // 2 : x // 2 + size[2]]
        yield functional.pad(window_CZYX, padding)[None]


def _labels(backend: Backend, window_BCZYX: torch.Tensor) -> torch.Tensor:
    """The labels (M,) of a window's voxels, on the CPU."""
    features_MF = backend.run(window_BCZYX).flatten(0, -2).float()
    return backend.head.labels(features_MF).cpu().long()


class PrecisionChoice:
    """Finds out which precision `auto` means for a model: when it is first used, on the scan at hand.

    Args:
        networks: of the model.
        make: creates a backend that runs them in a precision.
        precision: the fastest for this backend and device.
        window_size: voxels (Z, Y, X).
        is_auto: whether there is a choice; otherwise `precision` is used without a comparison.

    Attributes:
        backend: in the chosen precision, or in `precision` as long as the choice is open.
        check: the comparison of this or an earlier run; None if there was none.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        make: Callable[[Precision], Backend],
        precision: Precision,
        window_size: Sequence[int],
        is_auto: bool,
    ):
        self._make, self._window_size = make, window_size
        self._lock = threading.Lock()
        self._has_choice = is_auto and precision != "float32"
        self.check: PrecisionCheck | None = None
        if self._has_choice:
            key = digest_of(networks, FORMAT, precision, tuple(window_size), *_machine())
            self._path = cache_folder("precision") / f"{key}.json"
            self.check = _stored(self._path)
        self.backend = make(precision if self.check is None else self.check.chosen)

    @property
    def is_open(self) -> bool:
        """Whether the next scan decides."""
        return self._has_choice and self.check is None

    def settled(self, image: PlaneSource, names: Mapping[int, str]) -> Backend:
        """The backend for a scan; compares the precisions first if that was not done yet.

        If float32 finds no structure to compare, it labels this scan, and the next scan decides. If memory does not
        suffice for both, the coarser precision is used, with a warning.

        Args:
            image: the scan on the network's grid.
            names: label to structure.
        """
        with self._lock:
            if not self.is_open:
                return self.backend
            start = perf_counter()
            try:
                exact = self._make("float32")
                dice, windows = compare(image, self.backend, exact, self._window_size, names)
            except RuntimeError as error:
                if not is_lack_of_memory(error):
                    raise
                self._has_choice = False
                logger.warning("%s was not compared with float32: memory does not suffice.", self.backend.precision)
                return self.backend
            if not dice:
                return exact
            self.check = PrecisionCheck(self.backend.precision, dice, windows, perf_counter() - start)
            self._tell(self.check)
            self._store(self.check)
            if not self.check.is_passed:
                self.backend = exact
            return self.backend

    def _tell(self, check: PrecisionCheck) -> None:
        worst = min(check.dice, key=lambda name: check.dice[name])
        kept = sum(dsc >= BAR for dsc in check.dice.values())
        found = f"{kept} of {len(check.dice)} structures keep a DSC of {BAR} (lowest: {check.dice[worst]:.4f}, {worst})"
        if check.is_passed:
            logger.info("%s is used for this model: %s. Compared in %.1f s.", check.precision, found, check.seconds)
        else:
            sentence = "float32 is used for this model, because %s changes its labels: %s. Compared in %.1f s."
            logger.warning(sentence, check.precision, found, check.seconds)

    def _store(self, check: PrecisionCheck) -> None:
        try:
            write_json(self._path, asdict(check))
        except OutputError as error:
            logger.warning("%s The next start compares the precisions again.", error)


def _machine() -> tuple[str, ...]:
    """What rounding depends on: the libraries, the CPU's instructions, the GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return torch.__version__, _version("openvino"), torch.backends.cpu.get_cpu_capability(), gpu


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _stored(path: Path) -> PrecisionCheck | None:
    """The comparison of an earlier run; None if there is none, or if its file is damaged."""
    try:
        check = PrecisionCheck(**read_json_object(path))
        is_whole = check.precision in PRECISIONS and all(0 <= dsc <= 1 for dsc in check.dice.values())
        return check if is_whole and check.dice else None
    except (UserError, TypeError, AttributeError):
        return None

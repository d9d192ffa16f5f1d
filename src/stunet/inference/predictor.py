"""From a scan to labels: the whole road of a prediction."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Any, TypeVar, cast

import numpy as np
import torch

from stunet.errors import UnknownNameError, UserError
from stunet.imaging.box import body_box
from stunet.imaging.paging import release, zeros
from stunet.imaging.preprocess import GridRecord, PreparedImage, cropped_view, prepare
from stunet.imaging.scan import Scan, as_volume
from stunet.imaging.volume import Volume
from stunet.inference.backends.base import Backend
from stunet.inference.backends.precision import PRECISIONS, Precision, default_precision
from stunet.inference.backends.registry import BACKENDS, backend_maker
from stunet.inference.backends.torch_backend import torch_device
from stunet.inference.decoding import chooser_of, members_of
from stunet.inference.labelling import output_slices
from stunet.inference.plausibility import doubts
from stunet.inference.probabilities import ProbabilityMaps, probability_maps
from stunet.inference.segmentation import Segmentation, Timings
from stunet.inference.sliding import OnWindow, Sliding, feature_planes
from stunet.inference.stopping import stoppable
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.model import Model, load_model
from stunet.weights.process import require_unforked

logger = logging.getLogger(__name__)

SLICES_IN_MEMORY = 32
"""Labels of a long scan go to disk after so many slices."""

NOTHING_FOUND = "No structure was found: all voxels are background. Does the scan show what the model was trained on?"

Item = TypeVar("Item")


@dataclass(frozen=True)
class InferenceConfig:
    """How to predict; the defaults give nnU-Net's labels without test-time augmentation.

    Attributes:
        step: Largest distance between neighbouring windows as a fraction of the window; above 0.5 is faster and less
            accurate.
        mirror: Average each window over its mirrored copies, along the axes with which the model was trained: up to
            eight times slower, a little more accurate.
        device: Where the network runs: "cpu", "cuda" (NVIDIA), "mps" (Apple), or "auto" for an NVIDIA GPU if there is
            one, else the CPU.
        backend: What runs the network, one of `stunet.inference.backends.registry.BACKENDS`, or "auto" for the fastest
            that is installed.
        precision: In which numbers the network computes, one of `stunet.inference.backends.precision.PRECISIONS`, or
            "auto" for float16 on NVIDIA's GPUs, as nnU-Net, and float32 elsewhere; all else is float32.
        compiled: Let torch compile the network for this machine: the first start takes a minute or more, later ones
            take the result from `STUNET_HOME/cache`. For backend "torch", which "auto" then is. The answer is the same,
            to rounding.
        classes: Names of the only structures that are labelled, as if the others had become background afterwards;
            empty for all.
        skip_air: Look only at the body and 20 mm around it, which is found by its density (CT); what is outside becomes
            background. Windows then stand elsewhere, so labels may differ where classes are nearly equal.
        least_spacing: Of the network's grid, in mm; a finer plan is made coarser: faster, with another answer.
        batch_size: Windows that go through the network together; None for one, or on an NVIDIA GPU as many as fit into
            its memory. The answer is the same, to rounding.
    """

    step: float = 0.5
    mirror: bool = False
    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    compiled: bool = False
    batch_size: int | None = None
    classes: tuple[str, ...] = ()
    skip_air: bool = False
    least_spacing: float | None = None

    def __post_init__(self) -> None:
        """Raises UserError for settings with which nothing can be predicted."""
        if not 0 < self.step <= 1:
            raise UserError(f"The step between windows is above 0 and at most 1, not {self.step}.")
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"The batch size is 1 or more, not {self.batch_size}.")
        if self.least_spacing is not None and not self.least_spacing > 0:
            raise UserError(f"The least spacing is more than 0 mm, not {self.least_spacing}.")
        _require_one_of("backend", self.backend, BACKENDS)
        _require_one_of("precision", self.precision, PRECISIONS)


def _require_one_of(what: str, chosen: str, known: Iterable[str]) -> None:
    if chosen != "auto" and chosen not in known:
        raise UnknownNameError.of(what, chosen, ["auto", *known])


class Predictor:
    """Segments scans with one model, one after the other or from several threads.

    For several processes start them with "spawn": a predictor can be pickled. A process that was forked from one that
    had loaded a model is refused, for it would hang.

    Args:
        model: what `load_model` returns or takes.
        config: how to predict.

    Raises:
        UserError: a model that cannot be loaded, or does not suit the configuration, a missing device, or a forked
            process.
    """

    def __init__(self, model: str | Path | Model, config: InferenceConfig | None = None):
        require_unforked()
        self.config = config or InferenceConfig()
        device = torch_device(self.config.device)
        self.model = model if isinstance(model, Model) else load_model(model)
        if self.config.mirror and not self.model.card.mirror_axes:
            raise UserError(
                f"Model {self.model.card.name!r} was not trained with mirrored images, so its answers can't be "
                "averaged over them; leave mirroring out."
            )
        if self.config.skip_air and self.model.card.channels[0].upper() != "CT":
            raise UserError(
                f"Air is told from the body by CT's Hounsfield units, and model {self.model.card.name!r} is for "
                f"{self.model.card.channels[0]}; leave skipping air out."
            )
        self.plan = _coarsened(self.model.plan, self.config.least_spacing)
        self.asked = _labels_of(self.config.classes, self.model)
        self.backend = self._make_backend(device)
        self.chooser = chooser_of(self.model.card, self.backend.head, self.asked)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle holds the model with its weights, and the configuration."""
        return Predictor, (self.model, self.config)

    @property
    def names(self) -> dict[int, str]:
        """Label to structure, of those that are labelled; 0 is background."""
        return {label: name for label, name in self.model.names.items() if label == 0 or label in self.asked}

    def _make_backend(self, device: torch.device) -> Backend:
        """What the configuration names, or the fastest."""
        name, make = backend_maker(self.config.backend, device, self.config.compiled, self.model.networks)
        precision = cast(Precision, self.config.precision)
        if self.config.precision == "auto":
            precision = default_precision(name, device, self.model.networks)
        return make(self.model.networks, device, precision, self.plan.patch_size)

    @torch.inference_mode()
    def predict(
        self,
        scan: Scan,
        on_window: OnWindow | None = None,
        probabilities: str | Path | None = None,
        stop: Event | None = None,
    ) -> Segmentation:
        """Segment one scan.

        Args:
            scan: a path, a `Volume`, an image of nibabel or SimpleITK, or a list of these with one for each channel.
            on_window: called after each window with the number of windows done and their total. What it raises ends
                the prediction: nothing is written, and the predictor can be used again.
            probabilities: folder for one map per structure, `NAME.nii.gz` with values from 0 to 1; none by default.
            stop: set it from another thread to end the prediction after the present window.

        Returns:
            Labels on the scan's own grid.

        Raises:
            UserError: a scan that cannot be read, or does not suit the model, probabilities that cannot be written, or
                a forked process.
            Stopped: `stop` was set.
        """
        require_unforked()
        stopwatch = _Stopwatch(self.backend.device)
        volume = as_volume(scan)
        self._require_channels(volume)
        said = (*volume.warnings, *doubts(volume, self.model))
        for sentence in said:
            logger.warning(sentence)
        load = stopwatch.lap()
        prepared = prepare(
            volume, self.plan, self._preprocessing_device, find_part=body_box if self.config.skip_air else None
        )
        image = _TimedImage(prepared, self.backend.device)
        preparing = stopwatch.lap()
        sliding = Sliding(
            self.plan.patch_size,
            step=self.config.step,
            mirror_axes=self.model.card.mirror_axes if self.config.mirror else (),
            batch_size=self.config.batch_size,
        )
        told = on_window if stop is None else stoppable(stop, on_window)
        planes = _TimedIterator(feature_planes(image, self.backend, sliding, told), self.backend.device)
        wanted = probability_maps(Path(probabilities), self.names, volume, image.record) if probabilities else None
        with wanted or nullcontext() as maps:
            labels = self._labels(planes, image.record, maps)
        labelling = stopwatch.lap() - planes.seconds
        timings = Timings(load, preparing + image.seconds, planes.seconds - image.seconds, labelling)
        if not labels.any():
            logger.warning(f"{volume.source}: {NOTHING_FOUND}")
        warnings = (*said, *(() if labels.any() else (NOTHING_FOUND,)))
        return Segmentation(labels, self.names, volume, timings, warnings, members_of(self.model.card, self.asked))

    @property
    def _preprocessing_device(self) -> torch.device:
        """The network's device, but not one that lacks float64, in which statistics are taken."""
        return torch.device("cpu") if self.backend.device.type == "mps" else self.backend.device

    def _require_channels(self, volume: Volume) -> None:
        channels = self.model.card.channels
        if len(volume.array) != len(channels):
            raise UserError(
                f"{volume.source}: has {len(volume.array)} channel(s), and model {self.model.card.name!r} needs "
                f"{len(channels)}: {', '.join(channels)}. Give one file per channel, in this order."
            )

    def _labels(
        self, planes_YXF: Iterable[torch.Tensor], record: GridRecord, maps: ProbabilityMaps | None
    ) -> np.ndarray:
        """Labels (Z, Y, X) on the scan's grid; each slice is written to its place as soon as it is known."""
        labels_ZYX = zeros(record.scan_shape, np.uint8 if max(self.model.names) < 256 else np.uint16)
        cropped_ZYX = cropped_view(labels_ZYX, record)
        grids = record.network_shape, record.cropped_shape, record.logits_orders
        for number, output_slice in enumerate(output_slices(planes_YXF, self.chooser.head, *grids)):
            cropped_ZYX[number] = output_slice.labels(self.chooser).cpu().numpy()
            if maps is not None:
                maps.write(number, output_slice)
            if number % SLICES_IN_MEMORY == 0:
                release(labels_ZYX)
        return np.asarray(labels_ZYX)


def _coarsened(plan: PreprocessingPlan, least_spacing: float | None) -> PreprocessingPlan:
    if least_spacing is None:
        return plan
    z, y, x = (max(mm, least_spacing) for mm in plan.spacing)
    return replace(plan, spacing=(z, y, x))


def _labels_of(classes: Sequence[str], model: Model) -> frozenset[int]:
    """The labels of the named structures, or of all."""
    label_of = {name: label for label, name in model.names.items() if label}
    for name in classes:
        if name not in label_of:
            unknown = UnknownNameError.of("structure", name, label_of)
            raise UnknownNameError(f"{unknown} These are the structures of model {model.card.name!r}.")
    return frozenset(label_of[name] for name in classes or label_of)


class _Stopwatch:
    """Measures one stage after the other; waits until a GPU has done what it was given."""

    def __init__(self, device: torch.device):
        self._device = device
        self._last = perf_counter()

    def lap(self) -> float:
        """Seconds since the last call, or since the beginning."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        before, self._last = self._last, perf_counter()
        return self._last - before


class _TimedImage:
    """A `PlaneSource` that knows how many seconds its planes took to make."""

    def __init__(self, image: PreparedImage, device: torch.device):
        self._image = image
        self._device = device
        self.record, self.shape = image.record, image.shape
        self.seconds = 0.0

    def planes(self, start: int, stop: int) -> torch.Tensor:
        """The image's."""
        stopwatch = _Stopwatch(self._device)
        planes_CZYX = self._image.planes(start, stop)
        self.seconds += stopwatch.lap()
        return planes_CZYX


class _TimedIterator(Iterator[Item]):
    """An iterator that knows how many seconds its items took to make."""

    def __init__(self, items: Iterator[Item], device: torch.device):
        self._items = items
        self._device = device
        self.seconds = 0.0

    def __next__(self) -> Item:
        stopwatch = _Stopwatch(self._device)
        try:
            return next(self._items)
        finally:
            self.seconds += stopwatch.lap()

"""Predict labels from a scan: the whole pipeline."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import Any, cast

import numpy as np
import torch

from stunet.errors import UnknownNameError, UserError
from stunet.imaging.box import body_box
from stunet.imaging.formats.dicom_results import Algorithm
from stunet.imaging.paging import release, zeros
from stunet.imaging.preprocess import GridRecord, cropped_view, prepare
from stunet.imaging.scan import Scan, as_volume
from stunet.imaging.volume import Volume
from stunet.inference.backends.base import Backend
from stunet.inference.backends.names import Precision
from stunet.inference.backends.precision import default_precision
from stunet.inference.backends.registry import backend_maker
from stunet.inference.backends.torch_backend import torch_device
from stunet.inference.batching import explaining_full_memory
from stunet.inference.config import InferenceConfig
from stunet.inference.decoding import chooser_of, members_of
from stunet.inference.first_pass import all_boxes
from stunet.inference.known_features import KnownFeatures
from stunet.inference.labelling import output_slices
from stunet.inference.not_finite import explaining_not_finite
from stunet.inference.plausibility import doubts
from stunet.inference.precision_check import PrecisionCheck, PrecisionChoice
from stunet.inference.probabilities import ProbabilityMaps, probability_maps
from stunet.inference.result_warnings import result_warnings
from stunet.inference.search import OutputMask, Search, after_search, search
from stunet.inference.segmentation import Segmentation, Timings
from stunet.inference.sliding import OnWindow, Sliding, feature_planes
from stunet.inference.stopping import stoppable
from stunet.inference.stopwatch import Stopwatch, TimedImage, TimedIterator
from stunet.labels.ontology import LABELS
from stunet.memory import explaining_full_main_memory
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.model import Model, load_model
from stunet.weights.process import require_unforked

logger = logging.getLogger(__name__)

SLICES_IN_MEMORY = 32
"""Labels of a long scan are written to disk each time this many slices are done."""

NOT_COMPARED = "The network ran in {0}. {1} is faster, but no structure was found on which to compare the two."


class Predictor:
    """Segments scans with one model, one after the other or from several threads.

    To use several processes, start them with "spawn"; a predictor can be pickled. A process forked after a model was
    loaded is refused, because it would hang.

    Args:
        model: a loaded model, or a source for `load_model`.
        config: settings.

    Raises:
        UserError: the model cannot be loaded or does not suit the configuration, the device is missing, or the process
            was forked.
    """

    def __init__(self, model: str | Path | Model, config: InferenceConfig | None = None):
        require_unforked()
        self.config = config or InferenceConfig()
        device = torch_device(self.config.device)
        self.model = model if isinstance(model, Model) else load_model(model)
        if self.config.mirror and not self.model.card.mirror_axes:
            raise UserError(
                f"Model {self.model.card.name!r} was not trained with mirrored images, so mirroring cannot be "
                "used; leave it out."
            )
        if self.config.skip_air and self.model.card.channels[0].upper() != "CT":
            raise UserError(
                f"Air can only be found in a CT's Hounsfield units, but model {self.model.card.name!r} is for "
                f"{self.model.card.channels[0]}; leave skipping air out."
            )
        self.plan = _coarsened(self.model.plan, self.config.least_spacing)
        self.asked = _labels_of(self.config.classes, self.model)
        with explaining_full_memory(device):
            self._precision = self._precision_choice(device)
        self.backend = self._precision.backend
        self.chooser = chooser_of(self.model.card, self.backend.head, self.asked)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the model with its weights, and the configuration."""
        return Predictor, (self.model, self.config)

    @property
    def names(self) -> dict[int, str]:
        """Label to structure for the requested structures; 0 is background."""
        return {label: name for label, name in self.model.names.items() if label == 0 or label in self.asked}

    @property
    def precision_check(self) -> PrecisionCheck | None:
        """How a coarser precision was compared with float32 for this model; None if it was not (yet)."""
        return self._precision.check

    @property
    def precision_is_open(self) -> bool:
        """Whether the first scan decides on the precision."""
        return self._precision.is_open

    def _precision_choice(self, device: torch.device) -> PrecisionChoice:
        """The configured backend, or the fastest, in the configured precision, or in the one that suits the model."""
        networks, size = self.model.networks, self.plan.patch_size
        name, make = backend_maker(self.config.backend, device, self.config.compiled, networks)
        is_free = self.config.precision == "auto"
        precision = default_precision(name, device) if is_free else cast(Precision, self.config.precision)
        return PrecisionChoice(networks, lambda one: make(networks, device, one, size), precision, size, is_free)

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
            scan: a path, a `Volume`, a DICOM series (`stunet.find_series`), an image of nibabel or SimpleITK, or a list
                of these, one per channel.
            on_window: called after each window with the number of finished windows and their total. If it raises an
                exception, the prediction ends, nothing is written, and the predictor can be used again.
            probabilities: folder for one map per structure, `NAME.nii.gz` with values from 0 to 1; none by default.
            stop: set it from another thread to stop the prediction after the current window.

        Returns:
            Labels on the scan's own grid.

        Raises:
            UserError: the scan cannot be read or does not suit the model, activations of the network become NaN or
                infinite, the probabilities cannot be written, or the process was forked.
            Stopped: `stop` was set.
        """
        require_unforked()
        stopwatch = Stopwatch(self.backend.device)
        volume = as_volume(scan, self.model.card.channels[0])
        self._require_channels(volume)
        said = (*volume.warnings, *doubts(volume, self.model))
        for sentence in said:
            logger.warning(sentence)
        load = stopwatch.lap()
        find_part = body_box if self.config.skip_air else None
        with self._explaining(volume):
            prepared = prepare(volume, self.plan, self._preprocessing_device, find_part=find_part)
        image = TimedImage(prepared, self.backend.device)
        preparing = stopwatch.lap()
        told = on_window if stop is None else stoppable(stop, on_window)
        with self._explaining(volume):
            backend = self._backend_for(image)
        precision = backend.precision
        known = KnownFeatures()
        found = self._search(volume, image, backend, told, known) if not probabilities else None
        searching = stopwatch.lap()
        planes = TimedIterator(self._feature_planes(image, backend, told, found, known), backend.device)
        wanted = probability_maps(Path(probabilities), self.names, volume, image.record) if probabilities else None
        with wanted or nullcontext() as maps, self._explaining(volume):
            labels = self._labels(planes, image.record, maps, found)
        labelling = stopwatch.lap() - planes.seconds
        network = searching + planes.seconds - image.seconds
        timings = Timings(load, preparing + image.seconds, network, labelling)
        found_out = (
            *result_warnings(labels, self.names, self.config.classes, found),
            *self._precision_warnings(backend, precision),
        )
        for sentence in found_out:
            logger.warning(f"{volume.source}: {sentence}")
        warnings = (*said, *found_out)
        return Segmentation(labels, self.names, volume, timings, warnings, self.members, self._algorithm, found)

    def _precision_warnings(self, backend: Backend, begun_in: Precision) -> Iterator[str]:
        """What users should know of the precision in which a scan was segmented."""
        if backend.precision != begun_in:
            yield f"Values exceeded the range of {begun_in}; the network then ran in {backend.precision}."
        if backend is not self.backend:
            yield NOT_COMPARED.format(backend.precision, self.backend.precision)

    def _backend_for(self, image: TimedImage) -> Backend:
        """What runs the network on this image; if the precision is not decided yet, decide it."""
        if not self._precision.is_open:
            return self.backend
        backend = self._precision.settled(image, self.model.names)
        self.backend = self._precision.backend
        return backend

    @contextmanager
    def _explaining(self, volume: Volume) -> Iterator[None]:
        """Explain what can go wrong during preprocessing and while the network runs."""
        with (
            explaining_full_main_memory(volume.source),
            explaining_full_memory(self.backend.device),
            explaining_not_finite(self.model, self.backend, volume.source),
        ):
            yield

    @property
    def _sliding(self) -> Sliding:
        mirror_axes = self.model.card.mirror_axes if self.config.mirror else ()
        return Sliding(self.plan.patch_size, self.config.step, mirror_axes, self.config.batch_size)

    def _search(
        self,
        volume: Volume,
        image: TimedImage,
        backend: Backend,
        on_window: OnWindow | None,
        known: KnownFeatures,
    ) -> Search | None:
        """Where the requested structures are; None if all windows are to run."""
        if self.config.whole_scan or not self.config.classes:
            return None
        with self._explaining(volume):
            are_whole = all(self.model.names[label] in LABELS for label in self.asked)
            grid, sliding, chooser = image.record, self._sliding, self.chooser
            return search(image, grid, backend, sliding, chooser, self.asked, are_whole, known, on_window)

    def _feature_planes(
        self,
        image: TimedImage,
        backend: Backend,
        on_window: OnWindow | None,
        found: Search | None,
        known: KnownFeatures,
    ) -> Iterator[torch.Tensor]:
        """The features of all windows, or of those near what a first pass found."""
        if found is None:
            return feature_planes(image, backend, self._sliding, on_window)
        told = after_search(on_window, found.first_pass)
        return feature_planes(image, backend, self._sliding, told, found.windows, known)

    @property
    def members(self) -> dict[int, tuple[int, ...]]:
        """The labels that belong to each structure if structures overlap; see `Segmentation`."""
        return members_of(self.model.card, self.asked)

    @cached_property
    def _algorithm(self) -> Algorithm:
        """The model's name and version for DICOM results."""
        card = self.model.card
        return Algorithm(card.name, f"stunet {version('stunet')}, card {card.sha256[:12]}")

    @property
    def _preprocessing_device(self) -> torch.device:
        """The network's device, or the CPU if it lacks float64, which image statistics need."""
        return torch.device("cpu") if self.backend.device.type == "mps" else self.backend.device

    def _require_channels(self, volume: Volume) -> None:
        channels = self.model.card.channels
        if len(volume.array) != len(channels):
            raise UserError(
                f"{volume.source}: has {len(volume.array)} channel(s), but model {self.model.card.name!r} needs "
                f"{len(channels)}: {', '.join(channels)}. Give one file per channel, in this order."
            )

    def _labels(
        self,
        planes_YXF: Iterable[torch.Tensor],
        record: GridRecord,
        maps: ProbabilityMaps | None,
        found: Search | None,
    ) -> np.ndarray:
        """Labels (Z, Y, X) on the scan's grid, written slice by slice as soon as they are known."""
        mask = None if found is None else OutputMask(all_boxes(found.boxes), record)
        labels_ZYX = zeros(record.scan_shape, np.uint8 if max(self.model.names) < 256 else np.uint16)
        cropped_ZYX = cropped_view(labels_ZYX, record)
        grids = record.network_shape, record.cropped_shape, record.logits_orders
        for number, output_slice in enumerate(output_slices(planes_YXF, self.chooser.head, *grids)):
            labels_YX = output_slice.labels(self.chooser).cpu().numpy()
            cropped_ZYX[number] = labels_YX if mask is None else labels_YX * mask.of_slice(number)
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
    """The labels of the named structures, or all labels."""
    label_of = {name: label for label, name in model.names.items() if label}
    for name in classes:
        if name not in label_of:
            unknown = UnknownNameError.of("structure", name, label_of)
            raise UnknownNameError(f"{unknown} These are the structures of model {model.card.name!r}.")
    return frozenset(label_of[name] for name in classes or label_of)

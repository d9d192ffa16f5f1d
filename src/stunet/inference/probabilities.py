"""Write probabilities of structures on the scan's grid. They are stored on disk slice by slice."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from stunet.errors import OutputError
from stunet.files import replacing_files_in
from stunet.imaging.formats.nifti_write import FRACTION_STEPS, write_nifti_fractions
from stunet.imaging.paging import release, zeros_in
from stunet.imaging.preprocess import GridRecord, cropped_view
from stunet.imaging.volume import Volume
from stunet.inference.labelling import OutputSlice
from stunet.inference.segmentation import file_names


@contextmanager
def probability_maps(
    folder: Path, names: Mapping[int, str], scan: Volume, record: GridRecord
) -> Iterator["ProbabilityMaps"]:
    """Yield maps that become `folder/NAME.nii.gz`, one per structure, once all slices are written.

    Args:
        folder: created if missing; other files in it stay.
        names: label to structure for the requested structures; 0 (background) gets no file.
        scan: scan that defines the grid.
        record: how the network's grid relates to the scan's.

    Raises:
        UserError: the disk has too little space, or the folder is not writable.
    """
    files = file_names(names)
    _require_room(folder, len(files) * int(np.prod(scan.shape)) * 2)
    with replacing_files_in(folder) as temporary:
        stored = {label: _on_disk(temporary / f"{name}.raw", scan.shape) for label, name in files.items()}
        yield ProbabilityMaps({label: cropped_view(array, record) for label, array in stored.items()})
        for label, name in files.items():
            write_nifti_fractions(stored.pop(label), scan, temporary / f"{name}.nii.gz")
            (temporary / f"{name}.raw").unlink()


class ProbabilityMaps:
    """Stores probabilities slice by slice.

    Args:
        maps_ZYX: label to array on the cropped grid in network axes, in steps of 1 / `FRACTION_STEPS`.
    """

    def __init__(self, maps_ZYX: Mapping[int, np.ndarray]):
        self._maps_ZYX = maps_ZYX

    def write(self, number: int, output_slice: OutputSlice) -> None:
        """Compute one slice's probabilities from its interpolated logits, and store the requested ones.

        They equal nnU-Net's, which also interpolates the logits of all classes before the softmax, or the sigmoid of
        regions.

        Args:
            number: index of the slice along the network's first axis.
            output_slice: see `stunet.inference.labelling.output_slices`.
        """
        fractions_MK = slice_probabilities(output_slice, list(self._maps_ZYX))
        steps_KM = fractions_MK.mul_(FRACTION_STEPS).round_().to(torch.int32).T.cpu().numpy()
        for map_ZYX, steps_M in zip(self._maps_ZYX.values(), steps_KM, strict=True):
            map_ZYX[number] = steps_M.reshape(output_slice.shape)
            release(map_ZYX)


def slice_probabilities(output_slice: OutputSlice, labels: list[int]) -> torch.Tensor:
    """The probabilities (Y * X, len(labels)), float32, of some structures at all voxels of a slice."""
    (rows, columns), head = output_slice.shape, output_slice.head
    voxels = torch.arange(rows * columns, device=head.bias.device)
    parts = (
        head.probabilities(head.logits(output_slice.features_at(part // columns, part % columns)), labels)
        for part in voxels.split(head.chunk)
    )
    return torch.cat(list(parts))


def _on_disk(path: Path, shape: Sequence[int]) -> np.ndarray:
    with path.open("w+b") as file:
        return zeros_in(file, shape, np.uint16)


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder.absolute().parent).free
    if needed > free:
        raise OutputError(
            f"{folder}: the probabilities need {needed / 1e9:.1f} GB until they are compressed, but only "
            f"{free / 1e9:.1f} GB are free; ask for fewer structures (--classes), or choose another disk."
        )

"""The settings of a prediction. This file does not use torch, so settings are checked in milliseconds."""

from collections.abc import Iterable
from dataclasses import dataclass

from stunet.errors import UnknownNameError, UserError
from stunet.inference.backends.names import BACKEND_NAMES, PRECISIONS


@dataclass(frozen=True)
class InferenceConfig:
    """Settings of a prediction. The defaults give nnU-Net's labels without test-time augmentation.

    Attributes:
        step: Largest distance between neighbouring windows as a fraction of the window; values above 0.5 are faster but
            less accurate.
        mirror: Average each window over its mirrored copies, along the axes used in training: up to eight times slower,
            slightly more accurate.
        device: Where the network runs: "cpu", "cuda" (NVIDIA), "mps" (Apple), or "auto" for an NVIDIA GPU if there is
            one, otherwise the CPU.
        backend: The runtime of the network, one of `stunet.inference.backends.names.BACKEND_NAMES`, or "auto" for the
            fastest installed one.
        precision: Number format of the network, one of `stunet.inference.backends.names.PRECISIONS`, or "auto" for the
            fastest that keeps the model's structures, which is found out at the model's first use
            (`stunet.inference.precision_check`); all other computations use float32.
        compiled: Compile the network with torch for this machine: the first start takes a minute or more, later ones
            use `STUNET_HOME/cache`. Only for backend "torch", which "auto" then selects. The result is the same up to
            rounding.
        classes: Names of the structures to label; the others become background, as if removed afterwards. Empty for
            all.
        whole_scan: Run all windows also with `classes`. Otherwise a first pass with fewer windows finds the structures,
            and only windows near them run (`stunet.inference.search`): faster, with the same labels near what the first
            pass saw. Probabilities always need the whole scan.
        skip_air: Only process the body, found by its density (CT), and 20 mm around it; the rest becomes background.
            This moves the windows, so labels may differ where classes are nearly equal.
        least_spacing: Smallest spacing of the network's grid in mm. Finer plans become coarser: faster, but with
            different results.
        batch_size: Number of windows that run together; None for one, or on an NVIDIA GPU as many as fit into its
            memory. The result is the same up to rounding.
    """

    step: float = 0.5
    mirror: bool = False
    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    compiled: bool = False
    batch_size: int | None = None
    classes: tuple[str, ...] = ()
    whole_scan: bool = False
    skip_air: bool = False
    least_spacing: float | None = None

    def __post_init__(self) -> None:
        """Raise UserError for invalid settings."""
        if not 0 < self.step <= 1:
            raise UserError(f"The step between windows must be above 0 and at most 1, not {self.step}.")
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"The batch size must be 1 or more, not {self.batch_size}.")
        if self.least_spacing is not None and not self.least_spacing > 0:
            raise UserError(f"The least spacing must be above 0 mm, not {self.least_spacing}.")
        _require_one_of("backend", self.backend, BACKEND_NAMES)
        _require_one_of("precision", self.precision, PRECISIONS)


def _require_one_of(what: str, chosen: str, known: Iterable[str]) -> None:
    if chosen != "auto" and chosen not in known:
        raise UnknownNameError.of(what, chosen, ["auto", *known])

"""A model that can segment: networks, how to prepare images for them, and what their answers mean."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stunet.errors import FileError, UnknownNameError, UserError
from stunet.networks.network import Network
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.catalogue import CATALOGUE, get_model
from stunet.weights.import_model import Fold, import_checkpoints, import_model, import_to_start_with, read_folds
from stunet.weights.model_file import ModelCard, StateDict, build_network_from, read_model, separated
from stunet.weights.process import require_unforked

CHECKPOINT_SUFFIXES = (".model", ".pth", ".pt")
"""Files that are read as checkpoints of nnU-Net v1 or v2."""


@dataclass(frozen=True, eq=False)
class Model:
    """One network, or several (folds, or trainings with other seeds) whose logits are averaged.

    Attributes:
        networks: in evaluation mode, float32, on the CPU; all of one kind.
        card: how images are prepared, labels, licence, provenance.
        source: what it was loaded from, as the user named it.
    """

    networks: tuple[Network, ...]
    card: ModelCard
    source: str

    @property
    def plan(self) -> PreprocessingPlan:
        """How images are prepared."""
        return _known_plan(self.card, self.source)

    @property
    def names(self) -> dict[int, str]:
        """Label to structure; 0 is background."""
        return self.card.names


def load_model(source: str | Path, folds: Sequence[Fold] | None = None) -> Model:
    """Load a model for prediction.

    Args:
        source: a name in the catalogue (downloaded at first use), a `.safetensors` file of ours, a `.model` or `.pth`
            checkpoint of nnU-Net v1 or v2, or a model folder that nnU-Net v2 or `stunet train` wrote.
        folds: which folds of a model folder, e.g. (0, 1) or ("all",); None takes all that are trained.

    Raises:
        UserError: nothing of that name, a file that is damaged or of another kind, weights that do not say how to use
            them, folds of something other than a folder, or a process forked from one that had loaded a model.
    """
    require_unforked()
    state_dict, card = _read(source, folds)
    _require_possible_plan(card, str(source))
    networks = tuple(build_network_from(card, one) for one in separated(state_dict, card.members))
    model = Model(networks, card, str(source))
    _require_fitting_patch(model.plan, networks[0], str(source))
    return model


def read_pretrained(source: str | Path) -> tuple[StateDict, ModelCard]:
    """Weights to start a training with. They need not say all that prediction must know; no network is built.

    Args:
        source: as `load_model` takes it; of several networks or folds the first is taken.

    Returns:
        The weights in our names, memory-mapped where the format allows it, and the card. Its preprocessing is None
            where a checkpoint does not say how its images were prepared; then its strides are unknown, too.

    Raises:
        UserError: nothing of that name, or a file that is damaged or of another kind.
    """
    path = Path(source)
    if str(source) not in CATALOGUE and path.is_file() and path.suffix in CHECKPOINT_SUFFIXES:
        return import_to_start_with(path)
    state_dict, card = _read(source)
    if len(_known_plan(card, str(source)).normalization) != card.network.input_channels:
        raise FileError(f"{source} cannot be used: it normalises other channels than its network takes.")
    return separated(state_dict, card.members)[0], replace(card, members=1)


def _read(source: str | Path, folds: Sequence[Fold] | None = None) -> tuple[StateDict, ModelCard]:
    path = Path(source)
    is_name = isinstance(source, str) and source in CATALOGUE
    if not is_name and path.is_dir():
        return import_checkpoints(read_folds(path, folds))
    if folds is not None:
        raise UserError(f"{source} has no folds to choose from; only a model folder of nnU-Net v2 has.")
    if is_name:
        return read_model(get_model(str(source)))
    if not path.exists():
        raise UnknownNameError(f"{UnknownNameError.of('model', path, CATALOGUE)} No file or folder has that name.")
    if path.suffix == ".safetensors":
        return read_model(path)
    if path.suffix in CHECKPOINT_SUFFIXES:
        return import_model(path)
    known = ", ".join((".safetensors", *CHECKPOINT_SUFFIXES))
    raise FileError(f"{path} is no model: give a file of kind {known}, a model folder, or a name in the catalogue.")


def _known_plan(card: ModelCard, source: str) -> PreprocessingPlan:
    if card.preprocessing is None:
        raise FileError(f"{source} cannot be used: its card does not say how images are prepared.")
    return card.preprocessing


def _require_possible_plan(card: ModelCard, source: str) -> None:
    """Refuse a plan that the network or stunet cannot follow."""
    plan = _known_plan(card, source)
    if len(plan.normalization) != card.network.input_channels:
        raise FileError(
            f"{source} cannot be used: it normalises {len(plan.normalization)} channel(s), and its network takes "
            f"{card.network.input_channels}."
        )
    if not {plan.logits_order, plan.logits_order_z} <= {0, 1}:
        raise FileError(
            f"{source} cannot be used: its plan interpolates the network's output with order {plan.logits_order}, and "
            "stunet does so linearly (1) or by the nearest voxel (0)."
        )


def _require_fitting_patch(plan: PreprocessingPlan, network: Network, source: str) -> None:
    """Refuse a patch that the network does not take."""
    multiple = network.window_multiple
    if any(size < 1 or size % divisor for size, divisor in zip(plan.patch_size, multiple, strict=True)):
        raise FileError(
            f"{source} cannot be used: its patch of {plan.patch_size} voxels is not divisible by {multiple}, as its "
            "network's strides demand."
        )
    if network.window_size not in (None, tuple(plan.patch_size)):
        raise FileError(
            f"{source} cannot be used: its patch is {plan.patch_size} voxels, and its network was built for "
            f"{network.window_size}."
        )

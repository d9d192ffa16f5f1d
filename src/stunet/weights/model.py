"""Load a model for prediction: networks, preprocessing, and the meaning of their outputs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stunet.errors import FileError, UnknownNameError, UserError
from stunet.networks.digest import weights_sha256
from stunet.networks.network import Network
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.catalogue import CATALOGUE
from stunet.weights.folds import Fold, read_folds
from stunet.weights.import_model import import_checkpoints, import_model, import_to_start_with
from stunet.weights.model_card import ModelCard
from stunet.weights.model_file import StateDict, build_network_from, read_model, separated
from stunet.weights.process import require_unforked
from stunet.weights.read_card import known_plan, model_file_of, require_possible_plan

CHECKPOINT_SUFFIXES = (".model", ".pth", ".pt")
"""Suffixes of nnU-Net v1 and v2 checkpoints."""


@dataclass(frozen=True, eq=False)
class Model:
    """One network, or several (folds, or trainings with different seeds) whose logits are averaged.

    Attributes:
        networks: in evaluation mode, float32, on the CPU; all of one kind.
        card: how images are prepared, labels, licence, provenance.
        source: where it was loaded from, as the user named it.
    """

    networks: tuple[Network, ...]
    card: ModelCard
    source: str

    @property
    def plan(self) -> PreprocessingPlan:
        """How images are prepared."""
        return known_plan(self.card, self.source)

    @property
    def names(self) -> dict[int, str]:
        """Label to structure; 0 is background."""
        return self.card.names

    @property
    def weights_sha256(self) -> str:
        """A digest of all weights: the same for the same numbers, whatever file they came from."""
        return weights_sha256(self.networks)


def load_model(source: str | Path, folds: Sequence[Fold] | None = None) -> Model:
    """Load a model for prediction.

    Args:
        source: a name in the catalogue (downloaded on first use), a `.safetensors` model file, a `.model` or `.pth`
            checkpoint of nnU-Net v1 or v2, or a model folder of nnU-Net v2 or `stunet train`.
        folds: which folds of a model folder to use, e.g. (0, 1) or ("all",); None uses all finished folds.

    Raises:
        UserError: the source does not exist, is damaged or of another kind, its preprocessing is unknown, folds are
            given for something other than a folder, or this process was forked after a model was loaded.
    """
    require_unforked()
    state_dict, card = read_weights(source, folds)
    require_possible_plan(card, str(source))
    networks = tuple(build_network_from(card, one) for one in separated(state_dict, card.members))
    model = Model(networks, card, str(source))
    _require_fitting_patch(model.plan, networks[0], str(source))
    return model


def read_pretrained(source: str | Path) -> tuple[StateDict, ModelCard]:
    """Read weights to start a training. The source may lack information for prediction; no network is built.

    Args:
        source: as in `load_model`; of several networks or folds the first is used.

    Returns:
        The weights by our names, memory-mapped where the format allows it, and the card. Its preprocessing is None if
            the checkpoint does not contain it; then its strides are unknown, too.

    Raises:
        UserError: the source does not exist, is damaged, or is of another kind.
    """
    path = Path(source)
    if str(source) not in CATALOGUE and path.is_file() and path.suffix in CHECKPOINT_SUFFIXES:
        return import_to_start_with(path)
    state_dict, card = read_weights(source)
    if len(known_plan(card, str(source)).normalization) != card.network.input_channels:
        raise FileError(f"{source} cannot be used: its normalisation and its network have different channels.")
    return separated(state_dict, card.members)[0], replace(card, members=1)


def read_weights(source: str | Path, folds: Sequence[Fold] | None = None) -> tuple[StateDict, ModelCard]:
    """Read the weights of a model, and its card; no network is built. For arguments and errors see `load_model`."""
    path = Path(source)
    is_name = isinstance(source, str) and source in CATALOGUE
    if not is_name and path.is_dir():
        return import_checkpoints(read_folds(path, folds))
    if folds is not None:
        raise UserError(f"{source} has no folds to choose from; only a model folder of nnU-Net v2 has.")
    if (file := model_file_of(source)) is not None:
        return read_model(file)
    if not path.exists():
        raise UnknownNameError(f"{UnknownNameError.of('model', path, CATALOGUE)} No file or folder has that name.")
    if path.suffix in CHECKPOINT_SUFFIXES:
        return import_model(path)
    known = ", ".join((".safetensors", *CHECKPOINT_SUFFIXES))
    raise FileError(f"{path} is not a model: give a file of kind {known}, a model folder, or a name in the catalogue.")


def _require_fitting_patch(plan: PreprocessingPlan, network: Network, source: str) -> None:
    """Refuse a patch size that the network does not accept."""
    multiple = network.window_multiple
    if any(size < 1 or size % divisor for size, divisor in zip(plan.patch_size, multiple, strict=True)):
        raise FileError(
            f"{source} cannot be used: its patch of {plan.patch_size} voxels is not divisible by {multiple}, as its "
            "network's strides require."
        )
    if network.window_size not in (None, tuple(plan.patch_size)):
        raise FileError(
            f"{source} cannot be used: its patch is {plan.patch_size} voxels, but its network was built for "
            f"{network.window_size}."
        )

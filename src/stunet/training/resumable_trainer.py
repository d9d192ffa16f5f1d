"""An nnU-Net trainer that can stop after any step and resume with bit-identical results."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from stunet.files import replacing
from stunet.networks.network import Network
from stunet.training import checkpoint_folder, sharded_checkpoint
from stunet.training.checkpoint_folder import TrainingCheckpoint, TrainingState, optimizer_tensors
from stunet.training.logs import TrainingLog, plain
from stunet.training.parallel import STRATEGIES, Process, Strategy, unwrapped, wait_for_all_ranks, whole, whole_weights
from stunet.training.settings import TrainingSettings


def put_together(network: nn.Module, optimizer: torch.optim.Optimizer, keep: bool) -> tuple[Any, Any]:
    """Wrap a sharded network and its optimiser so that nnU-Net can save them: `state_dict` returns whole CPU tensors.

    All ranks must call it. Those that do not `keep` the tensors get none, because they may not have memory for them.
    """
    weights = {name: tensor.cpu() for name, tensor in whole_weights(network) if keep}
    kept: dict[str, Any] = optimizer.state_dict()
    state: dict[int, dict[str, torch.Tensor]] = {number: {} for number in kept["state"]}
    for number, of_parameter in kept["state"].items():
        for name, tensor in of_parameter.items():
            gathered = whole(tensor)
            if keep:
                state[number][name] = gathered.cpu()
    return SimpleNamespace(state_dict=lambda: weights), SimpleNamespace(state_dict=lambda: {**kept, "state": state})


class ResumableTrainer(nnUNetTrainer):
    """Writes and reads our checkpoints, and writes nnU-Net's for its tools, whether the network is whole or sharded.

    Attributes:
        process: this process among those that train.
        settings: the options of the run.
        size: the STU-Net to build, regardless of the plans' network; None builds the network of our plans.
        epoch_losses: losses of the steps done in this epoch.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    logger: TrainingLog
    process: Process
    settings: TrainingSettings
    size: str | None = None
    epoch_losses: list[float]

    @property
    def steps_done(self) -> int:
        """Iterations since the start of the training."""
        return self.current_epoch * self.num_iterations_per_epoch + len(self.epoch_losses)

    @property
    def strategy(self) -> Strategy:
        """How the network is distributed over several processes: as requested, or by its size, see `STRATEGIES`."""
        asked = self.settings.hardware.strategy
        return STRATEGIES.get(self.size or "", "ddp") if asked == "auto" else asked

    @property
    def bare_network(self) -> Network:
        """The network itself, without the wrappers for compilation and distribution."""
        return unwrapped(self.network)

    @property
    def is_sharded(self) -> bool:
        """Whether each process stores only a part of the network."""
        return self.process.world_size > 1 and self.strategy == "fsdp"

    def save_checkpoint(self, filename: str) -> None:
        """Save nnU-Net's checkpoint under a temporary name first, so that a failed write keeps the previous one."""
        if self.disable_checkpointing:
            super().save_checkpoint(filename)  # writes nothing, and prints so
            return
        spread = self.network, self.optimizer
        if self.is_sharded:
            self.network, self.optimizer = put_together(*spread, keep=self.process.is_first)
        else:
            self.network = self.bare_network
        try:
            if self.process.is_first:
                with replacing(Path(filename)) as temporary:
                    super().save_checkpoint(str(temporary))
        finally:
            self.network, self.optimizer = spread
        wait_for_all_ranks()

    def save_state(self) -> Path:
        """Save everything needed to continue from here bit for bit, and keep the previous checkpoint.

        Returns:
            The checkpoint's folder.

        Raises:
            UserError: it cannot be written.
        """
        network = self.bare_network
        folder, weights = Path(self.output_folder), network.state_dict()
        if self.is_sharded:
            return sharded_checkpoint.save(folder, weights, optimizer_tensors(self.optimizer, network), self.state())
        if self.process.is_first:
            checkpoint_folder.save(folder, weights, optimizer_tensors(self.optimizer, network), self.state())
        wait_for_all_ranks()
        return folder / checkpoint_folder.NEWEST

    def state(self) -> TrainingState:
        """The progress of the training, without tensors."""
        done = {key: plain(values[: self.current_epoch]) for key, values in self.logger.get_checkpoint().items()}
        scaler: dict[str, Any] = {} if self.grad_scaler is None else self.grad_scaler.state_dict()
        axes: list[int] = list(self.inference_allowed_mirroring_axes or ())
        return TrainingState(self.current_epoch, list(self.epoch_losses), plain(self._best_ema), done, scaler, axes)

    def load_state(self, checkpoint: TrainingCheckpoint) -> None:
        """Continue from what `save_state` wrote. The trainer must be initialised.

        Raises:
            UserError: the checkpoint is from another network.
        """
        load_into = sharded_checkpoint.load_into if self.is_sharded else checkpoint_folder.load_into
        load_into(checkpoint, self.bare_network, self.optimizer)
        self.restore(checkpoint.state)

    def restore(self, state: TrainingState) -> None:
        """Restore the progress of `state`."""
        self.current_epoch, self.epoch_losses = state.epoch, list(state.epoch_losses)
        self._best_ema = state.best_ema
        self.inference_allowed_mirroring_axes = tuple(state.mirror_axes) or None  # type: ignore[assignment]
        self.logger.load_checkpoint({key: list(values) for key, values in state.logging.items()})
        if self.grad_scaler is not None and state.scaler:
            self.grad_scaler.load_state_dict(state.scaler)

    def last_checkpoint(self) -> Path | None:
        """The newest of our checkpoints; None before the first."""
        folder = Path(self.output_folder) / checkpoint_folder.NEWEST
        return folder if folder.is_dir() else None

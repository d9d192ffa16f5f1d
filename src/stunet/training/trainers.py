"""nnU-Net trainers for STU-Nets, with the names that the official code gave them.

Overridden are the network, the optimiser's numbers, bfloat16 on CPUs, and the writing of checkpoints; mirroring can be
left out. Data, other augmentation, loss, schedule, validation and logs are nnU-Net's.
"""

import contextlib
import random
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from stunet.files import replacing
from stunet.inference.backends.precision import cpu_computes_bfloat16
from stunet.networks.stunet import SIZES, STUNet, six_strides
from stunet.training.planners import NETWORK_CLASS, plans_name

WEIGHT_DECAY = 1e-3
"""Paper, section 4, implementation details (nnU-Net's default is 3e-5)."""

BODY_LEARNING_RATE_FACTOR = 0.1
"""Fine-tuning: the pre-trained body learns at this fraction of the new head's rate (section 3.4)."""


class _InFloat32(nn.Module):
    """A loss that sees float32 logits: sums over a patch would be coarse in bfloat16."""

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss

    def forward(self, logits: Any, target: Any) -> torch.Tensor:
        """The loss of logits (B, K, Z, Y, X), or of a list of them, as nnU-Net computes it in float32."""
        as_float = [x.float() for x in logits] if isinstance(logits, list | tuple) else logits.float()
        with torch.autocast("cpu", enabled=False):
            return self.loss(as_float, target)


class PolynomialSchedule(torch.optim.lr_scheduler.LRScheduler):
    """Each group's own initial rate times (1 - epoch / epochs) ** 0.9 (section 4, implementation details).

    nnU-Net's scheduler gives all groups one rate; this one keeps their ratio.
    """

    EXPONENT = 0.9

    def __init__(self, optimizer: torch.optim.Optimizer, epochs: int):
        self.epochs = epochs
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Set the rates of `epoch`; without one, of the next."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        decay = (1 - self.last_epoch / self.epochs) ** self.EXPONENT
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * decay
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class STUNetTrainer(nnUNetTrainer):
    """The paper's training: SGD, Nesterov momentum 0.99, weight decay 1e-3, lr 0.01, 1000 epochs of 250 iterations.

    Attributes:
        size: the STU-Net that is built whatever the plans' network; None builds what our plans say.
        use_bfloat16: compute in bfloat16; by default on CPUs that have it (nnU-Net decides on GPUs).
        mirror: augment by mirrored copies, as nnU-Net; a model trained without must not be asked for mirrored copies.
        seed: makes the batches of each epoch reproducible where no worker processes load them; None leaves them random.
        on_step: called with the number of iterations done after each training step, for progress displays.
    """

    network: nn.Module
    size: str | None = None

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net inspects this signature)
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)  # type: ignore[arg-type]
        self.weight_decay = WEIGHT_DECAY
        self.save_every = 5
        self.use_bfloat16 = self.device.type == "cpu" and cpu_computes_bfloat16()
        self.mirror = True
        self.seed: int | None = None
        self.on_step: Callable[[int], None] = lambda steps_done: None
        self._steps_done = 0

    @classmethod
    def build_network_architecture(  # type: ignore[override]
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The trainer's size with the plan's strides, or what our plans say (nnU-Net calls this to predict, too)."""
        if cls.size is None:
            return nnUNetTrainer.build_network_architecture(
                plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
            )
        network = STUNet(
            num_input_channels,
            num_output_channels,
            SIZES[cls.size].width,
            SIZES[cls.size].depth,
            six_strides(configuration_manager.pool_op_kernel_sizes),
            deep_supervision=enable_deep_supervision,
        )
        return network.apply(STUNet.initialize)

    def initialize(self) -> None:
        """As nnU-Net; plans for another network or size than this trainer's are refused first."""
        self._require_fitting_plans()
        super().initialize()
        if self.device.type == "cpu":  # a step of `tiny` is 1.4 times faster, one of `small` as fast
            self.network = self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def _require_fitting_plans(self) -> None:
        """nnU-Net's own plans fit every trainer that has a size; ours fit the trainer of their size."""
        plans, trainer = self.plans_manager.plans_name, type(self).__name__
        planned = self.configuration_manager.network_arch_init_kwargs
        if self.configuration_manager.network_arch_class_name != NETWORK_CLASS:
            if self.size is None:
                raise ValueError(f"{trainer} builds what STU-Net plans say, and {plans} are for another network.")
        elif self.size is not None and (planned["width"], planned["depth"]) != astuple(SIZES[self.size])[:2]:
            raise ValueError(
                f"{trainer} builds {self.size!r}, but the plans {plans} are for width {planned['width']}, depth "
                f"{planned['depth']}. Use -p {plans_name(self.size)}."
            )

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """One scale for each of the five heads, from the six strides (nnU-Net's plans may have fewer)."""
        if not self.enable_deep_supervision:
            return None
        strides = six_strides(self.configuration_manager.pool_op_kernel_sizes)
        return [list(scale) for scale in 1 / np.cumprod(np.vstack(strides), axis=0)][:-1]

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802
        """As nnU-Net; without mirroring, no axes for the augmentation, and none for the checkpoint's later users."""
        rotation, dummy_2d, initial_patch_size, axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if not self.mirror:
            axes = self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch_size, axes

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        return _InFloat32(loss) if self.use_bfloat16 else loss

    def _autocast(self) -> contextlib.AbstractContextManager:
        if not self.use_bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def train_step(self, batch: dict) -> dict:
        """One iteration of nnU-Net's, in bfloat16 where the CPU has it."""
        with self._autocast():
            result = super().train_step(batch)
        self._steps_done += 1
        self.on_step(self.current_epoch * self.num_iterations_per_epoch + self._steps_done)
        return result

    def on_train_epoch_start(self) -> None:
        """As nnU-Net, seeded by the epoch's number, so that a resumed run sees the batches it would have seen."""
        self._steps_done = 0
        if self.seed is not None:
            torch.manual_seed(self.seed + self.current_epoch)
            np.random.seed(self.seed + self.current_epoch)
            random.seed(self.seed + self.current_epoch)
        super().on_train_epoch_start()

    def validation_step(self, batch: dict) -> dict:
        """One validation batch of nnU-Net's, in bfloat16 where the CPU has it."""
        with self._autocast():
            return super().validation_step(batch)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """SGD over `parameter_groups` and a polynomial decay of each group's rate."""
        optimizer = torch.optim.SGD(
            self.parameter_groups(), self.initial_lr, weight_decay=self.weight_decay, momentum=0.99, nesterov=True
        )
        return optimizer, PolynomialSchedule(optimizer, self.num_epochs)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters at the initial learning rate."""
        return [{"params": list(self.network.parameters())}]

    def save_checkpoint(self, filename: str) -> None:
        """As nnU-Net, under a temporary name first: an interrupted write never costs the previous checkpoint."""
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)  # writes nothing, and says so
            return
        with replacing(Path(filename)) as temporary:
            super().save_checkpoint(str(temporary))


class STUNetTrainer_ft(STUNetTrainer):
    """Fine-tuning: the body learns at a tenth of the head's rate (section 3.4)."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The heads first (nnU-Net logs the first group's rate), then all else."""
        head: list[nn.Parameter] = []
        body: list[nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            is_head = any(key in name for key in STUNet.head_keys)
            (head if is_head else body).append(parameter)
        body_rate = BODY_LEARNING_RATE_FACTOR * self.initial_lr
        return [{"params": head, "lr": self.initial_lr}, {"params": body, "lr": body_rate}]


class STUNetTrainer_tiny(STUNetTrainer):
    """Builds `tiny`."""

    size = "tiny"


class STUNetTrainer_small(STUNetTrainer):
    """Builds STU-Net-S."""

    size = "small"


class STUNetTrainer_base(STUNetTrainer):
    """Builds STU-Net-B."""

    size = "base"


class STUNetTrainer_large(STUNetTrainer):
    """Builds STU-Net-L."""

    size = "large"


class STUNetTrainer_huge(STUNetTrainer):
    """Builds STU-Net-H."""

    size = "huge"


class STUNetTrainer_tiny_ft(STUNetTrainer_ft):
    """Fine-tunes `tiny`."""

    size = "tiny"


class STUNetTrainer_small_ft(STUNetTrainer_ft):
    """Fine-tunes STU-Net-S."""

    size = "small"


class STUNetTrainer_base_ft(STUNetTrainer_ft):
    """Fine-tunes STU-Net-B."""

    size = "base"


class STUNetTrainer_large_ft(STUNetTrainer_ft):
    """Fine-tunes STU-Net-L."""

    size = "large"


class STUNetTrainer_huge_ft(STUNetTrainer_ft):
    """Fine-tunes STU-Net-H."""

    size = "huge"


TRAINERS: dict[str, type[STUNetTrainer]] = {
    "tiny": STUNetTrainer_tiny,
    "small": STUNetTrainer_small,
    "base": STUNetTrainer_base,
    "large": STUNetTrainer_large,
    "huge": STUNetTrainer_huge,
}

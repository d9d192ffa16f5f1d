"""The part of the trainer that builds the network, in place of nnU-Net's, and distributes it over the processes."""

from typing import cast

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from stunet.errors import UserError
from stunet.inference.backends.precision import Precision
from stunet.networks.network import Network
from stunet.networks.stunet import SIZES, STUNet, six_strides
from stunet.training.activation_checkpointing import checkpoint_activations
from stunet.training.parallel import distribute, require_even_shares
from stunet.training.planners import planned_class, require_fitting_plans
from stunet.training.precision import resolve_precision
from stunet.training.resumable_trainer import ResumableTrainer


class NetworkHooks(ResumableTrainer):
    """Builds the trainer's size of STU-Net, or the network of our plans.

    Attributes:
        precision: of convolutions; set by `initialize`.
    """

    precision: Precision = "float32"

    @classmethod
    def build_network_architecture(  # type: ignore[override]
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The trainer's size with the plan's strides, or the network of our plans. nnU-Net also predicts with it."""
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
        """As in nnU-Net, after refusing plans for another network or size than this trainer's.

        Raises:
            UserError: the batch cannot be divided evenly among the processes.
        """
        require_fitting_plans(self.plans_manager.plans_name, self.configuration_manager, self.size, type(self).__name__)
        hardware = self.settings.hardware
        require_even_shares(self.configuration_manager.batch_size, self.process.world_size, hardware.accumulate)
        planned = None if self.size is not None else planned_class(self.configuration_manager)
        if planned is not None:
            self.enable_deep_supervision = planned.supervises_deeply
            self._require_possible_for(planned)
        self.precision = resolve_precision(hardware.precision, self.device)
        if self.precision != "float16":
            self.grad_scaler = None
        super().initialize()
        if hardware.checkpoint_activations or self.is_sharded:
            checkpoint_activations(cast(STUNet, self.bare_network))
        for module in self.network.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if self.process.world_size > 1:
            self._spread()

    def _require_possible_for(self, network_class: type[Network]) -> None:
        if network_class is not STUNet and (self.is_sharded or self.settings.hardware.checkpoint_activations):
            raise UserError(
                "Only STU-Nets are cut into parts or recompute their activations; leave --strategy fsdp and "
                "--checkpoint-activations out."
            )

    def _spread(self) -> None:
        """Distribute the network over the processes, and create the optimiser anew from this rank's parameters."""
        if self.is_sharded and self._wants_compiling():
            network = cast(STUNet, self.bare_network)
            for stage in (*network.encoder.stages, *network.decoder.stages):
                stage.compile()
        self.network = distribute(self.network, self.process, self.strategy, self.precision)
        self.optimizer, self.lr_scheduler = self.configure_optimizers()

    def _do_i_compile(self) -> bool:
        """Whether nnU-Net compiles the network as a whole. For a sharded one, each stage is compiled instead."""
        return self._wants_compiling() and not self.is_sharded

    def _wants_compiling(self) -> bool:
        asked = self.settings.hardware.compile
        return super()._do_i_compile() if asked == "auto" else asked == "on"

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """As in nnU-Net, also for a wrapped network. Does nothing if it has one head."""
        self.bare_network.supervise_deeply(enabled)

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """One scale per head of the network; None if it has only one."""
        if not self.enable_deep_supervision:
            return None
        return [[1 / n for n in stride] for stride in self.bare_network.supervision_strides]

"""nnU-Net's trainer for STU-Nets and the networks that the paper compares them with.

It overrides the network, the hyperparameters, the order of the data, the step, and, in `ResumableTrainer`, the
checkpoints. Planning, preprocessing, transforms, loss, validation and logs are nnU-Net's.
"""

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from stunet.errors import UserError
from stunet.inference.backends.precision import Precision
from stunet.networks.network import Network
from stunet.networks.stunet import SIZES, STUNet, six_strides
from stunet.pictures.training_patch import draw_patch
from stunet.training.activation_checkpointing import checkpoint_activations
from stunet.training.augmentation.pipeline import NNUNET, PAPER, DeviceAugmentation
from stunet.training.environment import loading_processes
from stunet.training.failures import explaining_lack_of_memory, require_finite
from stunet.training.fit import device_bytes, suggest_fit
from stunet.training.logs import JsonLines, TensorBoard, TrainingLog
from stunet.training.loss import spread_over_ranks, weigh_classes
from stunet.training.memory_walk import TrainingStep
from stunet.training.optimizer import LearningRateSchedule, make_optimizer
from stunet.training.paper_transforms import with_paper_transforms
from stunet.training.parallel import (
    distribute,
    first_rank_first,
    is_true_on_any_rank,
    items_of_all_ranks,
    mean_over_ranks,
    require_even_shares,
    sum_over_ranks,
    this_process,
    wait_for_all_ranks,
    whole_network,
)
from stunet.training.planners import planned_class, require_fitting_plans
from stunet.training.precision import InFloat32, autocasting, resolve_precision
from stunet.training.recipes import RECIPES, Recipe
from stunet.training.resumable_trainer import ResumableTrainer
from stunet.training.resuming import are_epochs_done
from stunet.training.sampling import (
    Batch,
    SeededBatches,
    Stream,
    batches,
    device_seed,
    slots_of_rank,
)
from stunet.training.settings import LoggingSettings, TaskSettings, TrainingSettings
from stunet.training.step import LossTarget, accumulate_gradients, to_device, update
from stunet.training.stopping import StopRequest, TrainingStopped
from stunet.training.throughput import Speedometer, StepReport, peak_tflops, tflop_per_sample
from stunet.training.validation_patch import PICTURE_NAME, highest_resolution, predicted_labels, reference_labels

ITERATIONS_PER_VALIDATION_ITERATION = 5
"""nnU-Net's ratio: 250 iterations and 50 validation batches per epoch."""


class STUNetTrainer(ResumableTrainer):
    """The paper's training: SGD, Nesterov momentum 0.99, weight decay 1e-3, lr 0.01, 1000 epochs of 250 iterations.

    With several processes, each step returns what it would return for the whole batch on one device, so losses, logs
    and decisions are the same on all ranks. nnU-Net's own code for DDP is used only in the final validation.

    Attributes:
        recipe: the hyperparameters; set by `follow`.
        settings: the options of the run; nnU-Net's own command leaves them at their defaults, without pictures.
        precision: of convolutions; set by `initialize`.
        on_step: called after each training step, for progress displays.
    """

    dataloader_train: Any
    dataloader_val: Any
    recipe: Recipe = RECIPES["scratch"]

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net inspects this signature)
    ):
        is_continued = plans["continue_training"]  # nnU-Net removes it
        super().__init__(plans, configuration, fold, dataset_json, device)  # type: ignore[arg-type]
        self.process = this_process(device.type)
        self.device, self.is_ddp = self.process.device, False
        task = TaskSettings(self.plans_manager.dataset_name, fold, configuration=configuration)
        self.settings = TrainingSettings(task, logging=LoggingSettings(picture_every=0))
        self.follow(type(self).recipe)
        self.precision: Precision = "float32"
        self.augment: DeviceAugmentation | None = None
        self.on_step: Callable[[StepReport], None] = lambda report: None
        self.epoch_losses: list[float] = []
        self.stop = StopRequest()
        self.logger = TrainingLog(self.output_folder, is_continued)

    def follow(self, recipe: Recipe) -> None:
        """Use the hyperparameters of a recipe. Patch and batch size come from the plans."""
        self.recipe = recipe
        self.num_epochs = recipe.epochs
        self.num_iterations_per_epoch = recipe.iterations_per_epoch
        self.num_val_iterations_per_epoch = max(1, recipe.iterations_per_epoch // ITERATIONS_PER_VALIDATION_ITERATION)
        self.initial_lr = recipe.learning_rate
        self.weight_decay = recipe.weight_decay

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

    def print_to_log_file(self, *args: Any, **options: Any) -> None:
        """As in nnU-Net, but only in the first process."""
        if self.local_rank == 0:
            super().print_to_log_file(*args, **options)

    def do_split(self) -> tuple[list[str], list[str]]:
        """As in nnU-Net, but only the first process writes the split file; the others read it."""
        with first_rank_first():
            return super().do_split()

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """One scale per head of the network; None if it has only one."""
        if not self.enable_deep_supervision:
            return None
        return [[1 / n for n in stride] for stride in self.bare_network.supervision_strides]

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802
        """As in nnU-Net. Without mirroring, neither the augmentation nor the checkpoint gets mirror axes."""
        rotation, dummy_2d, initial_patch_size, axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if not self.recipe.mirror:
            axes = self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch_size, axes

    def get_training_transforms(  # type: ignore[override]
        self,
        patch_size: Any,
        rotation_for_DA: Any,
        deep_supervision_scales: Any,
        mirror_axes: Any,
        do_dummy_2d_data_aug: bool,
        **options: Any,
    ) -> BasicTransform | None:
        """nnU-Net's transforms; None if the device augments, so that the loader returns raw crops."""
        geometry = (patch_size, rotation_for_DA, deep_supervision_scales, mirror_axes, do_dummy_2d_data_aug)
        if not self.augments_on_device:
            transforms = nnUNetTrainer.get_training_transforms(*geometry, **options)
            return with_paper_transforms(transforms) if self.recipe.paper_transforms else transforms
        self.augment = DeviceAugmentation(
            *geometry,
            use_mask_for_norm=options["use_mask_for_norm"],
            regions=options["regions"],
            ignore_label=options["ignore_label"],
            extras=PAPER if self.recipe.paper_transforms else NNUNET,
        )
        return None

    @property
    def augments_on_device(self) -> bool:
        """Whether whole batches are augmented on the network's device, instead of sample by sample in the loader."""
        asked = self.settings.augmentation.augmentation
        refusal = DeviceAugmentation.refusal(self.configuration_manager.patch_size, self.is_cascaded, self.device)
        if asked == "device" and refusal is not None:
            raise UserError(f"--augmentation device is not possible here. {refusal}")
        return asked != "nnunet" and refusal is None

    def get_dataloaders(self) -> tuple[Iterator[Batch], Iterator[Batch]]:
        """nnU-Net's loaders with our seeds, starting from the current step."""
        workers = get_allowed_n_proc_DA()
        with loading_processes(0):
            training, validation = (augmenter.data_loader for augmenter in super().get_dataloaders())
        validation_batches = self._seeded(validation, "validation")
        self._picture_batch = validation_batches[0] if self.settings.logging.picture_every else {}
        steps = range(self.steps_done, self.num_epochs * self.num_iterations_per_epoch)
        first, end = (epoch * self.num_val_iterations_per_epoch for epoch in (self.current_epoch, self.num_epochs))
        pin = self.device.type == "cuda"
        return (
            batches(self._seeded(training, "training"), steps, workers, pin),
            batches(validation_batches, range(first, end), (workers + 1) // 2, pin),
        )

    def _seeded(self, loader: Any, stream: Stream) -> SeededBatches:
        global_batch = self.configuration_manager.batch_size
        slots = slots_of_rank(global_batch, self.process.rank, self.process.world_size)
        return SeededBatches(loader, slots, global_batch, self.recipe.foreground, self.settings.task.seed, stream)

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        if self.recipe.class_weights is not None:
            classes = self.label_manager.num_segmentation_heads
            weigh_classes(loss, self.recipe.class_weights, classes, self.device)
        if self.process.world_size > 1:
            spread_over_ranks(loss)
        return InFloat32(loss, self.device) if self.precision == "bfloat16" else loss

    def on_train_start(self) -> None:
        """As in nnU-Net, and open the logs at the current step."""
        super().on_train_start()
        if self.local_rank == 0:
            folder = Path(self.output_folder)
            self.logger.loggers.append(JsonLines(folder, self.steps_done, self.current_epoch))
            if self.settings.logging.tensorboard:
                self.logger.loggers.append(TensorBoard(folder, self.steps_done))

    def run_training(self) -> None:
        """nnU-Net's loop, which can stop after any step and resume there.

        Raises:
            TrainingStopped: SIGTERM or Ctrl-C was received; a checkpoint was saved.
            UserError: the loss is not finite, or memory ran out.
        """
        self.on_train_start()
        if not self.steps_done:
            self.save_state()
        with self.stop.listening():
            while not self.are_epochs_done:
                self.run_epoch()
        self.on_train_end()

    @property
    def are_epochs_done(self) -> bool:
        """Whether this was the last epoch."""
        averages = self.logger.get_value("ema_fg_dice", step=None)
        return are_epochs_done(self.current_epoch, self.num_epochs, averages, self.recipe.patience)

    def run_epoch(self) -> None:
        """Run one epoch, or the rest of it, and its validation."""
        self.on_epoch_start()
        self.on_train_epoch_start()
        while len(self.epoch_losses) < self.num_iterations_per_epoch:
            self.train_step(next(self.dataloader_train))
            self.stop_if_asked()
        self.on_train_epoch_end([{"loss": loss} for loss in self.epoch_losses])
        with torch.no_grad():
            self.on_validation_epoch_start()
            outputs = []
            for _ in range(self.num_val_iterations_per_epoch):
                outputs.append(self.validation_step(next(self.dataloader_val)))
                self.stop_if_asked()
            self.on_validation_epoch_end(outputs)
        self.on_epoch_end()

    def stop_if_asked(self) -> None:
        """Save and stop if any process received a signal.

        Raises:
            TrainingStopped: a signal was received.
        """
        if is_true_on_any_rank(self.stop.is_made):
            folder = self.save_state()
            sentence = f"stopped after step {self.steps_done} and saved in {folder}; continue with --resume"
            raise TrainingStopped(sentence, 128 + (self.stop.number or signal.SIGTERM))

    def on_train_epoch_start(self) -> None:
        """As in nnU-Net, and start measuring the speed."""
        super().on_train_epoch_start()
        self.speed.start_epoch()

    def train_step(self, batch: Batch) -> dict:
        """One iteration, as in nnU-Net, with this trainer's precision and number of parts."""
        with explaining_lack_of_memory(self._what_fits):
            loss = mean_over_ranks(self._step(batch))
        cases = batch.get("keys", ()) if math.isfinite(loss) else items_of_all_ranks(batch.get("keys", ()))
        require_finite(loss, self.steps_done + 1, cases, self.last_checkpoint())
        self.epoch_losses.append(loss)
        self._report(loss)
        return {"loss": loss}

    def _on_device(self, batch: Batch) -> tuple[torch.Tensor, LossTarget]:
        """Images and target of a training batch, augmented, on the device."""
        image_BCZYX, target = batch["data"].to(self.device, non_blocking=True), to_device(batch["target"], self.device)
        if self.augment is None:
            return image_BCZYX, target
        seeds = [device_seed(self.settings.task.seed, batch["step"], slot) for slot in batch["slots"]]
        return self.augment(image_BCZYX, cast(torch.Tensor, target), seeds)

    def _step(self, batch: Batch) -> float:
        image_BCZYX, target = self._on_device(batch)
        self.optimizer.zero_grad(set_to_none=True)
        parts = self.settings.hardware.accumulate
        keep_to_itself = getattr(self.network, "no_sync", nullcontext)  # DDP's; with FSDP it would need more memory
        loss = accumulate_gradients(self._loss_of, image_BCZYX, target, parts, self.grad_scaler, keep_to_itself)
        update(self.network, self.optimizer, self.grad_scaler)
        return float(loss)

    def _loss_of(self, image_BCZYX: torch.Tensor, target: LossTarget) -> torch.Tensor:
        with autocasting(self.precision, self.device):
            return self.loss(self.network(image_BCZYX), target)

    def _what_fits(self) -> str:
        network = self.bare_network
        if not isinstance(network, STUNet):
            return "Give a smaller --patch or --batch-size, or --accumulate."
        z, y, x = (int(n) for n in self.configuration_manager.patch_size)
        step = TrainingStep(
            network.spec,
            (z, y, x),
            self.batch_size // self.process.world_size,
            "float32" if self.precision == "float32" else "bfloat16",
            self.settings.hardware.checkpoint_activations,
            accumulate=self.settings.hardware.accumulate,
        )
        return suggest_fit(step, device_bytes(self.device))

    @cached_property
    def speed(self) -> Speedometer:
        """The speed of this training, all ranks together."""
        samples = self.configuration_manager.batch_size
        tflop = tflop_per_sample(self.bare_network, self.configuration_manager.patch_size)
        peak = peak_tflops(self.device, self.precision)
        return Speedometer(samples, samples * tflop, peak and peak * self.process.world_size)

    def _report(self, loss: float) -> None:
        self.speed.end_step()
        averages = self.logger.get_value("ema_fg_dice", step=None)
        report = self.speed.report(
            self.steps_done,
            self.num_epochs * self.num_iterations_per_epoch,
            self.current_epoch,
            loss,
            averages[-1] if averages else None,
            self.optimizer.param_groups[0]["lr"],
        )
        self.logger.log_step(report)
        self.on_step(report)

    def on_epoch_end(self) -> None:
        """As in nnU-Net, then save our own checkpoint and picture if they are due."""
        super().on_epoch_end()
        self.epoch_losses = []
        is_last, logging = self.are_epochs_done, self.settings.logging
        if is_last or self.current_epoch % logging.save_every == 0:
            self.save_state()
        if logging.picture_every and (is_last or self.current_epoch % logging.picture_every == 0):
            self.draw_picture()

    def draw_picture(self) -> None:
        """Draw the network's prediction for a fixed validation patch."""
        image_BCZYX, target = self._picture_batch["data"][-1:], highest_resolution(self._picture_batch["target"])[-1]
        self.network.eval()
        with torch.no_grad(), autocasting(self.precision, self.device):
            logits = highest_resolution(self.network(image_BCZYX.to(self.device)))[0]
        if self.local_rank == 0:
            draw_patch(
                Path(self.output_folder) / PICTURE_NAME,
                f"{self._picture_batch['keys'][-1]}, epoch {self.current_epoch}",
                image_BCZYX[0, 0].numpy(),
                reference_labels(target, self.label_manager),
                predicted_labels(logits, self.label_manager),
            )

    def validation_step(self, batch: Batch) -> dict:
        """One of nnU-Net's validation batches, in this trainer's precision."""
        with autocasting(self.precision, self.device), explaining_lack_of_memory(self._what_fits):
            outputs = super().validation_step(batch)
        loss = mean_over_ranks(outputs.pop("loss"))
        return {"loss": loss, **{name: sum_over_ranks(count) for name, count in outputs.items()}}

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """The recipe's optimiser and learning rate schedule."""
        optimizer = make_optimizer(self.bare_network, self.recipe, fused=self.device.type == "cuda")
        return optimizer, LearningRateSchedule(optimizer, self.recipe, self.num_epochs)

    def on_train_end(self) -> None:
        """As in nnU-Net, and stop the loading processes."""
        super().on_train_end()
        self.dataloader_train = self.dataloader_val = None

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """As in nnU-Net. With several processes, each has the whole network and validates a part of the cases."""
        if self.process.world_size > 1:
            self.network = whole_network(self.network) if self.is_sharded else self.bare_network
        self.is_ddp = self.process.world_size > 1
        try:
            super().perform_actual_validation(save_probabilities)
        finally:
            self.is_ddp = False
            wait_for_all_ranks()

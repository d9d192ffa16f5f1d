"""nnU-Net's trainer for STU-Nets and the networks that the paper compares them with.

It overrides the hyperparameters, the loop and the step here, the network in `NetworkHooks`, the order of the data in
`DataHooks`, and the checkpoints in `ResumableTrainer`. Planning, preprocessing, transforms, loss, validation and logs
are nnU-Net's.
"""

import math
import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stunet.networks.stunet import STUNet
from stunet.pictures.training_patch import draw_patch
from stunet.training.data_hooks import DataHooks
from stunet.training.failures import explaining_lack_of_memory, require_finite
from stunet.training.fit import device_bytes, suggest_fit
from stunet.training.logs import JsonLines, TensorBoard, TrainingLog
from stunet.training.loss import spread_over_ranks, weigh_classes
from stunet.training.memory_walk import TrainingStep
from stunet.training.network_hooks import NetworkHooks
from stunet.training.optimizer import LearningRateSchedule, make_optimizer
from stunet.training.parallel import (
    is_true_on_any_rank,
    items_of_all_ranks,
    mean_over_ranks,
    sum_over_ranks,
    this_process,
    wait_for_all_ranks,
    whole_network,
)
from stunet.training.precision import InFloat32, autocasting
from stunet.training.recipes import Recipe
from stunet.training.resuming import are_epochs_done
from stunet.training.sampling import Batch
from stunet.training.settings import LoggingSettings, TaskSettings, TrainingSettings
from stunet.training.step import LossTarget, accumulate_gradients, update
from stunet.training.stopping import StopRequest, TrainingStopped
from stunet.training.throughput import Speedometer, StepReport, peak_tflops, tflop_per_sample
from stunet.training.validation_patch import PICTURE_NAME, highest_resolution, predicted_labels, reference_labels

ITERATIONS_PER_VALIDATION_ITERATION = 5
"""nnU-Net's ratio: 250 iterations and 50 validation batches per epoch."""


class STUNetTrainer(DataHooks, NetworkHooks):
    """The paper's training: SGD, Nesterov momentum 0.99, weight decay 1e-3, lr 0.01, 1000 epochs of 250 iterations.

    With several processes, each step returns what it would return for the whole batch on one device, so losses, logs
    and decisions are the same on all ranks. nnU-Net's own code for DDP is used only in the final validation.

    Attributes:
        recipe: the hyperparameters; set by `follow`.
        settings: the options of the run; nnU-Net's own command leaves them at their defaults, without pictures.
        on_step: called after each training step, for progress displays.
    """

    dataloader_train: Any
    dataloader_val: Any

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

    def print_to_log_file(self, *args: Any, **options: Any) -> None:
        """As in nnU-Net, but only in the first process."""
        if self.local_rank == 0:
            super().print_to_log_file(*args, **options)

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

    def _step(self, batch: Batch) -> float:
        image_BCZYX, target = self.on_device(batch)
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
        image_BCZYX, target = self.picture_batch["data"][-1:], highest_resolution(self.picture_batch["target"])[-1]
        self.network.eval()
        with torch.no_grad(), autocasting(self.precision, self.device):
            logits = highest_resolution(self.network(image_BCZYX.to(self.device)))[0]
        if self.local_rank == 0:
            draw_patch(
                Path(self.output_folder) / PICTURE_NAME,
                f"{self.picture_batch['keys'][-1]}, epoch {self.current_epoch}",
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

"""The part of the trainer that loads and augments batches: nnU-Net's data, in an order that a seed fixes."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from stunet.errors import UserError
from stunet.training.augmentation.pipeline import NNUNET, PAPER, DeviceAugmentation
from stunet.training.environment import loading_processes
from stunet.training.paper_transforms import with_paper_transforms
from stunet.training.parallel import first_rank_first
from stunet.training.recipes import RECIPES, Recipe
from stunet.training.resumable_trainer import ResumableTrainer
from stunet.training.sampling import Batch, SeededBatches, Stream, batches, device_seed, slots_of_rank
from stunet.training.step import LossTarget, to_device


class DataHooks(ResumableTrainer):
    """Loads the same batches for the same seed, with any number of processes, and after resuming.

    Attributes:
        recipe: the hyperparameters.
        augment: augments whole batches on the network's device; None if the loading processes do it.
        picture_batch: the first validation batch, of which pictures are drawn; empty without pictures.
    """

    recipe: Recipe = RECIPES["scratch"]
    augment: DeviceAugmentation | None = None
    picture_batch: Batch

    def do_split(self) -> tuple[list[str], list[str]]:
        """As in nnU-Net, but only the first process writes the split file; the others read it."""
        with first_rank_first():
            return super().do_split()

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
        self.picture_batch = validation_batches[0] if self.settings.logging.picture_every else {}
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

    def on_device(self, batch: Batch) -> tuple[torch.Tensor, LossTarget]:
        """Images and target of a training batch, augmented, on the device."""
        image_BCZYX, target = batch["data"].to(self.device, non_blocking=True), to_device(batch["target"], self.device)
        if self.augment is None:
            return image_BCZYX, target
        seeds = [device_seed(self.settings.task.seed, batch["step"], slot) for slot in batch["slots"]]
        return self.augment(image_BCZYX, cast(torch.Tensor, target), seeds)

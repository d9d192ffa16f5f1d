"""A batch of noise, and training steps on it."""

import torch


def random_batch(trainer):
    """Noise and random blobs, as nnU-Net's loader shapes them."""
    generator = torch.Generator().manual_seed(1)
    patch = trainer.configuration_manager.patch_size
    shapes = [
        [round(n * s) for n, s in zip(patch, scale, strict=True)] for scale in trainer._get_deep_supervision_scales()
    ]
    data = torch.randn(2, 1, *patch, generator=generator)
    return {"data": data, "target": [torch.randint(0, 3, (2, 1, *s), generator=generator).short() for s in shapes]}


def steps(trainer, number=2):
    trainer.on_train_epoch_start()
    return [float(trainer.train_step(random_batch(trainer))["loss"]) for _ in range(number)]

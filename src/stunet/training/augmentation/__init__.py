"""nnU-Net's training transforms on a batch, on the device that trains.

The loader only reads and crops; `DeviceAugmentation` (`pipeline.py`) does the rest on the network's device. It takes
the arguments of nnU-Net's `get_training_transforms`, the raw crops of the larger patch, and one seed per sample:

    reason = DeviceAugmentation.refusal(patch_size, is_cascaded, device)   # None, or why nnU-Net's own must be used
    augment = DeviceAugmentation(patch_size, rotation, scales, mirror_axes, dummy_2d, use_mask_for_norm=...)
    image_BCZYX, targets = augment(image_BCZYX, labels_B1ZYX, seeds)       # training
    targets = augment.targets(labels_B1ZYX)                                # validation: only the labels change

Random numbers are drawn on the CPU from the sample's seed alone. They do not depend on the other samples, the number of
ranks or the device. `PAPER` adds the transforms that the paper names and nnU-Net leaves out.
"""

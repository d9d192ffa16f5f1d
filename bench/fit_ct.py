"""Fit an STU-Net to one real CT and its labels, for measurements that need a network that segments.

The network has seen nothing else and has no other use. Patches are 64x64x64 anywhere, and at the end the windows of
128x128x128 that prediction has. To continue an interrupted run, use the same command.

    python bench/fit_ct.py -o ct.safetensors [--size small] [--iterations 3000] [--large-iterations 200]
"""

import argparse
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from stunet.allocator import keep_freed_memory
from stunet.files import replacing
from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.imaging.preprocess import preprocess
from stunet.inference.backends.precision import cpu_computes_bfloat16
from stunet.inference.windows import window_starts
from stunet.labels.ontology import LABELS
from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import PUBLISHED_STRIDES, STUNet
from stunet.weights.model_file import ModelCard, save_model
from stunet.weights.published import PUBLISHED_PLAN

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Part:
    """One part of the training, in which the learning rate falls to 0 along half a cosine wave.

    Attributes:
        size: of its patches, in voxels along each axis.
        rate: learning rate at its start.
        first: its first iteration.
        last: its last iteration plus one.
        save_every: iterations between two checkpoints.
    """

    size: int
    rate: float
    first: int
    last: int
    save_every: int

    def rate_at(self, iteration: int) -> float:
        """The learning rate of an iteration."""
        return self.rate * 0.5 * (1 + math.cos(math.pi * (iteration - self.first) / (self.last - self.first)))


def parts_of(small: int, large: int) -> tuple[Part, Part]:
    """Small patches are fast. Large ones are the windows of prediction, with their instance norm statistics."""
    return Part(64, 1e-3, 0, small, 100), Part(128, 5e-4, small, small + large, 10)


@dataclass(frozen=True)
class Sample:
    """A CT on the network's grid.

    Attributes:
        image: (Z, Y, X) float32.
        labels: (Z, Y, X) int64.
        places: for each label, the indices of its voxels in the flattened array.
    """

    image: torch.Tensor
    labels: torch.Tensor
    places: dict[int, np.ndarray]


def read_sample(folder: Path) -> Sample:
    """The shared CT, preprocessed as for the published weights. Labels use nearest neighbour."""
    image_CZYX, record = preprocess(read_volume(folder / "ct.nii.gz"), PUBLISHED_PLAN)
    z, y, x = (slice(start, stop) for start, stop in record.crop_box)
    labels = torch.from_numpy(read_labels(folder / "labels_stunet104.nii.gz").array[0][z, y, x].astype(np.float32))
    labels = functional.interpolate(labels[None, None], record.network_shape, mode="nearest-exact")[0, 0].long()
    flat = labels.flatten().numpy()
    order = np.argsort(flat, kind="stable")
    values, starts = np.unique(flat[order], return_index=True)
    return Sample(image_CZYX[0], labels, dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True)))


def patches(sample: Sample, size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Random patches (Z, Y, X), each around a voxel of a random label."""
    random = np.random.default_rng(seed)
    while True:
        label = random.choice(list(sample.places))
        centre = np.unravel_index(random.choice(sample.places[label]), sample.image.shape)
        box = tuple(
            slice(start, start + size)
            for start in (
                int(np.clip(at - random.integers(size // 4, 3 * size // 4), 0, length - size))
                for at, length in zip(centre, sample.image.shape, strict=True)
            )
        )
        yield sample.image[box], sample.labels[box]


def windows(sample: Sample, size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The windows (Z, Y, X) of prediction, in a random order, again and again."""
    starts = list(product(*window_starts(sample.image.shape, [size] * 3)))
    random = np.random.default_rng(seed)
    while True:
        for number in random.permutation(len(starts)):
            box = tuple(slice(start, start + size) for start in starts[number])
            yield sample.image[box], sample.labels[box]


def loss_of(logits_BKZYX: torch.Tensor, labels_BZYX: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus one minus the mean soft Dice of the labels present."""
    labels_M = labels_BZYX.flatten()
    logarithms_MK = logits_BKZYX.movedim(1, -1).flatten(0, -2).log_softmax(dim=1)  # faster with contiguous classes
    probabilities_MK = logarithms_MK.exp()
    counts_K = labels_M.bincount(minlength=logits_BKZYX.shape[1])
    right_M = probabilities_MK.gather(1, labels_M[:, None])[:, 0]
    overlap_K = torch.zeros_like(counts_K, dtype=torch.float32).index_add(0, labels_M, right_M)
    dice_K = 2 * overlap_K / (probabilities_MK.sum(dim=0) + counts_K)
    return functional.nll_loss(logarithms_MK, labels_M) + 1 - dice_K[counts_K > 0].mean()


def card_of(network: STUNet, iterations: int) -> ModelCard:
    """The card of the model file."""
    return ModelCard(
        name="fitted to one CT",
        network=network.spec,
        preprocessing=PUBLISHED_PLAN,
        labels=LABELS,
        channels=("CT",),
        training={"iterations": iterations},
    )


def main() -> None:
    """Train, with regular checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data" / "totalseg_example")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", default="small")
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--large-iterations", type=int, default=200)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    network = build(network_spec(asked.size, 1, len(LABELS), strides=PUBLISHED_STRIDES))
    network = network.apply(STUNet.initialize).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    checkpoint, done = asked.output.with_suffix(".checkpoint"), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["iterations"]
    sample = read_sample(asked.data)
    print(f"{len(sample.places) - 1} structures in {tuple(sample.image.shape)} voxels; at iteration {done}", flush=True)
    parts, start = parts_of(asked.iterations, asked.large_iterations), time.perf_counter()
    while done < parts[-1].last:
        part = next(part for part in parts if done < part.last)
        last = min(done + part.save_every, part.last)
        source, losses = (patches if part is parts[0] else windows)(sample, part.size, seed=done), []
        for iteration in range(done, last):
            for group in optimizer.param_groups:
                group["lr"] = part.rate_at(iteration)
            image_ZYX, labels_ZYX = next(source)
            with torch.autocast("cpu", torch.bfloat16, enabled=cpu_computes_bfloat16()):
                logits = network(image_ZYX[None, None])
            loss = loss_of(logits.float(), labels_ZYX[None])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        done = last
        print(
            f"{done} of {parts[-1].last}: loss {np.mean(losses):.3f}, {time.perf_counter() - start:.0f} s", flush=True
        )
        with replacing(checkpoint) as temporary:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "iterations": done}
            torch.save(state, temporary)
        save_model(asked.output, network.state_dict(), card_of(network, done))


if __name__ == "__main__":
    main()

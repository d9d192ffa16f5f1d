"""Do trained networks meet denormal numbers, and do these cost time?

Numbers below 1.2e-38 in size that are not 0 slow a CPU down unless it treats them as 0. For users of FastSurfer 85
minutes became 11 when torch was told to (issue 165 of Deep-MI/FastSurfer). Here the outputs of all layers are searched,
in float32, and a window is timed in each backend with and without that setting.

    python bench/denormals.py --model ct.safetensors|hippocampus [--scan CT.nii.gz] [--windows 3] [--rounds 5]
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable

import torch
from torch import nn

from stunet.imaging.preprocess import prepare
from stunet.imaging.scan import as_volume
from stunet.inference.backends.registry import backend_maker
from stunet.inference.windows import window_starts
from stunet.networks.network import Network
from stunet.weights.model import Model, load_model

SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


def windows_of(model: Model, scan: str, count: int) -> list[torch.Tensor]:
    """Some windows (1, C, Z, Y, X), spread over the scan, and one of nothing but air."""
    image = prepare(as_volume(scan, model.card.channels[0]), model.plan)
    size = model.plan.patch_size
    planes_CZYX = image.planes(0, image.shape[1])
    missing = [max(0, window - have) for window, have in zip(size, planes_CZYX.shape[1:], strict=True)]
    padding = [amount for axis in reversed(missing) for amount in (0, axis)]
    planes_CZYX = nn.functional.pad(planes_CZYX, padding)
    starts = window_starts(planes_CZYX.shape[1:], size)
    found = []
    for number in range(count):
        z, y, x = (axis[number * len(axis) // count] for axis in starts)
        found.append(planes_CZYX[None, :, z : z + size[0], y : y + size[1], x : x + size[2]].clone())
    return [*found, torch.full_like(found[0], float(planes_CZYX.min()))]


def denormals(network: Network, window_BCZYX: torch.Tensor) -> tuple[int, int, Counter[str]]:
    """How many outputs of layers are denormal, of how many; and the count of each layer that has some."""
    found: Counter[str] = Counter()
    total = 0

    def count(name: str) -> Callable[..., None]:
        """A hook for one layer."""

        def hook(_layer: nn.Module, _inputs: object, output: object) -> None:
            """Count the layer's denormal outputs."""
            nonlocal total
            if isinstance(output, torch.Tensor):
                sizes = output.abs()
                found[name] += int(((sizes > 0) & (sizes < SMALLEST_NORMAL)).sum())
                total += output.numel()

        return hook

    layers = [(name, layer) for name, layer in network.named_modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count(name)) for name, layer in layers]
    network(window_BCZYX)
    for hook in hooks:
        hook.remove()
    return sum(found.values()), total, +found


def median_seconds(run: Callable[[torch.Tensor], object], window_BCZYX: torch.Tensor, rounds: int) -> float:
    """Of a window, after one that does not count."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run(window_BCZYX)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


@torch.inference_mode()
def main() -> None:
    """Print the counts, then the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--scan", required=True)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backends", nargs="+", default=["torch", "openvino", "onnx"])
    asked = parser.parse_args()
    model, device = load_model(asked.model), torch.device("cpu")
    windows = windows_of(model, asked.scan, asked.windows)
    small = sum(
        int(((p.abs() > 0) & (p.abs() < SMALLEST_NORMAL)).sum()) for n in model.networks for p in n.parameters()
    )
    print(f"denormal weights: {small}")
    for number, window in enumerate(windows):
        count, total, layers = denormals(model.networks[0], window)
        what = "air alone" if number == len(windows) - 1 else f"window {number}"
        print(f"{what}: {count} of {total} outputs are denormal {dict(layers.most_common(3))}", flush=True)
    print("\n| backend | window, s | of air, s | window, denormals as 0, s | of air, s |\n|---|---|---|---|---|")
    for name in asked.backends:
        backend = backend_maker(name, device, False, model.networks)[1](
            model.networks, device, "float32", model.plan.patch_size
        )
        seconds = []
        for as_zero in (False, True):
            torch.set_flush_denormal(as_zero)
            seconds += [median_seconds(backend.run, each, asked.rounds) for each in (windows[0], windows[-1])]
        torch.set_flush_denormal(False)
        print(f"| {name} | {' | '.join(f'{each:.3f}' for each in seconds)} |", flush=True)


if __name__ == "__main__":
    main()

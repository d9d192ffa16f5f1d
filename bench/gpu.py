"""Compare stunet's predictor in several sizes and precisions with nnU-Net's, on one CT and one GPU.

Both get the same file and the same network with random weights (which do not affect time and memory), and write labels.
nnU-Net computes in float16, as always on GPUs. Neither mirrors. Each system runs in its own process, which loads the
model before timing starts: the first prediction is cold, the second warm. The stage columns are for the warm one.
Memory is the maximum that torch allocated on the GPU, including weights. The last column is nnU-Net's seconds (warm)
divided by the system's.

    python bench/gpu.py [--sizes small base large huge] [--precisions float16 bfloat16] [--slices 224] [--no-nnunet]

The same code runs on a CPU with a small network, to try it: --device cpu --sizes tiny --slices 40 --classes 5
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from agreement import write_nnunet_folder
from inference import CASE, CLASSES, SHAPE, SPACING
from inference_memory import random_model
from make_ct import make_ct
from scaling import STAGES, in_fresh_process

from stunet.errors import UserError
from stunet.inference.backends.names import PRECISIONS, Precision
from stunet.inference.backends.torch_backend import torch_device
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.networks.stunet import SIZES

DEFAULT_PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "cuda": ("float16", "bfloat16"),
    "cpu": ("float32", "bfloat16"),
}
"""By device."""


@dataclass(frozen=True)
class Setting:
    """What to run.

    Attributes:
        device: "cuda" or "cpu".
        size: of the STU-Net.
        classes: including background.
        scan: a file.
        step: between windows, as a fraction of the window.
        batch_size: windows per batch; None for as many as fit. Only for stunet.
    """

    device: str
    size: str
    classes: int
    scan: Path
    step: float
    batch_size: int | None


@dataclass(frozen=True)
class Run:
    """The measurements of one system.

    Attributes:
        system: its name.
        cold: seconds of the first prediction, from file to file.
        warm: seconds of the second.
        stages: seconds of the second by stage, if known.
        peak_bytes: of GPU memory; 0 on a CPU.
    """

    system: str
    cold: float
    warm: float
    stages: dict[str, float]
    peak_bytes: int


class PeakMemory:
    """The peak of torch's GPU memory.

    The predictor resets torch's own counter to measure its first window. This class keeps the earlier peak.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._before_resets = 0
        self._reset = torch.cuda.reset_peak_memory_stats

    @property
    def bytes(self) -> int:
        """Peak so far; 0 on a CPU."""
        if self._device.type != "cuda":
            return 0
        return max(self._before_resets, torch.cuda.max_memory_allocated(self._device))

    def reset(self, device: torch.device | None = None) -> None:
        """Replaces `torch.cuda.reset_peak_memory_stats`."""
        self._before_resets = self.bytes
        self._reset(device)


def stunet_run(setting: Setting, precision: Precision) -> Run:
    """Both predictions with stunet, in this process."""
    config = InferenceConfig(
        step=setting.step,
        device=setting.device,
        backend="torch",
        precision=precision,
        batch_size=setting.batch_size,
    )
    predictor = Predictor(random_model(setting.classes, setting.size), config)

    def predict(folder: Path) -> dict[str, float]:
        segmentation = predictor.predict(setting.scan)
        start = time.perf_counter()
        segmentation.save(folder / f"{CASE}.nii.gz")
        return {**asdict(segmentation.timings), "save": time.perf_counter() - start}

    return both_predictions(f"stunet {precision}", predict, predictor.backend.device)


def nnunet_run(setting: Setting) -> Run:
    """Both predictions with nnU-Net, in this process."""
    device = torch_device(setting.device)
    with tempfile.TemporaryDirectory() as temporary, redirect_stdout(sys.stderr):
        for name in ("raw", "preprocessed", "results"):
            os.environ.setdefault(f"nnUNet_{name}", temporary)
        predictor = nnunet_predictor(setting, device, Path(temporary) / "model")

        def predict(folder: Path) -> dict[str, float]:
            reader = predictor.plans_manager.image_reader_writer_class()
            image_CZYX, properties = reader.read_images([str(setting.scan)])
            predictor.predict_single_npy_array(image_CZYX, properties, None, str(folder / CASE))
            return {}

        return both_predictions("nnU-Net", predict, device)


def nnunet_predictor(setting: Setting, device: torch.device, folder: Path) -> Any:
    """nnU-Net's predictor with our network. Its plans are written to the folder and read from there."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    model = random_model(setting.classes, setting.size)
    network = model.networks[0].to(device)
    write_nnunet_folder(folder, {}, model.card)
    plans = PlansManager(str(folder / "plans.json"))
    dataset = json.loads((folder / "dataset.json").read_text())
    predictor = nnUNetPredictor(
        tile_step_size=setting.step,
        use_mirroring=False,
        perform_everything_on_device=device.type == "cuda",
        device=device,
    )
    configuration = plans.get_configuration("3d_fullres")
    weights = [network.state_dict()]
    predictor.manual_initialization(network, plans, configuration, weights, dataset, "STUNetTrainer", None)
    return predictor


def both_predictions(system: str, predict: Callable[[Path], dict[str, float]], device: torch.device) -> Run:
    """Time a cold and a warm prediction.

    Args:
        system: its name.
        predict: segments, writes labels into a folder, and returns the seconds of its stages.
        device: whose memory is measured.
    """
    peak = PeakMemory(device)

    def timed(folder: str) -> tuple[float, dict[str, float]]:
        start = time.perf_counter()
        stages = predict(Path(folder))
        return time.perf_counter() - start, stages

    with (
        mock.patch("torch.cuda.reset_peak_memory_stats", peak.reset),
        tempfile.TemporaryDirectory() as folder,
    ):
        cold, _ = timed(folder)
        warm, stages = timed(folder)
    return Run(system, cold, warm, stages, peak.bytes)


def attempted(system: str, run: Callable[..., Run], *arguments: Any) -> Run | str:
    """Run in a separate process. Returns the run, or the name of the error if it fails, usually out of memory."""
    print(f"{system} ...", file=sys.stderr, flush=True)
    try:
        return in_fresh_process(run, *arguments)
    except (torch.OutOfMemoryError, UserError, BrokenProcessPool) as error:
        print(error, file=sys.stderr)
        return f"{system}: {type(error).__name__}"


def row(size: str, run: Run | str, reference: Run | str | None) -> str:
    """One row of the table. A string is a failed run."""
    if isinstance(run, str):
        return f"| {size} | {run} |" + " - |" * (len(STAGES) + 4)
    stages = " | ".join(f"{run.stages[stage]:.1f}" if stage in run.stages else "-" for stage in STAGES)
    memory = f"{run.peak_bytes / 2**30:.2f}" if run.peak_bytes else "-"
    ratio = f"{reference.warm / run.warm:.1f}" if isinstance(reference, Run) else "-"
    return f"| {size} | {run.system} | {run.cold:.1f} | {run.warm:.1f} | {stages} | {memory} | {ratio} |"


def machine(device: torch.device) -> str:
    """The GPU and its software versions."""
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}"
    if device.type != "cuda":
        return f"CPU, {torch.get_num_threads()} threads, {versions}"
    return f"{torch.cuda.get_device_name(device)}, {versions}, cuDNN {torch.backends.cudnn.version()}"


def parsed_arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small", "base", "large", "huge"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="float16 and bfloat16 by default")
    parser.add_argument("--slices", type=int, default=SHAPE[2])
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--step", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, help="windows per batch; as many as fit by default")
    parser.add_argument("--device", choices=list(DEFAULT_PRECISIONS), default="cuda")
    parser.add_argument("--no-nnunet", action="store_true")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "stunet-bench")
    return parser.parse_args()


def main() -> None:
    """Run everything. Rows are printed as soon as they are measured."""
    options = parsed_arguments()
    try:
        device = torch_device(options.device)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    shape = (*SHAPE[:2], options.slices)
    shape_text = "x".join(map(str, shape))
    scan = make_ct(options.cache / "images" / f"{CASE}_{shape_text}.nii.gz", shape, SPACING)
    print(f"CT of {shape_text} voxels, {options.classes} classes, step {options.step}, no mirroring")
    print(f"{machine(device)}\n")
    print(f"| size | system | cold s | warm s | {' | '.join(STAGES)} | peak GPU GiB | times faster than nnU-Net |")
    print("|---" * (len(STAGES) + 6) + "|", flush=True)
    for size in options.sizes:
        setting = Setting(options.device, size, options.classes, scan, options.step, options.batch_size)
        reference = None
        if not options.no_nnunet:
            reference = attempted("nnU-Net", nnunet_run, setting)
            print(row(size, reference, reference), flush=True)
        for precision in options.precisions or DEFAULT_PRECISIONS[options.device]:
            run = attempted(f"stunet {precision}", stunet_run, setting, precision)
            print(row(size, run, reference), flush=True)


if __name__ == "__main__":
    main()

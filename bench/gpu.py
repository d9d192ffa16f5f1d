"""One CT on one GPU: stunet's predictor in several sizes and precisions against nnU-Net's, in one run.

Both are given the same file and the same network with random weights (time and memory do not depend on them), and write
labels; nnU-Net computes in float16, as it always does on GPUs, and neither mirrors. Each system runs in a process of
its own, in which the model is loaded before the clock starts: the first prediction is cold, the second warm. The
columns of stages are of the warm one. Memory is what torch allocated on the GPU at most, weights included. The last
column is nnU-Net's seconds (warm) over the system's.

    python bench/gpu.py [--sizes small base large huge] [--precisions float16 bfloat16] [--slices 224] [--no-nnunet]

The same road runs on a CPU with a small network, to try it: --device cpu --sizes tiny --slices 40 --classes 5
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
from stunet.inference.backends.precision import PRECISIONS, Precision
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
    """What runs.

    Attributes:
        device: "cuda" or "cpu".
        size: of the STU-Net.
        classes: background included.
        scan: a file.
        step: between windows, as a fraction of the window.
        batch_size: windows that go together; None for as many as fit. stunet's only.
    """

    device: str
    size: str
    classes: int
    scan: Path
    step: float
    batch_size: int | None


@dataclass(frozen=True)
class Run:
    """What the predictions of one system took.

    Attributes:
        system: its name.
        cold: seconds of the first prediction, from file to file.
        warm: seconds of the second.
        stages: seconds of the second by stage, if they are known.
        peak_bytes: of GPU memory; 0 on a CPU.
    """

    system: str
    cold: float
    warm: float
    stages: dict[str, float]
    peak_bytes: int


class PeakMemory:
    """The most memory that torch ever allocated on a GPU.

    The predictor resets torch's own count to measure its first window; what was counted until then is kept here.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._before_resets = 0
        self._reset = torch.cuda.reset_peak_memory_stats

    @property
    def bytes(self) -> int:
        """Until now; 0 on a CPU."""
        if self._device.type != "cuda":
            return 0
        return max(self._before_resets, torch.cuda.max_memory_allocated(self._device))

    def reset(self, device: torch.device | None = None) -> None:
        """In the place of `torch.cuda.reset_peak_memory_stats`."""
        self._before_resets = self.bytes
        self._reset(device)


def stunet_run(setting: Setting, precision: Precision) -> Run:
    """Both predictions by stunet, in this process."""
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
    """Both predictions by nnU-Net, in this process."""
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
    """nnU-Net's predictor with our network; its plans are written into the folder and read from there."""
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
        predict: segments, writes labels into a folder, and gives the seconds of its stages.
        device: whose memory is watched.
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
    """The run in a process of its own, or the name of what made it fail, for want of memory above all."""
    print(f"{system} ...", file=sys.stderr, flush=True)
    try:
        return in_fresh_process(run, *arguments)
    except (torch.OutOfMemoryError, UserError, BrokenProcessPool) as error:
        print(error, file=sys.stderr)
        return f"{system}: {type(error).__name__}"


def row(size: str, run: Run | str, reference: Run | str | None) -> str:
    """One line of the table; a string stands for a run that failed."""
    if isinstance(run, str):
        return f"| {size} | {run} |" + " - |" * (len(STAGES) + 4)
    stages = " | ".join(f"{run.stages[stage]:.1f}" if stage in run.stages else "-" for stage in STAGES)
    memory = f"{run.peak_bytes / 2**30:.2f}" if run.peak_bytes else "-"
    ratio = f"{reference.warm / run.warm:.1f}" if isinstance(reference, Run) else "-"
    return f"| {size} | {run.system} | {run.cold:.1f} | {run.warm:.1f} | {stages} | {memory} | {ratio} |"


def machine(device: torch.device) -> str:
    """The GPU and what drives it."""
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
    parser.add_argument("--batch-size", type=int, help="windows that go together; as many as fit by default")
    parser.add_argument("--device", choices=list(DEFAULT_PRECISIONS), default="cuda")
    parser.add_argument("--no-nnunet", action="store_true")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "stunet-bench")
    return parser.parse_args()


def main() -> None:
    """Run all of it; the rows are printed as they come."""
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

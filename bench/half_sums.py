"""How many labels depend on nnU-Net's half-precision sums: plain nnU-Net, nnU-Net with float32 sums, and stunet.

nnU-Net adds up the logits of overlapping windows in float16. The same network and code with float32 sums show which
labels depend on that. A program with exact sums cannot agree with nnU-Net better than this.

If the network's grid has the scan's number and distance of planes, nnU-Net's own function converts logits to labels a
few planes at a time. So the case of `bench/inference.py` fits into 24 GB even with float32 sums.

    PYTHONPATH=. python bench/half_sums.py --model ct.safetensors [--scan CT.nii.gz] [--threads 2]
"""

import argparse
import os
import tempfile
from functools import partial
from itertools import combinations
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from agreement import write_nnunet_folder

from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.training.environment import TRAINER_FOLDER
from stunet.weights.model import load_model
from tests.training.torchvision_operators import declare_if_missing

declare_if_missing()

from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO  # noqa: E402
from nnunetv2.inference import predict_from_raw_data  # noqa: E402
from nnunetv2.inference.data_iterators import PreprocessAdapterFromNpy  # noqa: E402
from nnunetv2.inference.export_prediction import (  # noqa: E402
    convert_predicted_logits_to_segmentation_with_correct_shape as labels_of_logits,
)

REPOSITORY = Path(__file__).resolve().parents[1]
PLANES = 32
"""Number of planes whose logits are interpolated together."""


def labels_by_nnunet(folder: Path, scan: Path) -> np.ndarray:
    """Labels (Z, Y, X) of nnU-Net's own predictor, without mirroring."""
    predictor = predict_from_raw_data.nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu")
    )
    predictor.initialize_from_trained_model_folder(str(folder), (0,), "checkpoint_final.pth")
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    image_CZYX, properties = SimpleITKIO().read_images([str(scan)])
    prepared = next(
        PreprocessAdapterFromNpy(
            [image_CZYX], [None], [properties], [None], plans, predictor.dataset_json, configuration, 1
        )
    )
    logits_KZYX = predictor.predict_logits_from_preprocessed_data(prepared["data"]).cpu()
    parts = parts_of(logits_KZYX, prepared["data_properties"])
    return np.concatenate(
        [np.asarray(labels_of_logits(part, plans, configuration, predictor.label_manager, to)) for part, to in parts]
    )


def parts_of(logits_KZYX: torch.Tensor, properties: dict) -> list[tuple[torch.Tensor, dict]]:
    """A few planes at a time, with nnU-Net's properties of them; all at once if their number changes."""
    before = tuple(properties["shape_before_cropping"])
    if before != tuple(properties["shape_after_cropping_and_before_resampling"]) or before[0] != logits_KZYX.shape[1]:
        return [(logits_KZYX, properties)]
    parts = []
    for part in logits_KZYX.split(PLANES, dim=1):
        shape = (part.shape[1], *before[1:])
        named = ("shape_before_cropping", "shape_after_cropping_and_before_resampling")
        box = {"bbox_used_for_cropping": [[0, size] for size in shape]}
        parts.append((part, {**properties, **dict.fromkeys(named, shape), **box}))
    return parts


def labels_by_nnunet_in_float32(folder: Path, scan: Path) -> np.ndarray:
    """The same, with the sums and their weights in float32."""
    gaussian = partial(predict_from_raw_data.compute_gaussian, dtype=torch.float32)
    with (
        mock.patch.object(torch, "half", torch.float32),
        mock.patch.object(predict_from_raw_data, "compute_gaussian", gaussian),
    ):
        return labels_by_nnunet(folder, scan)


def main() -> None:
    """Predict three times and compare all pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--scan", type=Path, default=shared / "data" / "totalseg_example" / "ct.nii.gz")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    os.environ["nnUNet_extTrainer"] = str(TRAINER_FOLDER)
    model = load_model(asked.model)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        write_nnunet_folder(folder, model.networks[0].state_dict(), model.card)
        exact = InferenceConfig(device="cpu", backend="torch", precision="float32")
        labels = {
            "nnU-Net": labels_by_nnunet(folder, asked.scan),
            "nnU-Net, sums in float32": labels_by_nnunet_in_float32(folder, asked.scan),
            "stunet, float32": Predictor(load_model(folder), exact).predict(asked.scan).labels,
        }
    print("| labels of | against | voxels | differing | equal |")
    print("|---|---|---|---|---|")
    for one, other in combinations(labels, 2):
        differing = int((labels[one] != labels[other]).sum())
        size = labels[one].size
        print(f"| {one} | {other} | {size} | {differing} | {1 - differing / size:.6f} |")


if __name__ == "__main__":
    main()

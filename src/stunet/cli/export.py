"""`stunet export`: export a model to ONNX or OpenVINO with a card that describes its use, or as a MONAI bundle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stunet.cli.command import Options
from stunet.cli.output import print_result


@dataclass
class Export(Options):
    """Export a model to ONNX or OpenVINO, with a card (JSON) of pre- and postprocessing, or as a MONAI bundle.

    Examples: stunet export -m hippocampus --to onnx -o hippocampus.onnx
              stunet export -m hippocampus --to monai-bundle -o hippocampus_bundle
    """

    model: Annotated[str, tyro.conf.arg(aliases=["-m"], metavar="MODEL")]
    """Model name, a .safetensors or .model file, or a model folder of nnU-Net v2."""
    to: Literal["onnx", "openvino", "monai-bundle"]
    """Format of the file, or a bundle that `python -m monai.bundle run` executes."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write: .onnx, or .xml for OpenVINO (its weights go into a .bin file next to it). For a bundle, a new
    folder."""
    folds: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["-f"], metavar="FOLD...")] = ()
    """Folds of a model folder to average. Default: all trained folds."""

    def run(self) -> int:
        """Write and test the file, and print the result."""
        from stunet.inference.bundle import export_bundle, require_empty
        from stunet.inference.export import export_model, require_path
        from stunet.weights.model import load_model

        folds = [int(fold) if fold.isdigit() else fold for fold in self.folds] or None
        if self.to == "monai-bundle":
            require_empty(self.output)
            exported = export_bundle(load_model(self.model, folds), self.output)
        else:
            require_path(self.output, self.to)
            exported = export_model(load_model(self.model, folds), self.to, self.output)
        files = [*exported.files, exported.card]
        result = {"files": [str(file) for file in files], "largest_difference": exported.difference}
        rows = [(str(file), f"{file.stat().st_size / 1e6:.2f}") for file in files]
        title = f"Its logits differ from torch's by {exported.difference:.1e} standard deviations at most"
        print_result(result, self.json, title, ("file", "MB"), rows)
        return 0

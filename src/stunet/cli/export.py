"""`stunet export`: a model becomes a file for ONNX Runtime or OpenVINO, with a card that says how to use it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stunet.cli.command import Options
from stunet.cli.output import print_result


@dataclass
class Export(Options):
    """Export a model to ONNX or OpenVINO, with a card (JSON) that describes pre- and postprocessing.

    Example: stunet export -m hippocampus --to onnx -o hippocampus.onnx
    """

    model: Annotated[str, tyro.conf.arg(aliases=["-m"], metavar="MODEL")]
    """Model name, a .safetensors or .model file, or a model folder of nnU-Net v2."""
    to: Literal["onnx", "openvino"]
    """Format of the file."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The file to write: .onnx, or .xml for OpenVINO (its weights go to a .bin beside it)."""
    folds: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["-f"], metavar="FOLD...")] = ()
    """Folds of a model folder to average. Default: all trained folds."""

    def run(self) -> int:
        """Write, try out, and tell what was written."""
        from stunet.inference.export import export_model, require_path
        from stunet.weights.model import load_model

        require_path(self.output, self.to)
        folds = [int(fold) if fold.isdigit() else fold for fold in self.folds] or None
        exported = export_model(load_model(self.model, folds), self.to, self.output)
        files = [*exported.files, exported.card]
        result = {"files": [str(file) for file in files], "largest_difference": exported.difference}
        rows = [(str(file), f"{file.stat().st_size / 1e6:.2f}") for file in files]
        title = f"Its logits differ from torch's by {exported.difference:.1e} standard deviations at most"
        print_result(result, self.json, title, ("file", "MB"), rows)
        return 0

"""`stunet weights`: get, import, export, list, verify and remove model files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Union, cast

import tyro

from stunet.cli.command import Options
from stunet.cli.output import Switch, print_result, print_sentence, print_summary

if TYPE_CHECKING:
    from stunet.plans.preprocessing import PreprocessingPlan


@dataclass
class Get(Options):
    """Download a model for later predictions.

    Example: stunet weights get base
    """

    name: Annotated[str, tyro.conf.Positional]
    """Name of a model (see `stunet models`)."""

    def run(self) -> int:
        """Download, check, import."""
        from stunet.weights.model_store import get_model

        path = get_model(self.name)
        print_sentence({"name": self.name, "path": str(path)}, self.json, f"{self.name} is here: {path}")
        return 0


@dataclass
class Import(Options):
    """Convert a checkpoint or a model folder of nnU-Net into one .safetensors file.

    Example: stunet weights import base_ep4k.model -o base.safetensors
    """

    source: Annotated[Path, tyro.conf.Positional]
    """A .model or .pth file, or a model folder of nnU-Net v2."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The .safetensors file to write."""
    plans: Path | None = None
    """nnU-Net's plans: the .pkl next to a v1 .model, or v2's plans.json. Not needed for the published weights."""
    strides: tuple[tuple[int, int, int], ...] | None = None
    """Strides of the five downsampling steps, for example 2 2 2 2 2 2 2 2 2 2 2 2 1 1 2."""
    folds: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["-f", "--fold"], metavar="FOLD...")] = ()
    """Folds of a model folder. Several become one model that averages them. Default: 0."""
    float16: Switch = False
    """Store the weights in half precision. The file is half as large."""

    def run(self) -> int:
        """Read without running any code from the file, then write."""
        from stunet.files import require_output
        from stunet.networks.registry import size_of
        from stunet.weights.import_model import import_model
        from stunet.weights.model_file import save_model

        require_output(self.output)
        state_dict, card = import_model(self.source, plans=self.plans, strides=self.strides, folds=self.folds)
        save_model(self.output, state_dict, card, "float16" if self.float16 else None)
        plan, strides = cast("PreprocessingPlan", card.preprocessing), card.network.arguments.get("strides")
        summary = {
            "name": card.name,
            "size": size_of(card.network),
            "networks": card.members,
            "classes": card.network.num_classes,
            "channels": list(card.channels),
            "strides": strides and [list(stride) for stride in strides],
            "spacing_mm": list(plan.spacing),
            "patch": list(plan.patch_size),
            "output": str(self.output),
            "bytes": self.output.stat().st_size,
        }
        print_summary(f"Imported {self.source.name}", summary, self.json)
        return 0


@dataclass
class Export(Options):
    """Write a .pth file for nnUNetv2_train -pretrained_weights. (`stunet train --from` does not need it.)

    Example: stunet weights export -m base -o base.pth --channels 2
    """

    model: Annotated[str, tyro.conf.arg(aliases=["-m"], metavar="MODEL")]
    """Model name, a .safetensors, .model or .pth file, or a model folder of nnU-Net v2."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The .pth file to write."""
    channels: int | None = None
    """Input channels of your dataset. The first layer is repeated for them."""
    divide_channels: Switch = False
    """Divide the repeated weights by the number of channels."""

    def run(self) -> int:
        """Read without running any code from the file, adapt the channels, write."""
        from stunet.networks.registry import size_of
        from stunet.weights.model import read_pretrained
        from stunet.weights.nnunet_file import require_nnunet_path, save_for_nnunet
        from stunet.weights.transfer import with_channels

        require_nnunet_path(self.output)
        state_dict, card = read_pretrained(self.model)
        channels = len(card.channels) if self.channels is None else self.channels
        save_for_nnunet(self.output, with_channels(state_dict, card, channels, self.divide_channels))
        summary = {
            "name": card.name,
            "size": size_of(card.network),
            "channels": channels,
            "output": str(self.output),
            "bytes": self.output.stat().st_size,
            "next": f"{_nnunet_command(size_of(card.network))} -pretrained_weights {self.output}",
        }
        print_summary(f"Exported {self.model}", summary, self.json)
        return 0


def _nnunet_command(size: str) -> str:
    """The nnU-Net command that fine-tunes a size. A network without a named size needs its own plans."""
    from stunet.networks.stunet import SIZES

    trainer, plans = (
        (f"STUNetTrainer_{size}_ft", f"STUNetPlans_{size}") if size in SIZES else ("STUNetTrainer_ft", "PLANS")
    )
    return f"nnUNetv2_train DATASET 3d_fullres FOLD -tr {trainer} -p {plans}"


@dataclass
class List(Options):
    """List the models on this machine."""

    def run(self) -> int:
        """List the models folder."""
        from stunet.weights.model_store import stored_models

        models = stored_models()
        result = [{"name": m.entry.name, "path": str(m.path), "bytes": m.bytes} for m in models]
        rows = [(m.entry.name, f"{m.bytes / 1e6:.0f} MB", str(m.path)) for m in models]
        print_result(result, self.json, "Models on this machine", ("name", "size", "path"), rows)
        return 0


@dataclass
class Verify(Options):
    """Check that a model file is complete and unchanged."""

    name: Annotated[str, tyro.conf.Positional]
    """Name of a model (see `stunet weights list`)."""

    def run(self) -> int:
        """Compute and compare the hash."""
        from stunet.weights.model_store import verify_model

        model = verify_model(self.name)
        result = {"name": self.name, "path": str(model.path), "bytes": model.bytes, "sha256": model.sha256}
        print_sentence(result, self.json, f"{self.name} is complete and unchanged: {model.path}")
        return 0


@dataclass
class Remove(Options):
    """Delete a downloaded model."""

    name: Annotated[str, tyro.conf.Positional]
    """Name of a model (see `stunet weights list`)."""

    def run(self) -> int:
        """Delete the file but keep the record of its hash."""
        from stunet.weights.model_store import remove_model

        path = remove_model(self.name)
        print_sentence({"name": self.name, "removed": str(path)}, self.json, f"Removed {path}")
        return 0


Action = Union[  # noqa: UP007 (tyro reads the annotations)
    Annotated[Get, tyro.conf.subcommand("get")],
    Annotated[Import, tyro.conf.subcommand("import")],
    Annotated[Export, tyro.conf.subcommand("export")],
    Annotated[List, tyro.conf.subcommand("list")],
    Annotated[Verify, tyro.conf.subcommand("verify")],
    Annotated[Remove, tyro.conf.subcommand("remove")],
]


@dataclass
class Weights:
    """Get, import, export, list, verify and remove model files."""

    action: Action

    def run(self) -> int:
        """Run the chosen action."""
        return self.action.run()

"""`stunet models`: the sizes and their cost, and the models available by name."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import tyro

from stunet.cli.command import Options
from stunet.cli.output import Switch, print_json, print_table, progress_bar


@dataclass
class Models(Options):
    """List networks and trained models, or what fits into a given memory.

    Examples: stunet models base --patch 128 128 128
              stunet models --fit 24GB
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Show only this size or network. Default: all sizes."""
    systems: Switch = False
    """Also show the networks that the paper compares with, and its variants of STU-Net."""
    patch: tuple[int, int, int] = (128, 128, 128)
    """Patch size in voxels. The default is the paper's."""
    channels: int = 1
    """Number of input channels."""
    classes: int = 105
    """Number of classes, with background. The default is the paper's."""
    fit: str | None = None
    """Show what can be trained and predicted in this memory, such as 24GB."""
    precision: Literal["bfloat16", "float32"] | None = None
    """With --fit: the precision of the network. float16 needs as much as bfloat16, the default."""

    def run(self) -> int:
        """Count without allocating memory, and print."""
        from stunet.errors import UserError

        if self.systems and (self.name is not None or self.fit is not None):
            raise UserError("--systems lists all networks: leave the name and --fit out.")
        if self.fit is not None:
            return self._run_fit(self.fit)
        if self.precision is not None:
            raise UserError("--precision is for --fit: the other numbers do not depend on it.")
        return self._run_costs()

    def _run_fit(self, memory: str) -> int:
        from stunet.cli.fit import Question, parse_memory, prediction_rows, print_fit, training_rows

        precision = self.precision or "bfloat16"
        asked = Question(parse_memory(memory), self._names(), self.patch, self.channels, self.classes, precision)
        with progress_bar("counting"):
            training, prediction = training_rows(asked), prediction_rows(asked)
        if self.json:
            print_json({**asdict(asked), "training": training, "prediction": prediction})
        else:
            print_fit(asked, training, prediction)
        return 0

    def _run_costs(self) -> int:
        from stunet.weights.catalogue import CATALOGUE

        sizes = [self._cost(name) for name in self._networks()]
        catalogue = [
            {
                "name": entry.name,
                "size": entry.size,
                "task": entry.task,
                "licence": entry.licence,
                "source": entry.repository or "comes with stunet",
                "here": entry.is_here,
            }
            for entry in CATALOGUE.values()
        ]
        if self.json:
            print_json({"patch": list(self.patch), "classes": self.classes, "sizes": sizes, "catalogue": catalogue})
        else:
            self._print(sizes, catalogue)
        return 0

    def _networks(self) -> list[str]:
        from stunet.networks.registry import NETWORKS, find_network

        if self.name is not None:
            find_network(self.name)
            return [self.name]
        return list(NETWORKS) if self.systems else self._names()

    def _names(self) -> list[str]:
        from stunet.errors import UnknownNameError
        from stunet.networks.stunet import SIZES

        if self.name is not None and self.name not in SIZES:
            raise UnknownNameError.of("size", self.name, SIZES)
        return [self.name] if self.name else list(SIZES)

    def _cost(self, name: str) -> dict[str, Any]:
        from stunet.errors import UserError
        from stunet.networks.cost import cost_of
        from stunet.networks.registry import find_network

        entry = find_network(name)
        try:
            cost = cost_of(name, self.channels, self.classes, self.patch)
        except ValueError as error:
            raise UserError(f"{error}. Each number of --patch must be a multiple of 32, and 64 at least.") from error
        return {
            "name": name,
            "title": entry.title,
            "width": entry.arguments.get("width"),
            "depth": entry.arguments.get("depth"),
            "parameters_million": round(cost.parameters / 1e6, 2),
            "mult_adds_tera": round(cost.torchinfo_mult_adds / 1e12, 2),
            "macs_tera": round(cost.macs / 1e12, 4),
            "inference_macs_tera": round(cost.inference_macs / 1e12, 4),
        }

    def _print(self, sizes: list[dict[str, Any]], catalogue: list[dict[str, Any]]) -> None:
        patch = "x".join(map(str, self.patch))
        print_table(
            f"Networks with {self.channels} input channel(s), {self.classes} classes, for a patch of {patch}",
            ("name", "", "parameters, M", "MACs, T", "at inference, T", "torchinfo mult-adds, T"),
            [
                (
                    row["name"],
                    row["title"],
                    f"{row['parameters_million']:.2f}",
                    f"{row['macs_tera']:.3f}",
                    f"{row['inference_macs_tera']:.3f}",
                    f"{row['mult_adds_tera']:.2f}",
                )
                for row in sizes
            ],
        )
        if self.name is None:
            rows = [(r["name"], r["task"], r["licence"], r["source"], "yes" if r["here"] else "") for r in catalogue]
            print_table("Trained models", ("name", "segments", "licence", "from", "here"), rows)

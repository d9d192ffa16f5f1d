"""`stunet models`: the sizes and what they cost, and the models that can be had by name."""

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from stunet.cli.output import Json, print_json, print_table


@dataclass
class Models:
    """Show sizes, parameters and cost, and the catalogue of trained models.

    Example: stunet models base --patch 128 128 128
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    """One size; all of them by default."""
    patch: tuple[int, int, int] = (128, 128, 128)
    """Patch in voxels (Z, Y, X); the paper's tables hold for the default."""
    channels: int = 1
    """Input channels."""
    classes: int = 105
    """Classes, background included; the paper's tables hold for the default."""
    json: Json = False
    """Print JSON."""

    def run(self) -> int:
        """Count on the meta device and print."""
        from stunet.weights.catalogue import CATALOGUE, list_models

        sizes = [self._cost(name) for name in self._names()]
        stored = {model.entry.name for model in list_models()}
        catalogue = [
            {
                "name": entry.name,
                "size": entry.size,
                "task": entry.task,
                "licence": entry.licence,
                "source": entry.repository or "comes with stunet",
                "here": entry.name in stored,
            }
            for entry in CATALOGUE.values()
        ]
        if self.json:
            print_json({"patch": list(self.patch), "classes": self.classes, "sizes": sizes, "catalogue": catalogue})
        else:
            self._print(sizes, catalogue)
        return 0

    def _names(self) -> list[str]:
        from stunet.errors import UserError
        from stunet.networks.stunet import SIZES

        if self.name is not None and self.name not in SIZES:
            raise UserError(f"There is no size {self.name!r}. Known are: {', '.join(SIZES)}.")
        return [self.name] if self.name else list(SIZES)

    def _cost(self, name: str) -> dict[str, Any]:
        from stunet.errors import UserError
        from stunet.networks.cost import network_cost
        from stunet.networks.stunet import SIZES, STUNetConfig

        size = SIZES[name]
        try:
            cost = network_cost(STUNetConfig(self.channels, self.classes, size.width, size.depth), self.patch)
        except ValueError as error:
            raise UserError(f"{error}. Each number of --patch must be a multiple of 32, and 64 at least.") from error
        return {
            "name": name,
            "width": size.width,
            "depth": size.depth,
            "parameters_million": round(cost.parameters / 1e6, 2),
            "mult_adds_tera": round(cost.torchinfo_mult_adds / 1e12, 2),
            "macs_tera": round(cost.macs / 1e12, 4),
            "inference_macs_tera": round(cost.inference_macs / 1e12, 4),
        }

    def _print(self, sizes: list[dict[str, Any]], catalogue: list[dict[str, Any]]) -> None:
        patch = "x".join(map(str, self.patch))
        print_table(
            f"STU-Nets with {self.channels} input channel(s), {self.classes} classes, for a patch of {patch}",
            ("size", "width", "depth", "parameters, M", "MACs, T", "at inference, T", "torchinfo mult-adds, T"),
            [
                (
                    row["name"],
                    str(row["width"]),
                    str(row["depth"]),
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

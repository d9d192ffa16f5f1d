"""Describe a network by plain values, as model files, nnU-Net's plans and the registry do.

This file does not use torch. `stunet.networks.registry.build` builds the network.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Stride = tuple[int, int, int]
"""Stride of a stage (Z, Y, X)."""

CLASSES: dict[str, str] = {
    "stunet": "stunet.networks.stunet.STUNet",
    "nnunet": "stunet.networks.nnunet.NNUNet",
    "unet3d": "stunet.networks.unet3d.UNet3D",
    "unetr": "stunet.networks.unetr.UNETR",
    "swin_unetr": "stunet.networks.swin_unetr.SwinUNETR",
    "nnformer": "stunet.networks.nnformer.NNFormer",
}
"""The class of each kind of network. Model files name the kind; nnU-Net's plans name the class."""

LAYER_COUNTS = ("depth", "depths", "stages")
"""Arguments that count layers."""


@dataclass(frozen=True)
class NetworkSpec:
    """Everything needed to build a network.

    Attributes:
        kind: a key of `CLASSES`; no other class is ever looked up.
        input_channels: channels of the image.
        num_classes: classes, background included.
        arguments: arguments of the network's class: numbers, text, None, and lists of these (stored as tuples).

    Raises:
        ValueError: the kind is unknown, there is no channel or class, or an argument has another type.
    """

    kind: str
    input_channels: int
    num_classes: int
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in CLASSES:
            raise ValueError(f"its network is {self.kind!r}, and this stunet knows {', '.join(CLASSES)}")
        if min(self.input_channels, self.num_classes) < 1:
            raise ValueError(f"channels and classes must be 1 or more, not {self.input_channels}, {self.num_classes}")
        object.__setattr__(self, "arguments", {name: _plain(value) for name, value in self.arguments.items()})

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def with_arguments(self, **arguments: Any) -> "NetworkSpec":
        """The same network with other values for these arguments."""
        return NetworkSpec(self.kind, self.input_channels, self.num_classes, {**self.arguments, **arguments})

    @property
    def least_tensors(self) -> int:
        """A lower bound on the number of tensors. A file with fewer is refused without building the network."""
        counts = [value for name in LAYER_COUNTS for value in _numbers_in(self.arguments.get(name))]
        return max(0, sum(counts), *(len(value) for value in self.arguments.values() if isinstance(value, tuple)))

    def to_dict(self) -> dict[str, Any]:
        """The spec as a JSON object; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "NetworkSpec":
        """Read what `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: a field is missing, has the wrong type, or is invalid.
        """
        return cls(**{name: fields[name] for name in ("kind", "input_channels", "num_classes", "arguments")})


def kind_of(class_path: str) -> str | None:
    """The kind in `CLASSES` of a class in nnU-Net's plans; None for other classes.

    >>> kind_of("stunet.networks.unetr.UNETR")
    'unetr'
    """
    return next((kind for kind, path in CLASSES.items() if path == class_path), None)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, int | float | str | None):
        return value
    raise ValueError(f"arguments of a network are numbers, text and lists of them, not {value!r}")


def _numbers_in(value: Any) -> list[int]:
    return [item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, int)]

"""What nnU-Net's plans say about the network: strides, channels, classes. Versions 1 (a pickle) and 2 (JSON).

How images are prepared is in the same plans, and `stunet.plans.preprocessing` reads it from there.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from stunet.errors import UserError
from stunet.networks.registry import CLASSES, kind_of
from stunet.networks.stunet import Stride, six_strides
from stunet.weights.model_file import existing_file

MAX_PLANS_BYTES = 256 * 2**20
"""The published plans have 20 MB at most, for they list every training case."""

STUNET_CLASS = CLASSES["stunet"]
"""The network's name in the plans that our planners write."""

STUNET_TRAINER = "STUNetTrainer"
"""How the names of all trainers of STU-Nets begin, ours and the official ones."""

DEFAULT_CONFIGURATION = "3d_fullres"
"""nnU-Net v2's configuration at full resolution, without a cascade."""


@dataclass(frozen=True)
class NetworkPlan:
    """What an nnU-Net plan says about the network and its classes.

    Attributes:
        strides: six strides (Z, Y, X), the first (1, 1, 1), of an STU-Net.
        channels: what each input channel shows.
        labels: class names, background first; () where the plan does not say.
        downsampling, upsampling: see `stunet.networks.stunet.STUNetConfig`.
        network: one of `stunet.networks.registry.CLASSES`; nnU-Net's own plans are for STU-Nets, too.
        arguments: of another network than an STU-Net.
    """

    strides: tuple[Stride, ...]
    channels: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    downsampling: str = "residual"
    upsampling: str = "nearest"
    network: str = "stunet"
    arguments: Mapping[str, Any] = field(default_factory=dict)


def to_strides(strides: Sequence[Sequence[int]]) -> tuple[Stride, ...]:
    """Six strides from five or six (Z, Y, X), for a plan or an option may leave out the first stage's (1, 1, 1).

    >>> to_strides([(2, 2, 2)] * 4 + [(1, 1, 2)])[0]
    (1, 1, 1)

    Raises:
        UserError: not strides of a 3D network.
    """
    try:
        listed = [tuple(int(s) for s in stride) for stride in strides]
    except (TypeError, ValueError):
        listed = []
    if not listed or any(len(stride) != 3 or min(stride) < 1 for stride in listed):
        raise UserError(f"Strides are five or six times three numbers, e.g. 2,2,2 (z, y, x); {strides!r} is not.")
    if max(listed[0]) > 1:
        listed.insert(0, (1, 1, 1))
    return six_strides(listed)


def network_plan(
    plans: Mapping[str, Any], configuration: str | None = None, dataset: Mapping[str, Any] | None = None
) -> NetworkPlan:
    """What the plans say about the network; version 1 and 2 are told apart by their keys.

    Args:
        plans: content of a v1 plans file (`read_v1_plans`) or of a v2 `plans.json`.
        configuration: which of v2's configurations; "3d_fullres" if None.
        dataset: content of v2's `dataset.json`, for the names of channels and classes.

    Raises:
        UserError: other plans, a 2d network, a cascade, region-based labels, or a network that is no STU-Net.
    """
    if not isinstance(plans, Mapping) or not {"plans_per_stage", "configurations"} & set(plans):
        raise UserError(
            "These are no plans of nnU-Net: neither 'plans_per_stage' (v1) nor 'configurations' (v2) is there."
        )
    try:
        if "plans_per_stage" in plans:
            return _network_plan_v1(plans)
        return _network_plan_v2(plans, configuration or DEFAULT_CONFIGURATION, dataset or {})
    except UserError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"The plans or the dataset.json are incomplete or damaged ({error!r}).") from error


# nnU-Net v1


def _network_plan_v1(plans: Mapping[str, Any]) -> NetworkPlan:
    """The highest resolution of v1 plans, which is the one that is used without a cascade."""
    stages = plans["plans_per_stage"]
    strides = stages[max(stages) if isinstance(stages, Mapping) else -1]["pool_op_kernel_sizes"]
    modalities = plans.get("modalities", {})
    if len(strides[0]) != 3:
        raise UserError("These nnU-Net v1 plans are for a 2D network, and an STU-Net is 3D.")
    channels = tuple(str(modalities[index]) for index in sorted(modalities))
    return NetworkPlan(to_strides([(1, 1, 1), *strides]), channels)


def read_v1_plans(path: str | Path) -> dict[str, Any]:
    """The plans in an nnU-Net v1 pickle: `nnUNetPlansv2.1_plans_3D.pkl`, or the `.model.pkl` beside a checkpoint.

    The pickle is read without running any of it: only plain containers, numbers, text and numpy arrays are made.

    Raises:
        UserError: no such file, not a pickle, one that wants to run something, or one without plans.
    """
    path = existing_file(path)
    if path.stat().st_size > MAX_PLANS_BYTES:
        raise UserError(f"{path} is no plans file: it has more than {MAX_PLANS_BYTES:,} bytes.")
    content = _read_plain_pickle(path)
    if isinstance(content, dict) and isinstance(content.get("plans"), dict):
        content = content["plans"]
    if not isinstance(content, dict) or "plans_per_stage" not in content:
        raise UserError(
            f"{path} holds no nnU-Net v1 plans: 'plans_per_stage' is not in it. Give the .pkl that lies beside the "
            "checkpoint, e.g. base_ep4k.model.pkl."
        )
    return content


def _read_plain_pickle(path: Path) -> Any:
    stream = path.read_bytes()
    try:
        _require_modest_memo(stream)
        return _PlainUnpickler(io.BytesIO(stream)).load()
    except _UnwantedGlobalError as error:
        raise UserError(
            f"{path} wants to run {error} when it is read; plans need nothing of the kind. It was refused, and nothing "
            "was run."
        ) from error
    except Exception as error:  # a damaged stream of pickle opcodes can raise anything
        raise UserError(f"{path} is not a pickle, or it is damaged; copy or download it again.") from error


def _require_modest_memo(stream: bytes) -> None:
    """Python's unpickler makes its memo as long as the largest index in it: ten bytes could ask for 30 GB.

    Raises:
        ValueError: an index that a stream of this length cannot need.
    """
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(stream):
            raise ValueError(f"memo index {argument} in {len(stream)} bytes")


class _UnwantedGlobalError(Exception):
    """A pickle asked for a function or class that plain data does not need."""


def _empty_array(*_: object) -> np.ndarray:
    """What numpy's `_reconstruct` makes before the array's content is set, whatever shape a file claims."""
    return np.ndarray((0,), "b")


_PLAIN_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytearray"): bytearray,
    ("_codecs", "encode"): lambda text, encoding="latin1": str(text).encode("latin1"),
    ("numpy", "ndarray"): _empty_array,
    ("numpy", "dtype"): np.dtype,
}
_PLAIN_NUMPY: dict[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _empty_array,
    "multiarray.scalar": lambda dtype, content: np.frombuffer(content, dtype)[0],
    "numeric._frombuffer": lambda content, dtype, shape, order: np.frombuffer(content, dtype).reshape(
        shape, order=order
    ),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    for _name, _make in _PLAIN_NUMPY.items():
        _module, _attribute = f"{_core}.{_name}".rsplit(".", 1)
        _PLAIN_GLOBALS[_module, _attribute] = _make


class _PlainUnpickler(pickle.Unpickler):
    """Makes containers, numbers, text and numpy arrays of numbers; any other global is refused before it is looked up.

    No import ever happens: `find_class` answers from a table.
    """

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2, and in old protocols
        try:
            return _PLAIN_GLOBALS[module, name]
        except KeyError:
            raise _UnwantedGlobalError(f"{module}.{name}") from None


# nnU-Net v2


def _network_plan_v2(plans: Mapping[str, Any], configuration: str, dataset: Mapping[str, Any]) -> NetworkPlan:
    chosen = _configuration(plans, configuration)
    arguments = chosen.get("architecture", {}).get("arch_kwargs", {})
    named = network_class(plans, configuration)
    kind = kind_of(named)
    if kind not in (None, "stunet"):
        return NetworkPlan((), _channels(dataset), _labels(dataset), network=str(kind), arguments=arguments)
    strides = arguments.get("strides", chosen.get("pool_op_kernel_sizes"))
    if strides is None:
        raise UserError(f"These plans name no strides for {configuration}.")
    plan = partial(NetworkPlan, to_strides(strides), _channels(dataset), _labels(dataset))
    if named != STUNET_CLASS:
        return plan()
    return plan(arguments.get("downsampling", "residual"), arguments.get("upsampling", "nearest"))


def network_class(plans: Mapping[str, Any], configuration: str) -> str:
    """The network that v2 plans name, e.g. "stunet.networks.stunet.STUNet" or (older plans) "PlainConvUNet"."""
    chosen = _configuration(plans, configuration)
    architecture = chosen.get("architecture", {})
    return str(architecture.get("network_class_name") or chosen.get("UNet_class_name", "of unknown name"))


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One configuration of v2 plans, with all that it inherits.

    Raises:
        UserError: one that is not in the plans, 2d, or a stage of a cascade.
    """
    configurations = cast(Mapping[str, Mapping[str, Any]], plans["configurations"])
    merged: dict[str, Any] = {}
    heir: str | None = name
    for _ in configurations:
        if heir is None:
            break
        if heir not in configurations:
            raise UserError(f"The plans have no configuration {heir!r}; they have {', '.join(configurations)}.")
        merged = {**configurations[heir], **merged}
        heir = configurations[heir].get("inherits_from")
    if merged.get("previous_stage") is not None:
        raise UserError(f"{name} is the second stage of a cascade, which stunet does not run.")
    if len(merged.get("patch_size", ())) == 2:
        raise UserError(f"{name} is a 2D configuration, and an STU-Net is 3D.")
    return merged


def _channels(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    named = dataset.get("channel_names", dataset.get("modality", {}))
    return tuple(str(named[index]) for index in sorted(named, key=int))


def _labels(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Class names by integer. nnU-Net's "ignore" label is none that a network answers with.

    Raises:
        UserError: region-based labels, or integers that do not run from 0.
    """
    integers = {name: label for name, label in dataset.get("labels", {}).items() if name != "ignore"}
    if any(isinstance(label, list | tuple) for label in integers.values()):
        raise UserError("This model was trained on regions (labels that overlap), which stunet does not read.")
    names = {int(label): str(name) for name, label in integers.items()}
    if sorted(names) != list(range(len(integers))):
        raise UserError(f"The labels in dataset.json should count from 0 without a gap, not {sorted(names)}.")
    return tuple(names[label] for label in range(len(names)))

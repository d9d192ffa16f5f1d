"""Report of a weight transfer: what was loaded, and how source and task differ."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stunet.errors import listed
from stunet.networks.stunet import STUNet
from stunet.plans.network_spec import Stride
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from stunet.weights.model_card import ModelCard, stunet_on

SHOWN_NAMES = 3
"""The number of names that a row of the report lists; the others are counted."""

NORMALIZATIONS = {
    "ct": "values clipped and scaled by the training set's statistics",
    "zscore": "the z-score of each scan",
    "none": "values as they are",
    "rescale_to_0_1": "each scan scaled to 0..1",
    "rgb_to_0_1": "values divided by 255",
}
"""Descriptions of `stunet.plans.preprocessing.ChannelNormalization.scheme`."""


@dataclass(frozen=True)
class TransferReport:
    """The result of a weight transfer.

    Attributes:
        source: name on the source's card.
        source_size: size of the source, e.g. "base".
        loaded: tensors copied from the source.
        replicated: tensors of the stem, made from the source's for the task's channels.
        reinitialised: tensors that are new, except for kept rows of the heads.
        left_over: tensors of the source that were not used.
        channels: the task's channels, each with the source's channel that provided its weights.
        rows_kept: classes that keep the source's rows of the heads.
        rows_new: classes with new rows.
        parameters_kept: number of parameters from the source.
        parameters: number of parameters of the network.
        source_strides: six strides (Z, Y, X) of the source; None if unknown.
        strides: six strides of the network.
        remarks: sentences on the differences between source and task.
    """

    source: str
    source_size: str
    loaded: tuple[str, ...]
    replicated: tuple[str, ...]
    reinitialised: tuple[str, ...]
    left_over: tuple[str, ...]
    channels: tuple[tuple[str, str], ...]
    rows_kept: tuple[str, ...]
    rows_new: tuple[str, ...]
    parameters_kept: int
    parameters: int
    source_strides: tuple[Stride, ...] | None
    strides: tuple[Stride, ...]
    remarks: tuple[str, ...]

    def rows(self) -> list[tuple[str, str]]:
        """The report as rows of title and content."""
        share = f"{self.parameters_kept / 1e6:.2f} of {self.parameters / 1e6:.2f} million parameters"
        source_strides = "unknown" if self.source_strides is None else _strides(self.source_strides)
        return [
            ("source", f"{self.source} ({self.source_size})"),
            ("loaded", f"{len(self.loaded)} tensors; {share} come from the source"),
            ("replicated", listed(self.replicated, SHOWN_NAMES)),
            ("re-initialised", listed(self.reinitialised, SHOWN_NAMES)),
            ("left over", listed(self.left_over, SHOWN_NAMES)),
            ("channels", ", ".join(f"{channel} <- {source}" for channel, source in self.channels)),
            ("head rows kept", ", ".join(self.rows_kept) or "none"),
            ("head rows new", ", ".join(self.rows_new) or "none"),
            ("strides of source", source_strides),
            ("strides here", _strides(self.strides)),
            *(("remark", remark) for remark in self.remarks),
        ]


def remarks_on(
    card: ModelCard,
    network: STUNet,
    channels: Sequence[str],
    preprocessing: PreprocessingPlan | None,
    channel_sources: Sequence[int],
) -> list[str]:
    """Describe the differences between the source of the weights and a task, in sentences.

    Args:
        card: card of the source; if its preprocessing is unknown, so are its strides.
        network: network of the task.
        channels: names of the task's channels.
        preprocessing: preprocessing of the task; None if unknown.
        channel_sources: for each of these channels, the source's channel that provides its weights.
    """
    unused = [name for index, name in enumerate(card.channels) if index not in channel_sources]
    remarks = [f"Weights of the source for {', '.join(unused)} are not used."] if unused else []
    remarks += _on_network(card, network)
    if card.preprocessing is None:
        return [*remarks, "The file does not contain the strides and preprocessing of its training."]
    if preprocessing is None:
        return remarks
    source_normalizations = [card.preprocessing.normalization[index] for index in channel_sources]
    return [
        *remarks,
        *_on_grid(card.preprocessing, preprocessing),
        *_on_normalization(channels, source_normalizations, preprocessing.normalization),
    ]


def _on_network(card: ModelCard, network: STUNet) -> list[str]:
    source = stunet_on(card).arguments
    remarks = []
    if card.preprocessing is not None and source["strides"] != network.strides:
        remarks.append("Strides differ. The weights still fit, and fine-tuning adapts them.")
    for what, theirs, ours in (
        ("down-sampling", source["downsampling"], network.downsampling),
        ("up-sampling", source["upsampling"], network.upsampling),
    ):
        if theirs != ours:
            remarks.append(f"The source's {what} is {theirs!r}, this network's is {ours!r}.")
    return remarks


def _on_grid(source: PreprocessingPlan, task: PreprocessingPlan) -> list[str]:
    remarks = []
    if source.spacing != task.spacing:
        remarks.append(f"The source saw voxels of {_mm(source.spacing)}, this task has {_mm(task.spacing)}.")
    if source.transpose_forward != task.transpose_forward:
        orders = [list(plan.transpose_forward) for plan in (source, task)]
        remarks.append(f"The source saw a scan's axes (Z, Y, X) in the order {orders[0]}, this task in {orders[1]}.")
    return remarks


def _on_normalization(
    channels: Sequence[str], source: Sequence[ChannelNormalization], task: Sequence[ChannelNormalization]
) -> list[str]:
    remarks = []
    for name, theirs, ours in zip(channels, source, task, strict=True):
        if theirs.scheme != ours.scheme:
            remarks.append(
                f"{name}: the source saw {NORMALIZATIONS[theirs.scheme]}, this task gives "
                f"{NORMALIZATIONS[ours.scheme]}. Fine for fine-tuning, which adapts to it."
            )
        elif ours.scheme == "ct" and (theirs.mean, theirs.std) != (ours.mean, ours.std):
            remarks.append(
                f"{name}: the source was scaled by mean {theirs.mean:.4g} and deviation {theirs.std:.4g}, this task by "
                f"{ours.mean:.4g} and {ours.std:.4g}."
            )
    return remarks


def _strides(strides: Iterable[Stride]) -> str:
    return " ".join("x".join(map(str, stride)) for stride in strides)


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{size:g}" for size in spacing) + " mm"

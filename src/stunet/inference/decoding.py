"""Decode a model's outputs: how a voxel's label is chosen, and which labels belong to a structure."""

from collections.abc import Collection

import torch

from stunet.inference.head import LinearHead, RegionHead
from stunet.inference.labelling import AskedChooser, Chooser
from stunet.weights.model_card import ModelCard


def chooser_of(card: ModelCard, head: LinearHead, asked: Collection[int]) -> Chooser:
    """A chooser among some of a model's structures; all others become background.

    Args:
        card: card of the model.
        head: maps features to the logits of all outputs.
        asked: labels of the requested structures.
    """
    if not card.regions:
        return AskedChooser(head, asked) if set(asked) < set(card.names) - {0} else Chooser(head)
    rows = [row for row, region in enumerate(card.regions) if region.label in asked]
    index = torch.tensor(rows, device=head.bias.device)
    painted = tuple(card.regions[row].label for row in rows)
    return Chooser(RegionHead(head.weight[index], head.bias[index], painted))


def members_of(card: ModelCard, asked: Collection[int]) -> dict[int, tuple[int, ...]]:
    """For each requested region's label, all labels whose voxels belong to it; {} if there are no regions."""
    return {
        region.label: tuple(sorted(set(asked) & {region.label, *region.members}))
        for region in card.regions
        if region.label in asked
    }

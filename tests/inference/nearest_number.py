"""A predictor whose network sees without error, to test which windows run and what they give."""

from dataclasses import replace

import torch

from stunet.inference.decoding import chooser_of
from stunet.inference.head import LinearHead
from stunet.inference.predictor import Predictor
from stunet.plans.preprocessing import ChannelNormalization
from tests.inference.samples import EXACT, tiny_model

CLASSES = 12

BACKGROUND = 0.2
"""Not 0, for what is 0 around a scan is cut off."""


class NearestNumber:
    """The class of a voxel is the whole number nearest to its value.

    A little of the window's mean is added, so that features depend on which windows run. Within `blind` voxels of its
    border a window sees nothing.
    """

    name, precision, device, allocates_by_torch = "stub", "float32", torch.device("cpu"), True

    def __init__(self, blind=0):
        numbers = torch.arange(CLASSES, dtype=torch.float32)
        self.head = LinearHead(numbers[:, None], -(numbers**2) / 2)
        self._blind = blind
        self.runs = 0

    def run(self, windows_BCZYX):
        self.runs += len(windows_BCZYX)
        seen = windows_BCZYX[:, 0] + 0.01 * windows_BCZYX.mean()
        if self._blind:
            inside = torch.zeros_like(seen)
            inside[(slice(None), *[slice(self._blind, -self._blind)] * 3)] = 1
            seen = seen * inside
        return seen[..., None]


def predictor(classes, blind=0, **settings):
    model = tiny_model(CLASSES, normalization=(ChannelNormalization("none"),))
    made = Predictor(model, replace(EXACT, classes=tuple(f"class_{label}" for label in classes), **settings))
    made.backend = NearestNumber(blind)
    made.chooser = chooser_of(model.card, made.backend.head, made.asked)
    return made

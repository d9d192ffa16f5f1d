"""Attention among the tokens of a window: how a map is cut into windows, and the two attentions of nnFormer.

Letters in tensor names: B maps of a batch, Z Y X space, F features, W windows of all maps, N tokens of a window,
H heads, D features of a head.
"""

from dataclasses import dataclass
from math import sqrt
from typing import cast

import torch
from torch import nn
from torch.nn import functional

Size = tuple[int, int, int]
"""Tokens along (Z, Y, X)."""

INITIAL_STD = 0.02
"""Of new weights and position biases, as in Swin Transformer."""


@dataclass(frozen=True)
class WindowGrid:
    """A map cut into windows of one size, which begin at its corner or, shifted, half a window before it.

    Windows that reach beyond the map are filled up: at the far end with zeros, and where the grid is shifted with what
    the windows at the near end lack (the cyclic shift of Swin Transformer). `connected` says which tokens then really
    lie together.

    Attributes:
        size: of the map.
        window: of each window, along no axis larger than the map.
        shift: by how much windows begin before the map's corner.
    """

    size: Size
    window: Size
    shift: Size

    @classmethod
    def over(cls, size: Size, window: Size, shifted: bool) -> "WindowGrid":
        """The grid over a map; an axis that one window covers is neither filled up nor shifted."""
        fitted = cast(Size, tuple(min(n, w) for n, w in zip(size, window, strict=True)))
        shift = cast(Size, tuple(w // 2 if shifted and n > w else 0 for n, w in zip(size, fitted, strict=True)))
        return cls(size, fitted, shift)

    @property
    def windows(self) -> Size:
        """Windows along each axis."""
        return cast(Size, tuple(-(-n // w) for n, w in zip(self.size, self.window, strict=True)))

    @property
    def covered(self) -> Size:
        """The size of all windows together."""
        return cast(Size, tuple(n * w for n, w in zip(self.windows, self.window, strict=True)))

    def cut(self, map_BZYXF: torch.Tensor) -> torch.Tensor:
        """The tokens (W, N, F) of each window, map after map."""
        if self.covered != self.size:
            z, y, x = (c - n for c, n in zip(self.covered, self.size, strict=True))
            map_BZYXF = functional.pad(map_BZYXF, (0, 0, 0, x, 0, y, 0, z))
        if any(self.shift):
            map_BZYXF = map_BZYXF.roll([-s for s in self.shift], (1, 2, 3))
        (i, j, k), (a, b, c) = self.windows, self.window
        parts = map_BZYXF.reshape(-1, i, a, j, b, k, c, map_BZYXF.shape[-1]).permute(0, 1, 3, 5, 2, 4, 6, 7)
        return parts.flatten(0, 3).flatten(1, 3)

    def join(self, tokens_WNF: torch.Tensor) -> torch.Tensor:
        """The maps (B, Z, Y, X, F) whose `cut` is given."""
        (i, j, k), (a, b, c), (z, y, x) = self.windows, self.window, self.size
        parts = tokens_WNF.view(-1, i, j, k, a, b, c, tokens_WNF.shape[-1]).permute(0, 1, 4, 2, 5, 3, 6, 7)
        map_BZYXF = parts.reshape(-1, *self.covered, tokens_WNF.shape[-1])
        if any(self.shift):
            map_BZYXF = map_BZYXF.roll(self.shift, (1, 2, 3))
        return map_BZYXF[:, :z, :y, :x]

    def connected(self, device: torch.device) -> torch.Tensor | None:
        """Which tokens of a window may meet, bool (windows of one map, N, N); None where all may.

        Tokens meet that lie in one window of the map itself. What fills windows up meets itself alone, so that no row
        is empty.
        """
        if self.covered == self.size and not any(self.shift):
            return None
        z, y, x = (_pieces(*axis, device) for axis in zip(self.size, self.covered, self.shift, strict=True))
        pieces_ZYX = 9 * z[:, None, None] + 3 * y[:, None] + x
        unshifted = WindowGrid(self.covered, self.window, (0, 0, 0))
        pieces_WN = unshifted.cut(pieces_ZYX[None, ..., None]).squeeze(2)
        return pieces_WN[:, :, None] == pieces_WN[:, None, :]


def _pieces(size: int, covered: int, shift: int, device: torch.device) -> torch.Tensor:
    """For each place along an axis of the shifted map: 0 as it was, 1 come round from the start, 2 filling."""
    place = (torch.arange(covered, device=device) + shift) % covered
    return (place < shift).long() + 2 * (place >= size).long()


def position_bias(table_ZYXH: torch.Tensor, window: Size) -> torch.Tensor:
    """What attention adds to a logit, by the offset from query to key and by head (as in Swin Transformer).

    Args:
        table_ZYXH: for each offset along each axis that two tokens of the largest window can have.
        window: along no axis larger than the largest.

    Returns:
        (H, N, N), queries before keys.
    """
    z, y, x = (_offset_indices(w, n, table_ZYXH.device) for w, n in zip(window, table_ZYXH.shape, strict=False))
    bias_ZYXZYXH = table_ZYXH[
        z[:, None, None, :, None, None], y[None, :, None, None, :, None], x[None, None, :, None, None, :]
    ]
    return bias_ZYXZYXH.flatten(3, 5).flatten(0, 2).permute(2, 0, 1)


def _offset_indices(window: int, offsets: int, device: torch.device) -> torch.Tensor:
    place = torch.arange(window, device=device)
    return place[:, None] - place + offsets // 2


class _Attention(nn.Module):
    """What self-attention and skip attention share: heads, position bias and the last projection."""

    def __init__(self, features: int, heads: int, window: Size):
        super().__init__()
        self.heads = heads
        self.position_ZYXH = nn.Parameter(torch.empty(*(2 * w - 1 for w in window), heads))
        nn.init.normal_(self.position_ZYXH, std=INITIAL_STD)
        self.project = nn.Linear(features, features)

    def _split(self, tokens_WNF: torch.Tensor) -> torch.Tensor:
        return tokens_WNF.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _attend(
        self, query_WNF: torch.Tensor, key_WNF: torch.Tensor, value_WNF: torch.Tensor, grid: WindowGrid
    ) -> torch.Tensor:
        query_WHND, key_WHND, value_WHND = map(self._split, (query_WNF, key_WNF, value_WNF))
        scaled = query_WHND / sqrt(query_WHND.shape[3])
        logits_WHNN = scaled @ key_WHND.transpose(2, 3) + position_bias(self.position_ZYXH, grid.window)
        connected_WNN = grid.connected(logits_WHNN.device)
        if connected_WNN is not None:
            by_map = logits_WHNN.unflatten(0, (-1, len(connected_WNN)))
            logits_WHNN = by_map.masked_fill(~connected_WNN[:, None], float("-inf")).flatten(0, 1)
        answer_WHND = logits_WHNN.softmax(dim=3) @ value_WHND
        return self.project(answer_WHND.transpose(1, 2).flatten(2))


class SelfAttention(_Attention):
    """Multi-head self-attention within windows: LV-MSA, SLV-MSA on a shifted grid, and GV-MSA, of nnFormer.

    Args:
        features: of a token.
        heads: attention heads, a divisor of `features`.
        window: the largest window.
    """

    def __init__(self, features: int, heads: int, window: Size):
        super().__init__(features, heads, window)
        self.query_key_value = nn.Linear(features, 3 * features)

    def forward(self, map_BZYXF: torch.Tensor, grid: WindowGrid) -> torch.Tensor:
        """A map (B, Z, Y, X, F) to one of the same shape."""
        query_WNF, key_WNF, value_WNF = self.query_key_value(grid.cut(map_BZYXF)).chunk(3, dim=2)
        return grid.join(self._attend(query_WNF, key_WNF, value_WNF, grid))


class SkipAttention(_Attention):
    """nnFormer's way to join encoder and decoder: the decoder's tokens ask, the encoder's answer.

    The decoder's tokens are the queries as they are; a linear layer makes keys and values of the encoder's. Its
    arguments are those of `SelfAttention`.
    """

    def __init__(self, features: int, heads: int, window: Size):
        super().__init__(features, heads, window)
        self.key_value = nn.Linear(features, 2 * features)

    def forward(self, map_BZYXF: torch.Tensor, skip_BZYXF: torch.Tensor, grid: WindowGrid) -> torch.Tensor:
        """The decoder's map and the encoder's, both (B, Z, Y, X, F), to one of the same shape."""
        key_WNF, value_WNF = self.key_value(grid.cut(skip_BZYXF)).chunk(2, dim=2)
        return grid.join(self._attend(grid.cut(map_BZYXF), key_WNF, value_WNF, grid))

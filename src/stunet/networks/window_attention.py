"""Window attention: partition of a map into windows, and nnFormer's self-attention and skip attention.

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
"""Standard deviation of new weights and position biases, as in Swin Transformer."""


@dataclass(frozen=True)
class WindowGrid:
    """A map cut into windows of one size, starting at its corner or, if shifted, half a window before it.

    Windows that reach beyond the map are padded with zeros at the far end. A shifted grid wraps around (the cyclic
    shift of Swin Transformer). `connected` marks the tokens that are neighbours in the map itself.

    Attributes:
        size: size of the map.
        window: size of each window, not larger than the map along any axis.
        shift: offset of the first window before the map's corner.
    """

    size: Size
    window: Size
    shift: Size

    @classmethod
    def over(cls, size: Size, window: Size, shifted: bool) -> "WindowGrid":
        """Build the grid of a map. An axis covered by one window is neither padded nor shifted."""
        fitted = cast(Size, tuple(min(n, w) for n, w in zip(size, window, strict=True)))
        shift = cast(Size, tuple(w // 2 if shifted and n > w else 0 for n, w in zip(size, fitted, strict=True)))
        return cls(size, fitted, shift)

    @property
    def windows(self) -> Size:
        """The number of windows along each axis."""
        return cast(Size, tuple(-(-n // w) for n, w in zip(self.size, self.window, strict=True)))

    @property
    def covered(self) -> Size:
        """The total size of all windows."""
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
        """The inverse of `cut`: maps (B, Z, Y, X, F)."""
        (i, j, k), (a, b, c), (z, y, x) = self.windows, self.window, self.size
        parts = tokens_WNF.view(-1, i, j, k, a, b, c, tokens_WNF.shape[-1]).permute(0, 1, 4, 2, 5, 3, 6, 7)
        map_BZYXF = parts.reshape(-1, *self.covered, tokens_WNF.shape[-1])
        if any(self.shift):
            map_BZYXF = map_BZYXF.roll(self.shift, (1, 2, 3))
        return map_BZYXF[:, :z, :y, :x]

    def connected(self, device: torch.device) -> torch.Tensor | None:
        """Which tokens of a window may attend to each other, bool (windows of one map, N, N); None if all may.

        Tokens may attend to each other if they share a window of the map itself. Padding attends only to padding, so
        that no row is empty.
        """
        if self.covered == self.size and not any(self.shift):
            return None
        z, y, x = (_pieces(*axis, device) for axis in zip(self.size, self.covered, self.shift, strict=True))
        pieces_ZYX = 9 * z[:, None, None] + 3 * y[:, None] + x
        unshifted = WindowGrid(self.covered, self.window, (0, 0, 0))
        pieces_WN = unshifted.cut(pieces_ZYX[None, ..., None]).squeeze(2)
        return pieces_WN[:, :, None] == pieces_WN[:, None, :]


def _pieces(size: int, covered: int, shift: int, device: torch.device) -> torch.Tensor:
    """For each position along an axis of the shifted map: 0 in place, 1 wrapped around from the start, 2 padding."""
    place = (torch.arange(covered, device=device) + shift) % covered
    return (place < shift).long() + 2 * (place >= size).long()


def position_bias(table_ZYXH: torch.Tensor, window: Size) -> torch.Tensor:
    """The bias added to attention logits, by head and offset from query to key (as in Swin Transformer).

    Args:
        table_ZYXH: the bias of each offset that two tokens of the largest window can have.
        window: not larger than the largest window along any axis.

    Returns:
        The bias (H, N, N), queries before keys.
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
    """The common part of self-attention and skip attention: heads, position bias and the last projection."""

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
        features: features of a token.
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
    """nnFormer's skip connection: the decoder's tokens query the encoder's.

    The decoder's tokens are the queries, without a linear layer; a linear layer computes keys and values from the
    encoder's tokens. The arguments are those of `SelfAttention`.
    """

    def __init__(self, features: int, heads: int, window: Size):
        super().__init__(features, heads, window)
        self.key_value = nn.Linear(features, 2 * features)

    def forward(self, map_BZYXF: torch.Tensor, skip_BZYXF: torch.Tensor, grid: WindowGrid) -> torch.Tensor:
        """The decoder's map and the encoder's, both (B, Z, Y, X, F), to one of the same shape."""
        key_WNF, value_WNF = self.key_value(grid.cut(skip_BZYXF)).chunk(2, dim=2)
        return grid.join(self._attend(grid.cut(map_BZYXF), key_WNF, value_WNF, grid))

"""Window attention compared with attention among all tokens of a map, masked by a loop over all pairs."""

from itertools import product

import pytest
import torch

from stunet.networks.window_attention import SelfAttention, SkipAttention, WindowGrid, position_bias

# map, window, shifted
CASES = [
    ((4, 4, 4), (4, 4, 4), False),
    ((4, 8, 4), (2, 4, 2), False),
    ((4, 8, 4), (2, 4, 2), True),
    ((5, 3, 6), (2, 2, 4), False),
    ((5, 3, 6), (2, 2, 4), True),
    ((2, 7, 1), (3, 3, 3), True),
    ((3, 6, 6), (3, 3, 5), True),
]


def window_of(place: int, size: int, window: int, shifted: bool) -> int:
    """The window index of a position along an axis. Shifted windows start at w // 2; positions before it form one
    window."""
    if not shifted or size <= window:
        return place // window
    return 0 if place < window // 2 else 1 + (place - window // 2) // window


def may_meet(size, window, shifted) -> torch.Tensor:
    """Pairs of tokens in the same window, in the order of the flattened map."""
    places = list(product(*(range(n) for n in size)))
    homes = [
        tuple(window_of(p, n, w, shifted) for p, n, w in zip(place, size, window, strict=True)) for place in places
    ]
    return torch.tensor([[one == other for other in homes] for one in homes])


def direct_bias(table: torch.Tensor, size, largest) -> torch.Tensor:
    """(H, all, all): the table's entry for each offset that fits in a window."""
    places = list(product(*(range(n) for n in size)))
    bias = torch.zeros(table.shape[-1], len(places), len(places), dtype=table.dtype)
    for (i, query), (j, key) in product(enumerate(places), enumerate(places)):
        offset = [q - k for q, k in zip(query, key, strict=True)]
        if all(abs(o) < w for o, w in zip(offset, largest, strict=True)):
            bias[:, i, j] = table[tuple(o + w - 1 for o, w in zip(offset, largest, strict=True))]
    return bias


def direct_attention(attention, query, key, value, size, window, shifted) -> torch.Tensor:
    """Attention among all tokens (T, F) of one map, head by head."""
    allowed = may_meet(size, window, shifted)
    bias = direct_bias(attention.position_ZYXH.detach(), size, window)
    heads, features = attention.heads, query.shape[1]
    answers = []
    for head, part in enumerate(torch.arange(features).chunk(heads)):
        logits = query[:, part] @ key[:, part].T / len(part) ** 0.5 + bias[head]
        weights = torch.exp(logits) * allowed
        answers.append(weights / weights.sum(1, keepdim=True) @ value[:, part])
    return torch.cat(answers, dim=1) @ attention.project.weight.T + attention.project.bias


def linear(layer, x):
    return x @ layer.weight.T + layer.bias


@pytest.mark.parametrize(("size", "window", "shifted"), CASES)
@torch.no_grad()
def test_self_attention_equals_attention_among_all_that_only_windows_let_meet(size, window, shifted):
    torch.manual_seed(0)
    attention = SelfAttention(6, 2, window).double()
    attention.position_ZYXH.normal_()
    maps = torch.randn(2, *size, 6, dtype=torch.float64)
    ours = attention(maps, WindowGrid.over(size, window, shifted))
    for answer, one_map in zip(ours, maps, strict=True):
        query, key, value = linear(attention.query_key_value, one_map.reshape(-1, 6)).split(6, dim=1)
        expected = direct_attention(attention, query, key, value, size, window, shifted)
        torch.testing.assert_close(answer.reshape(-1, 6), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("size", "window", "shifted"), CASES)
@torch.no_grad()
def test_skip_attention_takes_queries_from_the_decoder_and_the_rest_from_the_encoder(size, window, shifted):
    torch.manual_seed(0)
    attention = SkipAttention(6, 3, window).double()
    attention.position_ZYXH.normal_()
    maps, skips = torch.randn(2, 2, *size, 6, dtype=torch.float64)
    ours = attention(maps, skips, WindowGrid.over(size, window, shifted))
    for answer, one_map, skip in zip(ours, maps, skips, strict=True):
        key, value = linear(attention.key_value, skip.reshape(-1, 6)).split(6, dim=1)
        expected = direct_attention(attention, one_map.reshape(-1, 6), key, value, size, window, shifted)
        torch.testing.assert_close(answer.reshape(-1, 6), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("size", "window", "shifted"), CASES)
def test_windows_connect_each_pair_of_a_map_that_a_loop_connects_once(size, window, shifted):
    """Each token has its number plus 1 as its value; 0 is padding and attends to no token."""
    grid = WindowGrid.over(size, window, shifted)
    numbers = torch.arange(1, torch.Size(size).numel() + 1).view(1, *size, 1)
    cut_WN = grid.cut(numbers).squeeze(2)
    connected = grid.connected(torch.device("cpu"))
    if connected is None:
        connected = torch.ones(*cut_WN.shape, cut_WN.shape[1], dtype=torch.bool)
    meetings = torch.zeros(numbers.numel() + 1, numbers.numel() + 1, dtype=torch.long)
    for tokens, pairs in zip(cut_WN, connected, strict=True):
        for (i, one), (j, other) in product(enumerate(tokens), enumerate(tokens)):
            meetings[one, other] += int(pairs[i, j])
    assert torch.equal(meetings[1:, 1:], may_meet(size, window, shifted).long())
    assert not meetings[0, 1:].any() and not meetings[1:, 0].any()
    assert connected.any(2).all()


@pytest.mark.parametrize(("size", "window", "shifted"), CASES)
def test_what_is_cut_is_joined_again(size, window, shifted):
    maps = torch.randn(3, *size, 2)
    grid = WindowGrid.over(size, window, shifted)
    assert torch.equal(grid.join(grid.cut(maps)), maps)


def test_a_small_window_takes_the_middle_of_the_table():
    table = torch.randn(7, 5, 3, 2)
    bias = position_bias(table, (2, 3, 1)).view(2, 2, 3, 1, 2, 3, 1)
    for (z, y), (a, b) in product(product(range(2), range(3)), repeat=2):
        assert torch.equal(bias[:, z, y, 0, a, b, 0], table[z - a + 3, y - b + 2, 1])

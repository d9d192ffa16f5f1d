import numpy as np
import pytest
import torch
from torch import nn

from stunet.inference import head as head_module
from stunet.inference.head import LinearHead, identity_head, mean_head


def test_mean_head_gives_the_mean_of_the_logits():
    torch.manual_seed(0)
    convolutions = [nn.Conv3d(4, 7, 1), nn.Conv3d(4, 7, 1), nn.Conv3d(4, 7, 1, bias=False)]
    features = [torch.randn(1, 4, 2, 3, 5) for _ in convolutions]
    expected = torch.stack([conv(x) for conv, x in zip(convolutions, features, strict=True)]).mean(0)
    joined_MF = torch.cat(features, dim=1).flatten(2)[0].T
    logits_MK = mean_head(convolutions).logits(joined_MF)
    torch.testing.assert_close(logits_MK.T.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


def test_labels_in_chunks(monkeypatch):
    torch.manual_seed(0)
    head = LinearHead(torch.randn(9, 4), torch.randn(9))
    features = torch.randn(1000, 4)
    expected = head.logits(features).argmax(1)
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 9 * 4 * 64)
    assert head.chunk == 64
    assert torch.equal(head.labels(features).long(), expected)


def test_of_equal_logits_the_first_wins():
    logits = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, 5.0]])
    assert identity_head(3).labels(logits).tolist() == [1, 0, 2]


@pytest.mark.parametrize("classes", [2, 105, 255, 256, 1000])
def test_the_highest_is_numpys_argmax(classes):
    """Integers from 0 to 20 contain many ties."""
    logits = np.random.default_rng(classes).integers(0, 20, (classes, 3000)).astype(np.float32)
    labels = identity_head(classes).labels(torch.from_numpy(logits.T))
    assert labels.dtype == torch.int16
    assert np.array_equal(labels.numpy(), logits.argmax(axis=0))

"""What nnU-Net saves of a network and of an optimiser that are cut over several processes."""

from typing import Any

import torch
from torch import nn

from stunet.training.parallel import whole, whole_weights


class States:
    """What nnU-Net asks of a network, or of an optimiser, when it saves it.

    Args:
        states: what `state_dict` gives.
    """

    def __init__(self, states: dict[str, Any]):
        self._states = states

    def state_dict(self) -> dict[str, Any]:
        """The states, as torch's modules and optimisers give them."""
        return self._states


def put_together(network: nn.Module, optimizer: torch.optim.Optimizer, keep: bool) -> tuple[States, States]:
    """The states of a sharded network and of its optimiser, of whole tensors on the CPU; all ranks must call it.

    Args:
        network: that `stunet.training.parallel.distribute` cut.
        optimizer: of its parameters.
        keep: whether this rank gets the tensors; on others, which need not have room for them, none are kept.
    """
    weights = {name: tensor.cpu() for name, tensor in whole_weights(network) if keep}
    kept: dict[str, Any] = optimizer.state_dict()
    state = {number: _whole_state(of_parameter, keep) for number, of_parameter in kept["state"].items()}
    return States(weights), States({**kept, "state": state})


def _whole_state(of_parameter: dict[str, torch.Tensor], keep: bool) -> dict[str, torch.Tensor]:
    tensors = ((name, whole(tensor)) for name, tensor in of_parameter.items())
    return {name: tensor.cpu() for name, tensor in tensors if keep}

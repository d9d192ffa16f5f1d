"""STU-Nets run by torch: float32 on a CPU or on Apple's GPUs, half precision on NVIDIA's, as nnU-Net does."""

from collections.abc import Callable, Sequence

import torch

from stunet.errors import UserError
from stunet.inference.head import LinearHead, identity_head, mean_head
from stunet.networks.stunet import STUNet, build_stunet


class TorchBackend:
    """One or several STU-Nets of one architecture; fulfils `Backend`.

    The maps that it gives are whichever are fewer: the decoder's last features, one network's beside the other's, or
    the mean logits.

    Args:
        networks: in evaluation mode; they stay where and as they are.
        device: where to run.
    """

    name = "torch"

    def __init__(self, networks: Sequence[STUNet], device: torch.device):
        self.device = device
        self._networks = [_on_device(network, device) for network in networks]
        head = mean_head([network.head for network in self._networks], device)
        few_classes = head.num_classes <= head.num_features
        self.head: LinearHead = identity_head(head.num_classes, device) if few_classes else head
        self._maps: Callable[[torch.Tensor], torch.Tensor] = self._mean_logits if few_classes else self._all_features

    @torch.inference_mode()
    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The features (B, F, Z, Y, X) of windows (B, C, Z, Y, X)."""
        windows_BCZYX = windows_BCZYX.to(self.device)
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            return self._maps(windows_BCZYX).float()

    def _all_features(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        features = [network.forward_features(windows_BCZYX) for network in self._networks]
        return features[0] if len(features) == 1 else torch.cat(features, dim=1)

    def _mean_logits(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        total = self._logits(self._networks[0], windows_BCZYX)
        for network in self._networks[1:]:
            total += self._logits(network, windows_BCZYX)
        return total.div_(len(self._networks))

    @staticmethod
    def _logits(network: STUNet, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        return network.head(network.forward_features(windows_BCZYX))


def _on_device(network: STUNet, device: torch.device) -> STUNet:
    """The network itself if it is there already, else a copy; the weights are never twice on one device."""
    weights = network.state_dict()
    if all(tensor.device == device for tensor in weights.values()):
        return network
    with torch.device("meta"):
        copy = build_stunet(network.config)
    copy.load_state_dict({key: tensor.to(device) for key, tensor in weights.items()}, assign=True)
    return copy.eval()


def torch_device(name: str) -> torch.device:
    """The device that a user named; "auto" is an NVIDIA GPU if there is one, else the CPU.

    Apple's GPUs ("mps") are used only when they are named.

    Raises:
        UserError: a device that this machine, or this installation of torch, does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(name, False):
        present = ", ".join(device for device, there in available.items() if there)
        raise UserError(f"There is no device {name!r} here; this machine and its torch have: {present}.")
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)

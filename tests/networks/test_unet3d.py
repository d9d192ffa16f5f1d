"""3D U-Net compared with the number of parameters in its paper."""

import pytest
from torch import nn

from stunet.networks.unet3d import UNet3D


def test_four_stages_have_the_parameters_that_the_original_paper_states():
    """Çiçek et al., section 2: 19069955 parameters, three channels and classes; those of the norms are not counted."""
    modules = UNet3D(3, 3, stages=4).modules()
    convolutions = (module for module in modules if isinstance(module, nn.Conv3d | nn.ConvTranspose3d))
    assert sum(p.numel() for module in convolutions for p in module.parameters()) == 19_069_955


def test_five_stages_halve_the_window_four_times():
    """Table 1 of the STU-Net paper: five stages, all ratios (2, 2, 2)."""
    assert UNet3D(1, 2, width=2).window_multiple == (16, 16, 16)


@pytest.mark.parametrize("wrong", [{"stages": 1}, {"width": 0}])
def test_arguments_that_no_3d_unet_can_have_are_refused(wrong):
    with pytest.raises(ValueError, match="3D U-Net"):
        UNet3D(1, 2, **wrong)

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from stunet.training.optimizer import PolynomialSchedule


def test_the_schedule_is_nnunets():
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.01) for _ in range(2)]
    ours, theirs = PolynomialSchedule(optimizers[0], 1000), PolyLRScheduler(optimizers[1], 0.01, 1000)
    for epoch in range(1000):
        ours.step(epoch)
        theirs.step(epoch)
        assert optimizers[0].param_groups[0]["lr"] == optimizers[1].param_groups[0]["lr"]

"""How fast a network learns as the training goes on."""

import torch


class PolynomialSchedule(torch.optim.lr_scheduler.LRScheduler):
    """Each group's own initial rate times (1 - epoch / epochs) ** 0.9 (section 4, implementation details).

    nnU-Net's scheduler gives all groups one rate; this one keeps their ratio.
    """

    EXPONENT = 0.9

    def __init__(self, optimizer: torch.optim.Optimizer, epochs: int):
        self.epochs = epochs
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Set the rates of `epoch`; without one, of the next."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        decay = (1 - self.last_epoch / self.epochs) ** self.EXPONENT
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * decay
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

"""Settings of a training by the names of their options, whatever group they are in."""

from dataclasses import fields, replace
from typing import Any

from stunet.training.settings import HardwareSettings, TaskSettings, TrainingSettings


def changed(settings: TrainingSettings, **options: Any) -> TrainingSettings:
    """Settings with other values for some options."""
    groups = {}
    for group in fields(settings):
        before = getattr(settings, group.name)
        groups[group.name] = replace(before, **{name: options.pop(name) for name in vars(before) if name in options})
    assert not options, f"no such options: {options}"
    return replace(settings, **groups)


def settings_of(size: str, **options: Any) -> TrainingSettings:
    """A training of dataset 4 on the CPU, which reads its batches where it trains on them."""
    return changed(
        TrainingSettings(TaskSettings("4", size=size), hardware=HardwareSettings("cpu", workers=0)), **options
    )

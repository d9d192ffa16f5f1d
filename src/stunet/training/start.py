"""Start a fine-tuning: load the weights of another model into the trainer's network (section 3.4)."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

from stunet.errors import UserError
from stunet.files import write_json
from stunet.networks.registry import size_of as network_size
from stunet.networks.stunet import STUNet
from stunet.plans.nnunet import dataset_from, plans_from
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.training.parallel import fill, whole_network
from stunet.training.settings import StartSettings
from stunet.weights.model import read_pretrained
from stunet.weights.model_card import stunet_on
from stunet.weights.transfer import Task, TransferOptions, transfer
from stunet.weights.transfer_report import TransferReport

if TYPE_CHECKING:
    from stunet.training.trainer import STUNetTrainer

TRANSFER_NAME = "stunet_transfer.json"
"""The transfer report, in the fold's folder."""


def start_from(trainer: "STUNetTrainer", start: StartSettings) -> TransferReport:
    """Load the weights into the network of an initialised trainer, and save the report with the run.

    Raises:
        UserError: the model does not exist or has another size, or the head is to be kept but no class matches.
    """
    network = trainer.bare_network
    if not isinstance(network, STUNet):
        raise UserError("Only STU-Nets can be fine-tuned. Leave --from out for other networks.")
    assert start.model is not None
    state_dict, card = read_pretrained(start.model)
    options = TransferOptions(start.keep_head, start.divide_channels, trainer.settings.task.seed)
    if trainer.is_sharded:
        network = cast(STUNet, whole_network(trainer.network))
    report = transfer(state_dict, card, network, task_of(trainer), options)
    if trainer.is_sharded:
        fill(trainer.network, network.state_dict())
    if trainer.local_rank == 0:
        write_json(Path(trainer.output_folder) / TRANSFER_NAME, {"start": start.model, **asdict(report)})
    return report


def size_of(model: str) -> str:
    """The size of a model to start from, e.g. "base".

    Raises:
        UserError: the model does not exist, or is not an STU-Net.
    """
    return network_size(stunet_on(read_pretrained(model)[1]))


def task_of(trainer: "STUNetTrainer") -> Task:
    """What the trainer's dataset and plans require of its network."""
    dataset = dataset_from(trainer.dataset_json)
    return Task(() if dataset.regions else dataset.labels, dataset.channels, _preprocessing(trainer))


def _preprocessing(trainer: "STUNetTrainer") -> PreprocessingPlan | None:
    """None if the plans have steps that only nnU-Net knows; the report is then shorter."""
    try:
        return plans_from(trainer.plans_manager.plans, trainer.configuration_name).preprocessing
    except UserError:
        return None

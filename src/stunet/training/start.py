"""How a fine-tuning starts: the weights of another model go into the trainer's network (section 3.4)."""

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
from stunet.weights.model_file import stunet_on
from stunet.weights.transfer import Task, TransferOptions, transfer
from stunet.weights.transfer_report import TransferReport

if TYPE_CHECKING:
    from stunet.training.trainer import STUNetTrainer

TRANSFER_NAME = "stunet_transfer.json"
"""The report of the transfer, in the fold's folder."""


def start_from(trainer: "STUNetTrainer", start: StartSettings) -> TransferReport:
    """Put the weights into the network of an initialised trainer, and store the report with the run.

    Raises:
        UserError: no such model, one of another size, or no common class where the head is to be kept.
    """
    network = trainer.bare_network
    if not isinstance(network, STUNet):
        raise UserError("A training of another network than an STU-Net starts with random weights; leave --from out.")
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
        UserError: no such model, or one of another network than an STU-Net.
    """
    return network_size(stunet_on(read_pretrained(model)[1]))


def task_of(trainer: "STUNetTrainer") -> Task:
    """What the trainer's dataset and plans ask of its network."""
    dataset = dataset_from(trainer.dataset_json)
    return Task(() if dataset.regions else dataset.labels, dataset.channels, _preprocessing(trainer))


def _preprocessing(trainer: "STUNetTrainer") -> PreprocessingPlan | None:
    """None where the plans hold steps that only nnU-Net knows: the report then says less."""
    try:
        return plans_from(trainer.plans_manager.plans, trainer.configuration_name).preprocessing
    except UserError:
        return None

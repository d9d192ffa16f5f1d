"""What segments for the tools: this machine, or a server."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from stunet.batch.segmenter import OnThisMachine, Segmenter
from stunet.errors import UnknownNameError
from stunet.serve.client import Client
from stunet.serve.mcp.answers import ModelFound
from stunet.serve.mcp.file_text import plain
from stunet.serve.mcp.folders import Folders
from stunet.serve.mcp.refused import ToolRefusedError
from stunet.serve.offered_models import describe_models
from stunet.serve.on_server import OnServer

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor
    from stunet.serve.answers import ModelAnswer


class Engine(Protocol):
    """Knows models, and segments with them."""

    def models(self) -> list[ModelFound]:
        """What there is."""
        ...

    def segmenter(self, model: str, structures: Sequence[str]) -> Segmenter:
        """What segments with a model.

        Raises:
            UserError: there is no such model.
        """
        ...


class LocalEngine:
    """Segments on this machine; keeps the last predictor.

    Args:
        folders: where models may lie beside those of the catalogue.
        device: as in `stunet.inference.predictor.InferenceConfig`.
    """

    def __init__(self, folders: Folders, device: str):
        self._folders, self._device = folders, device
        self._predictor = lru_cache(maxsize=1)(self._make_predictor)

    def models(self) -> list[ModelFound]:
        """Those of the catalogue."""
        from stunet.weights.catalogue import CATALOGUE

        return [_found(model) for model in describe_models(list(CATALOGUE))]

    def segmenter(self, model: str, structures: Sequence[str]) -> Segmenter:
        """See `Engine`."""
        place = self._place(model)
        return OnThisMachine(lambda: self._predictor(place, tuple(structures)))

    def _place(self, model: str) -> str:
        """A name of the catalogue, if its model is on this machine, or an allowed path."""
        from stunet.weights.catalogue import CATALOGUE

        if model not in CATALOGUE:
            if "/" not in model and "." not in model:
                raise ToolRefusedError(str(UnknownNameError.of("model", model, CATALOGUE)))
            return str(self._folders.whole(model))
        if not CATALOGUE[model].is_here:
            raise ToolRefusedError(
                f"Model {model!r} is not on this machine; the user can run `stunet weights get {model}`."
            )
        return model

    def _make_predictor(self, model: str, structures: tuple[str, ...]) -> "Predictor":
        from stunet.inference.predictor import InferenceConfig, Predictor

        return Predictor(model, InferenceConfig(device=self._device, classes=structures))


class ServerEngine:
    """Segments on a server of stunet; files are read and written here.

    Args:
        client: of the server.
    """

    def __init__(self, client: Client):
        self._client = client

    def models(self) -> list[ModelFound]:
        """Those that the server offers."""
        return [_found(model) for model in self._client.models()]

    def segmenter(self, model: str, structures: Sequence[str]) -> Segmenter:
        """See `Engine`."""
        return OnServer(self._client, model, tuple(structures), mirror=False)


def _found(model: "ModelAnswer") -> ModelFound:
    """As the catalogue or a server describes it; a server's own models have names of their own."""
    name, modality, summary = (plain(text) for text in (model.name, model.modality, model.summary))
    return ModelFound(name, modality, summary, model.available, [plain(one.name) for one in model.classes])

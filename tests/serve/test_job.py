"""What a job's process does before its first job."""

import sys
from types import ModuleType

import pytest

from stunet.errors import NotEnoughMemoryError
from stunet.serve.job import prepare_process


class Unloadable(ModuleType):
    """A module that cannot be loaded, for a reason."""

    def __getattr__(self, name):
        raise ImportError(self.__doc__)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("libtorch_cpu.so: failed to map segment from shared object", NotEnoughMemoryError),
        ("libtorch_cpu.so: cannot allocate memory in static TLS block", NotEnoughMemoryError),
        ("libtorch_cpu.so: no such file", ImportError),
    ],
)
def test_too_little_memory_to_start_is_a_sentence(monkeypatch, reason, kind):
    module = "stunet.inference.backends.torch_backend"
    monkeypatch.setitem(sys.modules, module, Unloadable(module, reason))
    with pytest.raises(kind):
        prepare_process("cpu")

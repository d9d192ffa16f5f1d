"""A running server, and the folders of the integrations."""

from tests.serve.conftest import client, hippocampus, large_scan, server  # noqa: F401 (fixtures)

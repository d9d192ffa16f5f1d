"""`stunet mcp`: tools for a language model, over the Model Context Protocol."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from stunet.cli.command import DONE, Options
from stunet.cli.output import Switch, print_json
from stunet.errors import UserError

if TYPE_CHECKING:
    from stunet.serve.mcp.engine import Engine
    from stunet.serve.mcp.folders import Folders


@dataclass
class Mcp(Options):
    """Let a language model list models, segment and measure (MCP over stdin and stdout).

    Examples: stunet mcp --folder scans
              stunet mcp --folder scans --server http://127.0.0.1:8000
              stunet mcp --folder scans --json
    """

    folder: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="PATH...")] = (Path(),)
    """Folders in which the language model may read and write. Default: the current folder."""
    server: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    """Segment on a server (`stunet serve`). A token, if it needs one, is read from the variable STUNET_TOKEN."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """auto, cpu, cuda, cuda:N or mps. auto: a CUDA GPU if there is one, else the CPU."""
    json: Switch = False
    """Print the entry for the configuration of an MCP client as JSON, and end."""

    def run(self) -> int:
        """Answer until the client ends the connection."""
        from stunet.extras import from_extra
        from stunet.serve.mcp.folders import Folders

        if self.server is not None and self.device != "auto":
            raise UserError("--device is for this machine, and --server segments elsewhere; leave one of them out.")
        folders = Folders(self.folder)
        if self.json:
            print_json(self._entry(folders))
            return DONE
        from stunet.serve.mcp.tools import Tools

        with from_extra("mcp"):
            from stunet.serve.mcp.server import make_server
        make_server(Tools(folders, self._engine(folders))).run()
        return DONE

    def _engine(self, folders: "Folders") -> "Engine":
        from stunet.serve.client import Client
        from stunet.serve.mcp.engine import LocalEngine, ServerEngine

        if self.server is None:
            return LocalEngine(folders, self.device)
        return ServerEngine(Client(self.server, os.environ.get("STUNET_TOKEN")))

    def _entry(self, folders: "Folders") -> dict[str, object]:
        arguments = ["-m", "stunet", "mcp", "--folder", *map(str, folders.allowed)]
        arguments += [] if self.server is None else ["--server", self.server]
        arguments += [] if self.device == "auto" else ["--device", self.device]
        return {"mcpServers": {"stunet": {"command": sys.executable, "args": arguments}}}

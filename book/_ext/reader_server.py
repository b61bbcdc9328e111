"""The built book with live code: pages whose cells can be edited and run on a kernel of one's own machine.

    make live

One server, for this machine only, gives out the pages of `_build/html` and runs the kernels.  It is Jupyter's own, and
its locks stay on:

- everything asks for the token, which is drawn anew at each start and stands in the address that is printed;
- only pages from the server's own address may talk to it (`allow_origin`), and its name must be this machine's;
- what changes something needs the XSRF mark as well, which other sites cannot read.

The configuration of Jupyter on this machine and the extensions that it enables, such as nbgrader's, are left out.  The
pages on the disk stay as they are: the script that makes their cells live is added when a page is given out.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.serverapp import ServerApp
from tornado import web
from traitlets import Unicode
from traitlets.config import Config

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PLACE = "/live/"  # of the pages, in addresses
ASSETS = ("reader.js", "reader.css")  # beside this file, given out under ASSET
ASSET = "/live-code/"
IDLE = 3600  # seconds after which a kernel that nobody uses ends
LINES = """<link rel="stylesheet" href="{asset}reader.css">
<script src="{asset}reader.js" data-page="{page}"></script>
"""


def made_live(html: str, page: str) -> str:
    """A page with the script and its style; `page` is its name, such as `book/anomaly/winclip`."""
    head, end, tail = html.rpartition("</body>")
    return head + LINES.format(asset=ASSET, page=page) + end + tail if end else html


class Pages(web.StaticFileHandler, JupyterHandler):
    """The files of the built book, for those who have the token."""

    @web.authenticated
    async def get(self, path: str = "", include_body: bool = True) -> None:
        """A file; a page with the script, and the XSRF mark as a cookie."""
        if path.endswith("/") or not path:
            path += "index.html"
        if not path.endswith(".html"):
            await super().get(path, include_body)
            return
        self.path = self.parse_url_path(path)
        self.absolute_path = self.validate_absolute_path(self.root, self.get_absolute_path(self.root, self.path))
        if self.absolute_path is None:
            return  # it has answered
        assert self.xsrf_token  # which sets the cookie
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        self.set_header("Cache-Control", "no-store")
        html = Path(self.absolute_path).read_text(encoding="utf-8")
        self.finish(made_live(html, path.removesuffix(".html")))


class Assets(Pages):
    """The script and the style."""

    @web.authenticated
    async def get(self, path: str = "", include_body: bool = True) -> None:
        """One of `ASSETS`, and nothing else."""
        if path not in ASSETS:
            raise web.HTTPError(404)
        await super().get(path, include_body)


class Reader(ServerApp):
    """Jupyter's server with the pages."""

    pages = Unicode(help="the folder of the built book").tag(config=True)

    def init_webapp(self) -> None:
        """As Jupyter does, and then the pages."""
        super().init_webapp()
        handlers = [
            (rf"{PLACE}(.*)", Pages, {"path": self.pages}),
            (rf"{ASSET}(.*)", Assets, {"path": str(HERE)}),
        ]
        self.web_app.add_handlers(".*$", handlers)


def settings(pages: Path, root: Path, port: int, browser: bool) -> Config:
    """The server's configuration: its locks, what it gives out, and nothing that a reader does not need."""
    config = Config()
    config.Reader.pages = str(pages)
    server = config.ServerApp
    server.ip, server.port, server.port_retries = "127.0.0.1", port, 0
    server.allow_origin, server.allow_remote_access = f"http://127.0.0.1:{port}", False
    server.disable_check_xsrf = False
    server.root_dir, server.default_url, server.open_browser = str(root), PLACE, browser
    server.jpserver_extensions, server.terminals_enabled = {}, False
    server.allow_root = True  # it listens to this machine only
    config.MappingKernelManager.cull_idle_timeout = IDLE
    return config


def free_port(wanted: int) -> int:
    """The wanted port, or the first free one of the next fifty.  Raises OSError where there is none."""
    for port in range(wanted, wanted + 50):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if trial.connect_ex(("127.0.0.1", port)):
                return port
    raise OSError(f"no free port from {wanted} to {wanted + 49}")


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C; 2 where there is no built book."""
    parser = argparse.ArgumentParser(description="Read the built book with live code, on a kernel of this machine.")
    parser.add_argument("--pages", type=Path, default=ROOT / "_build" / "html", help="the built book (%(default)s)")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder in which cells run (%(default)s)")
    parser.add_argument("--port", type=int, default=8900, help="the first port to try (%(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    given = parser.parse_args(arguments)
    if not (given.pages / "index.html").is_file():
        sys.stderr.write(f"live: expected the built book in {given.pages}, got no index.html: make book\n")
        return 2
    os.environ["JUPYTER_NO_CONFIG"] = "1"  # nor the extensions that the configuration enables
    config = settings(given.pages.resolve(), given.root.resolve(), free_port(given.port), not given.no_browser)
    app = Reader(config=config)
    app.initialize(argv=[])
    app.start()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Widgets of the book's pages, which compute in the browser: a directive, and their data, made when the book is built.

    ```{live} sam
    :alt: what the still picture shows, for those who cannot see it
    :button: what the button says
    What the widget is, below it.
    ```

Without scripts the still picture stays.  The data (`demo.make`) are made once for a state of the code and the weights
that they depend on, and kept under `_build/.live`.
"""

import hashlib
import shutil
import sys
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from fingerprint import Sources
from house import speaks

logger = logging.getLogger(__name__)
WIDGETS = ("scratch", "neighbours", "sam")
WEIGHTS = ("efficientnet-lite0.safetensors", "sam.safetensors", "onnxruntime-web.wasm.gz", "onnxruntime-web.mjs.gz")
FOLDER = "live"  # below the static files
FIGURE = """<figure class="live" data-live="{name}">
<div class="live-body"><img src="{base}{name}.png" alt="{alt}"></div>
<p class="live-bar"><button type="button" hidden>{button}</button> <span class="live-status" role="status"></span></p>
<figcaption>{caption}</figcaption>
<script src="{base}live.js" defer></script>
</figure>"""


class Live(SphinxDirective):
    """`{live}`: a widget."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {"alt": directives.unchanged_required, "button": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """The figure, which `live.js` makes alive.  A name that is none, or a text that is missing, is an error."""
        name, caption = self.arguments[0], " ".join(self.content)
        words = {"alt": self.options.get("alt", ""), "button": self.options.get("button", ""), "caption": caption}
        if name not in WIDGETS or not speaks(words["alt"]) or not all(words.values()):
            raise self.error(f"live: expected one of {', '.join(WIDGETS)}, with alt, button and a caption, got {name}")
        base = "../" * self.env.docname.count("/") + f"_static/{FOLDER}/"
        page = FIGURE.format(name=name, base=base, **{key: escape(text) for key, text in words.items()})
        return [nodes.raw("", page, format="html")]


def state(root: Path) -> str:
    """A short hash of everything that the data depend on."""
    sources = Sources(root, ("gadkit", "demo"))
    files = {sources.files[name] for name in sources.closure(["demo.make"])} | {*(root / "demo").glob("*.js")}
    files |= {root / "requirements.txt", root / "gadkit" / "assets" / "engine.js"}
    files |= {root / "gadkit" / "assets" / name for name in WEIGHTS}
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def bring(app: Sphinx, error: Exception | None) -> None:
    """Put the scripts and data beside the pages, and make them first if they are of another state."""
    if error or app.builder.format != "html":
        return
    kept = Path(app.srcdir) / "_build" / ".live"
    folder = kept / state(Path(app.srcdir))
    if not folder.is_dir():
        logger.info("making the data of the widgets ...")
        sys.path.insert(0, str(app.srcdir))  # for what is beside the package
        from demo.make import make
        from gadkit.files import replacing_folder

        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        with replacing_folder(folder) as part:
            make(part)
    shutil.copytree(folder, Path(app.outdir) / "_static" / FOLDER, dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("live", Live)
    app.connect("build-finished", bring)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

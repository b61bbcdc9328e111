"""Every page that runs something offers its notebook: the reader's edition, written beside the page's HTML.

`notebooks_repository` and `notebooks_site` are the public addresses of the repository and of the published book, empty
where there are none.  A button for Colab is there only if `notebooks_branch` names the branch of a GitHub repository
that holds the built book, since Colab opens notebooks from there.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from notebooks import write
from shelf import Book

logger = logging.getLogger(__name__)
FOLDER = "notebooks"
COLAB = "https://colab.research.google.com/github/"
GITHUB = "https://github.com/"


def button(text: str, url: str, tooltip: str, icon: str) -> dict[str, str]:
    """A line in a menu of the theme's header."""
    label = f"{text.strip('.').lower()}-button"
    return {"type": "link", "text": text, "url": url, "tooltip": tooltip, "icon": icon, "label": label}


def colab(repository: str, branch: str, page: str) -> str:
    """Where Colab finds a page's notebook, or nothing if no public repository holds it."""
    if not (branch and repository.startswith(GITHUB)):
        return ""
    name = repository.removeprefix(GITHUB).removesuffix(".git").strip("/")
    return f"{COLAB}{name}/blob/{branch}/{FOLDER}/{page}.ipynb"


class Downloads:
    """Sphinx's events, in the order in which they come."""

    def start(self, app: Sphinx) -> None:
        """Read what all pages have, once."""
        if app.builder.format == "html":
            self.book = Book(Path(app.srcdir), app.config.notebooks_repository, app.config.notebooks_site)

    def offer(
        self, app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
    ) -> None:
        """Put the notebook first into the menu of downloads, and Colab beside it."""
        if page not in self.book.notebooks:
            return
        url = context["pathto"](f"{FOLDER}/{page}.ipynb", 1)
        first = [button(".ipynb", url, "Download the notebook", "fas fa-code")]
        if address := colab(app.config.notebooks_repository, app.config.notebooks_branch, page):
            first.append(button("Colab", address, "Open the notebook on Colab", "fas fa-rocket"))
        for group in context["header_buttons"]:
            if group.get("label") == "download-buttons":
                group["buttons"][:0] = first

    def write(self, app: Sphinx, error: Exception | None) -> None:
        """Write the notebooks: all of them, since each has titles and numbers of other pages in it."""
        if error is None and app.builder.format == "html":
            try:
                write(self.book, Path(app.outdir) / FOLDER, "reader")
            except ValueError as unknown:  # also where only a part of the book is built
                logger.warning("notebooks are missing: %s", unknown)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    for name in ("repository", "site", "branch"):
        app.add_config_value(f"notebooks_{name}", "", "html")
    downloads = Downloads()
    app.connect("builder-inited", downloads.start)
    app.connect("html-page-context", downloads.offer, priority=900)
    app.connect("build-finished", downloads.write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

"""The pages of HTML that commands write: templates under `assets/`, one frame of colours and letters for all of them.

Book: intro/run-it
"""

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from gadkit.weights import ASSETS


def template(name: str) -> Template:
    """A page, such as "report.html"; whatever is filled in is escaped, unless it is marked as safe there."""
    folder = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined)
    folder.filters["breakable"] = lambda path: escape(path).replace("/", Markup("/<wbr>"))
    return folder.get_template(name)

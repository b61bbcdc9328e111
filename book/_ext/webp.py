"""Lighter pages: pictures that are PNG files reach the HTML as WebP, where that is smaller.

Each picture is tried without loss and at quality 90, and the smaller file counts: the first wins for plain charts, the
second for photographs.  What was made once lies in a folder beside the doctrees, named after a hash of the PNG, so that
a later build, of any language, takes it from there.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms.images import BaseImageConverter

from gadkit.files import replacing

QUALITY = 90
MODES = {"1": "RGB", "L": "RGB", "RGB": "RGB", "LA": "RGBA", "PA": "RGBA", "RGBA": "RGBA"}  # WebP's own two


def webp(png: bytes) -> bytes:
    """A PNG picture as WebP, transparent where it was; nothing where WebP is larger or can't hold it."""
    with Image.open(io.BytesIO(png)) as image:
        mode = MODES.get("RGBA" if "transparency" in image.info else "RGB" if image.mode == "P" else image.mode)
        if mode is None or getattr(image, "n_frames", 1) > 1:  # 16 bits a pixel, or a film
            return b""
        forms = []
        for options in ({"lossless": True}, {"quality": QUALITY}):
            buffer = io.BytesIO()
            image.convert(mode).save(buffer, "WEBP", icc_profile=image.info.get("icc_profile"), **options)
            forms.append(buffer.getvalue())
    smallest = min(forms, key=len)
    return smallest if len(smallest) < len(png) else b""


class Lighter(BaseImageConverter):
    """Put a WebP file in the place of each PNG of a page."""

    default_priority = 210  # after Sphinx has fetched or unpacked the pictures
    formats = ("html",)

    def match(self, node: nodes.image) -> bool:
        """Whether a picture is a PNG file of the book."""
        return node["uri"] in self.env.images and node["uri"].lower().endswith(".png")

    def handle(self, node: nodes.image) -> None:
        """Convert the picture, or take what an earlier build has converted; an empty file says that PNG is smaller."""
        source = node["uri"]
        png = (Path(self.app.srcdir) / source).read_bytes()
        folder = Path(self.app.doctreedir).parent / ".pictures"
        light = folder / f"{hashlib.sha256(png).hexdigest()[:32]}-{QUALITY}.webp"
        if not light.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(light) as part:
                part.write_bytes(webp(png))
        if light.stat().st_size:
            node["uri"] = str(light)
            node["candidates"] = {"*": str(light)}
            self.env.original_image_uri[str(light)] = source
            self.env.images.add_file(self.env.docname, str(light))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_post_transform(Lighter)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

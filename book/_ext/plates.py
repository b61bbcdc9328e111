"""Pictures for paper: JPEG, where a browser would store more in its PDF.

Chromium keeps a JPEG file as it is, and stores every other picture without loss: a photograph of 100 kB as WebP becomes
a megabyte.  A chart of few colours is smaller without loss, and stays.
"""

import io
import re
import zlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

QUALITY = 90  # as the pages' WebP, with colours at full resolution: no ringing around letters that a print shows
PICTURE = re.compile(r'(?<= src=")file://[^"]+\.(?:webp|png)(?=")')


def jpeg(picture: bytes) -> bytes:
    """A picture as JPEG, on white where it is transparent; nothing where that is larger than what a PDF would hold."""
    with Image.open(io.BytesIO(picture)) as image:
        seen = image.convert("RGBA")
    paper = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    buffer = io.BytesIO()
    paper.save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return buffer.getvalue() if len(buffer.getvalue()) < len(zlib.compress(paper.tobytes())) else b""


def lighter(document: str, folder: Path) -> str:
    """A document in HTML with JPEG files, written to a folder, in the place of the pictures that they make smaller."""
    addresses = {}
    for number, address in enumerate(dict.fromkeys(PICTURE.findall(document))):
        light = jpeg(Path(unquote(urlsplit(address).path)).read_bytes())
        place = folder / f"plate{number}.jpg"
        if light:
            place.write_bytes(light)
        addresses[address] = place.resolve().as_uri() if light else address
    return PICTURE.sub(lambda match: addresses[match[0]], document)

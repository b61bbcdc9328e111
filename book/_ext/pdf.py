"""The whole built book as one PDF, made by Chromium: cover, contents with page numbers, every page in its order.

    python book/_ext/pdf.py _build/html _build/book.pdf
    python book/_ext/pdf.py _build/html _build/questions.pdf --solutions 0 --code 0

The pages are those of the folder, whose own list of contents gives their order: `_build/html/ko` is the Korean book.
`--solutions 0` leaves the solutions of the exercises out, and `--code 0` the code that the pages hide.  Links between
pages lead to their place in the PDF.  Photographs are JPEG there (`plates.py`).
"""

import argparse
import base64
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pikepdf
from pypdf import PdfReader, PdfWriter

import plates
from binding import Binding
from chromium import Chromium
from gadkit.files import replacing

SHEET = Path(__file__).with_name("pdf.css")
WIDTH = 658  # pixels: A4 without its margins, by pdf.css; in FIT, the same of A4 on its side
READY = """(async () => {
  if (window.MathJax?.startup) await MathJax.startup.promise;
  await document.fonts.ready;
  await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
  return [...document.images].filter((image) => !image.naturalWidth).map((image) => image.src);
})()"""
# what is wider than the page, such as a long equation or a table of many columns, becomes as small as it must
FIT = """(() => {
  const found = [...document.querySelectorAll("mjx-container[display=true], article table, .survey-drawing")];
  const ratios = found.map((wide) => { // all are measured before one is changed: the book is laid out once
    const room = wide.closest(".survey-browser") ? 986 : wide.parentElement.clientWidth;
    return room / Math.max(wide.scrollWidth, wide.getBoundingClientRect().width);
  });
  found.forEach((wide, number) => { if (ratios[number] < 0.998) wide.style.zoom = ratios[number]; });
})()"""
NUMBER = """((numbers) => {
  for (const place of document.querySelectorAll("[data-chapter]")) place.textContent = numbers[place.dataset.chapter];
})"""


def printed(page: Chromium) -> bytes:
    """The document in a browser as PDF, with marks for screen readers."""
    options = {"preferCSSPageSize": True, "printBackground": True, "generateTaggedPDF": True}
    stream, pieces = page("Page.printToPDF", **options, transferMode="ReturnAsStream")["stream"], []
    while True:
        piece = page("IO.read", handle=stream, size=1 << 22)
        pieces.append(base64.b64decode(piece["data"]) if piece.get("base64Encoded") else piece["data"].encode())
        if piece["eof"]:
            page("IO.close", handle=stream)
            return b"".join(pieces)


def begins(pdf: Path, chapters: Sequence[str]) -> dict[str, int]:
    """The numbers of the pages on which chapters begin.  Raises RuntimeError where one is not found."""
    reader = PdfReader(pdf)
    places = {name.lstrip("/"): place for name, place in reader.named_destinations.items()}
    if missing := [name for name in chapters if name not in places]:
        raise RuntimeError(f"the PDF has no place {missing[0]}, which its contents lead to")
    return {name: 1 + reader.get_destination_page_number(places[name]) for name in chapters}


def outlined(pdf: Path, binding: Binding, numbers: dict[str, int]) -> PdfWriter:
    """A printed book with parts and chapters beside its pages; those of Chromium's have their titles twice."""
    writer = PdfWriter(clone_from=pdf)
    for part, paths in binding.parts:
        keys = [binding.key[path] for path in paths]
        above = writer.add_outline_item(title=part, page_number=numbers[keys[0]] - 1) if part and keys else None
        for key in keys:
            writer.add_outline_item(title=binding.titles[key], page_number=numbers[key] - 1, parent=above)
    return writer


def write(binding: Binding, out: Path) -> int:
    """Print a book; the number of its pages.  Raises RuntimeError where Chromium is missing or a picture is."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        bound, pdf = Path(folder, "book.html"), Path(folder, "book.pdf")
        document = binding.document(SHEET.read_text(encoding="utf-8"))
        bound.write_text(plates.lighter(document, Path(folder)), encoding="utf-8")
        with Chromium(Path(folder, "profile")) as page:
            page.patience = 7200  # a whole book on a busy machine
            page.look(WIDTH)
            page("Emulation.setEmulatedMedia", media="print")
            page.open(bound)
            if lost := page.run(READY):
                raise RuntimeError(f"a picture of the built book does not load: {lost[0]}")
            page.run(FIT)
            pdf.write_bytes(printed(page))
            numbers = begins(pdf, binding.keys)
            page.run(f"{NUMBER}({numbers})")
            pdf.write_bytes(printed(page))
            if numbers != begins(pdf, binding.keys):  # the room for a number is there before the number
                raise RuntimeError("the numbers in the contents have moved the pages that they count")
        writer, whole = outlined(pdf, binding, numbers), Path(folder, "whole.pdf")
        writer.write(whole)
        # what a screen reader needs are a quarter of a million small objects, which only streams of objects compress
        with replacing(out) as part, pikepdf.open(whole) as found:
            found.save(part, object_stream_mode=pikepdf.ObjectStreamMode.generate)
        return len(writer.pages)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a PDF of a book; the status is 2 if the book or Chromium is missing."""
    parser = argparse.ArgumentParser(description="The built book as one PDF.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the built book, such as _build/html")
    parser.add_argument("out", type=Path, metavar="FILE", help="where the PDF goes")
    for name, what in (("solutions", "the solutions of the exercises"), ("code", "the code that pages hide")):
        parser.add_argument(f"--{name}", type=int, choices=(0, 1), default=1, help=f"1 with, 0 without {what}")
    given = parser.parse_args(arguments)
    try:
        count = write(Binding(given.folder, bool(given.solutions), bool(given.code)), given.out)
    except (ValueError, RuntimeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{given.out}: {count} pages, {given.out.stat().st_size / 1e6:.0f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""TIFF files, byte by byte: what cameras and microscopes write and Pillow does not."""

import struct
import zlib
from pathlib import Path

import numpy as np

SHORT, LONG = 3, 4  # types of a tag's values


def write_tiff(
    path: Path,
    values: np.ndarray,
    photometric: int = 1,
    planar: bool = False,
    order: str = "<",
    deflate: bool = False,
    packed: int | None = None,
    **tags: int,
) -> Path:
    """Write (h, w) or (h, w, c) of any dtype, in one strip or one a plane; `packed` is a number of bits below 16."""
    values = values[..., None] if values.ndim == 2 else values
    height, width, bands = values.shape
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    planes = [values[..., i] for i in range(bands)] if planar else [values]
    if packed:
        strips = [_packed(plane.reshape(height, -1), packed) for plane in planes]
    else:
        strips = [plane.astype(values.dtype.newbyteorder(order)).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    bits = packed or values.dtype.itemsize * 8
    content, places = b"", []
    for strip in strips:
        places.append(8 + len(content))
        content += strip + b"\0" * (len(strip) % 2)
    fields = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * bands),
        259: (SHORT, [8 if deflate else 1]),
        262: (SHORT, [photometric]),
        273: (LONG, places),
        277: (SHORT, [bands]),
        278: (LONG, [height]),
        279: (LONG, [len(strip) for strip in strips]),
        284: (SHORT, [2 if planar else 1]),
        339: (SHORT, [kind] * bands),
    }
    colours = {2: 3, 5: 4}.get(photometric, 1)
    if bands > colours:
        fields[338] = (SHORT, [0] * (bands - colours))
    fields |= {int(tag.removeprefix("t")): (SHORT, [value]) for tag, value in tags.items()}
    start = 8 + len(content)
    entries, more, free = b"", b"", start + 2 + 12 * len(fields) + 4
    for tag, (type_, numbers) in sorted(fields.items()):
        data = struct.pack(f"{order}{len(numbers)}{'H' if type_ == SHORT else 'I'}", *numbers)
        entries += struct.pack(f"{order}HHI", tag, type_, len(numbers))
        if len(data) > 4:
            entries += struct.pack(f"{order}I", free + len(more))
            more += data + b"\0" * (len(data) % 2)
        else:
            entries += data.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    directory = struct.pack(f"{order}H", len(fields)) + entries + b"\0" * 4 + more
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + content + directory)
    return path


def write_png16(path: Path, values: np.ndarray) -> Path:
    """Write (h, w, c) of 16 bits as a PNG: grey with alpha, colour, or colour with alpha."""
    kind = {2: 4, 3: 2, 4: 6}[values.shape[2]]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def _packed(rows: np.ndarray, bits: int) -> bytes:
    """Rows of values without the bits that they do not need, each row from a new byte on."""
    flat = (rows[..., None].astype(int) >> np.arange(bits - 1, -1, -1)) & 1  # (h, w, bits)
    return np.packbits(flat.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()

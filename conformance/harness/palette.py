"""A screenshot as a PNG of few colours: a tenth of the bytes, and no difference that anybody sees on a page of text."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLORS = 256
# Which bytes of a pixel are told apart when colours are counted: text has a thousand shades between its colour and the paper's.
KEPT_BITS = 0xF8


def squeeze(png: bytes) -> bytes:
    """The same picture, of at most 256 colours: those that it has most of."""
    width, height, lines = _pixels(png)
    pixels = [line[at : at + 3] for line in lines for at in range(0, 3 * width, 3)]
    counted = Counter(pixels)
    # Of shades that are nearly the same, the most frequent one stands for all.
    leaders: dict[tuple[int, ...], bytes] = {}
    for color, _ in counted.most_common():
        leaders.setdefault(tuple(part & KEPT_BITS for part in color), color)
    weight = Counter({leader: 0 for leader in leaders.values()})
    for color, count in counted.items():
        weight[leaders[tuple(part & KEPT_BITS for part in color)]] += count
    palette = [color for color, _ in weight.most_common(COLORS)]
    place = {color: index for index, color in enumerate(palette)}
    for color in counted:
        if color not in place:
            place[color] = min(range(len(palette)), key=lambda index: _distance(palette[index], color))
    indexes = bytes(place[pixel] for pixel in pixels)
    rows = b"".join(b"\0" + indexes[at : at + width] for at in range(0, width * height, width))
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", head), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return SIGNATURE + b"".join(map(_chunk, parts))


def squeeze_file(path: Path) -> None:
    path.write_bytes(squeeze(path.read_bytes()))


def _distance(a: bytes, b: bytes) -> int:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    name, data = part
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height, and the lines, three bytes a pixel."""
    assert png.startswith(SIGNATURE), "this is no PNG"
    at, data, head, colors = len(SIGNATURE), b"", b"", b""
    while at < len(png):
        (length,), name = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        head = body if name == b"IHDR" else head
        data += body if name == b"IDAT" else b""
        colors = body if name == b"PLTE" else colors
        at += length + 12
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    assert (depth, interlaced) == (8, 0) and kind in (2, 3, 6), "no screenshot has another form"
    if kind == 3:
        return width, height, _indexed(zlib.decompress(data), width, height, colors)
    size = 3 if kind == 2 else 4
    raw, step = zlib.decompress(data), 1 + size * width
    lines, above = [], bytes(size * width)
    for y in range(height):
        line = bytearray(raw[y * step + 1 : (y + 1) * step])
        _unfilter(raw[y * step], line, above, size)
        above = bytes(line)
        lines.append(above if size == 3 else b"".join(above[x : x + 3] for x in range(0, len(above), 4)))
    return width, height, lines


def _indexed(raw: bytes, width: int, height: int, colors: bytes) -> list[bytes]:
    """Lines of a picture as `squeeze` writes it."""
    rows = [raw[y * (width + 1) + 1 : (y + 1) * (width + 1)] for y in range(height)]
    return [b"".join(colors[3 * index : 3 * index + 3] for index in row) for row in rows]


def _unfilter(kind: int, line: bytearray, above: bytes, size: int) -> None:
    if kind == 2:
        # The most frequent form, at once.
        line[:] = bytes(x + y & 255 for x, y in zip(line, above, strict=True))
    elif kind:
        for at in range(len(line)):
            _unfilter_at(kind, line, above, size, at)


def _unfilter_at(kind: int, line: bytearray, above: bytes, size: int, at: int) -> None:
    """Adds what a byte was said to differ from."""
    left, corner = (line[at - size], above[at - size]) if at >= size else (0, 0)
    guess = left + above[at] - corner
    # Of those that are as near, the first one.
    near = min((left, above[at], corner), key=lambda byte: abs(guess - byte))
    line[at] = line[at] + (0, left, above[at], (left + above[at]) // 2, near)[kind] & 255

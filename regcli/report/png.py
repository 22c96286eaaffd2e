"""Pictures of 256 colours as PNG data URIs."""

import base64
import struct
import zlib

import numpy as np

GREYS = 192  # of a palette's 256 colours, from black to white; the others mark things


def data_uri(picture: np.ndarray, palette: np.ndarray) -> str:
    """A picture as a `data:` address.

    Args:
        picture: (H, W) uint8, numbers of colours, the top row first.
        palette: (N, 3) uint8, N <= 256.

    Source: PNG, W3C recommendation of 2003; colour type 3, one byte per pixel.
    """
    height, width = picture.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = np.zeros((height, width + 1), np.uint8)  # the first byte of a row: not filtered
    rows[:, 1:] = picture
    parts = (
        (b"IHDR", header),
        (b"PLTE", palette.astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def greys(*marks: tuple[int, int, int]) -> np.ndarray:
    """GREYS greys, then the colours of what is marked; (N, 3) uint8."""
    ramp = np.linspace(0, 255, GREYS).round()[:, None].repeat(3, axis=1)
    return np.concatenate([ramp, np.array(marks).reshape(-1, 3)]).astype(np.uint8)


def blend(anchors: list[tuple[int, int, int]], *marks: tuple[int, int, int]) -> np.ndarray:
    """GREYS colours from the first anchor to the last, then the marks; (N, 3) uint8."""
    places = np.linspace(0, len(anchors) - 1, GREYS)
    table = np.array(anchors, float)
    ramp = [np.interp(places, range(len(anchors)), table[:, c]) for c in range(3)]
    colours = np.stack(ramp, axis=1).round()
    return np.concatenate([colours, np.array(marks).reshape(-1, 3)]).astype(np.uint8)


def _chunk(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

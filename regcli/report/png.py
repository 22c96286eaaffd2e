"""Pictures of 256 colours as PNG data URIs."""

import base64
import io

import numpy as np
import PIL.Image

GREYS = 192  # of a palette's 256 colours, from black to white; the others mark things


def data_uri(picture: np.ndarray, palette: np.ndarray) -> str:
    """A picture as a `data:` address.

    Args:
        picture: (H, W) uint8, numbers of colours, the top row first.
        palette: (N, 3) uint8, N <= 256.
    """
    image = PIL.Image.fromarray(picture)
    image.putpalette(palette.astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


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

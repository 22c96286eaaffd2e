"""A picture of features: at every level the image, the colours of its features, and their rank."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regcli.registration.features.maps import FeatureMaps, LevelMaps

_TITLES = ("image at that scale", "features as colours (PCA)", "largest channel", "rank of $J J^T$")
_BACK, _TEXT, _NOTHING = "black", "0.9", "0.13"  # nothing: the background's channel, rank 0
_RANKS = (_NOTHING, "#6a3d9a", "#e8684a", "#ffe680")  # brighter is more
# Hues that are far apart for neighbours in a brain; further channels begin again.
_HUES = (
    *("#f5f5f0", "#8c9bab", "#3fa7f5", "#ffd9a0", "#a0795a", "#2fbf71", "#7be0c3", "#e0457b"),
    *("#f39c3d", "#1f6fd6", "#56d6f0", "#b8e04a", "#ffe14a", "#ff5a36", "#7a6ff0", "#f07ad8"),
    *("#9a3fb5", "#c9b458", "#4f8f4f", "#b55a5a"),
)
_MARGIN_MM, _PANEL, _LEGEND = 6.0, 3.1, 4  # inches that a panel is wide; columns of names
_LOW, _HIGH = 0.02, 0.98  # of the foreground, between which colours run


def draw_features(maps: FeatureMaps, path: Path, name: str) -> None:
    """Draw one axial plane, the same at all levels.

    Args:
        maps: What to draw.
        path: PNG.
        name: Of the image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    (left, right), (back, front) = window = _window(maps.levels[-1])
    rows, tall = len(maps.levels), _PANEL * (front - back) / (right - left)
    size = (4 * _PANEL + 0.6, rows * (tall + 0.3) + 1.3)
    figure = Figure(figsize=size, layout="constrained", facecolor=_BACK)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 4, squeeze=False)
    seen: set[int] = set()
    for level, row in zip(maps.levels, axes, strict=True):
        share = _plane(maps.levels[0]) / max(maps.levels[0].space.shape[2] - 1, 1)
        k = round(share * (level.space.shape[2] - 1))
        largest = level.features[..., k].max(dim=0).indices
        inside = level.foreground[..., k] | (largest > 0)  # fluid may be as dark as air
        seen |= set(largest[inside].tolist())
        panels = (
            _grey(level, k),
            _colours(level, k, inside),
            _painted(largest, inside, [_hue(n) for n in range(len(maps.channels))]),
            _painted(level.rank[..., k].long(), inside, list(_RANKS)),
        )
        for panel, axis in zip(panels, row, strict=True):
            _show(axis, panel, level, window)
        row[0].set_ylabel(f"{level.space.spacing[0]:.4g} mm", color=_TEXT, fontsize=13)
        explained = " + ".join(f"{100 * x:.0f}" for x in level.explained)
        row[1].set_xlabel(f"explains {explained} %", color=_TEXT)
        percent = [f"{n}: {100 * x:.1f} %" for n, x in enumerate(level.rank_shares())]
        row[3].set_xlabel("   ".join(percent), color=_TEXT)
    for axis, title in zip(axes[0], _TITLES, strict=True):
        axis.set_title(title, color=_TEXT, fontsize=13)
    for side, x, align in (("L", 0.02, "left"), ("R", 0.98, "right")):
        where = axes[0, 0].transAxes
        axes[0, 0].text(x, 0.5, side, color=_TEXT, ha=align, va="center", transform=where)
    names = [Patch(color=_hue(n), label=maps.channels[n].name) for n in sorted(seen)]
    ranks = [Patch(color=colour, label=f"rank {n}") for n, colour in enumerate(_RANKS)]
    look: dict[str, Any] = {"frameon": False, "labelcolor": _TEXT}
    figure.legend(handles=names, loc="outside lower left", ncols=_LEGEND, **look)
    figure.legend(handles=ranks, loc="outside lower right", ncols=2, **look)
    figure.suptitle(f"{name}, features of {maps.weights[0]}", color=_TEXT, fontsize=15)
    figure.savefig(path, format="png", dpi=110, facecolor=_BACK)


def _plane(level: LevelMaps) -> int:
    """The axial plane through the middle of the foreground."""
    return round(float(level.foreground.nonzero()[:, 2].float().mean()))


def _window(level: LevelMaps) -> tuple[tuple[float, float], tuple[float, float]]:
    """The extent of the picture, mm along the first two axes from the grid's first voxel."""
    ends = []
    for axis in (0, 1):
        h, found = level.space.spacing[axis], level.foreground.nonzero()[:, axis]
        first, last = h * float(found.min()), h * float(found.max())
        ends.append((first - _MARGIN_MM, last + _MARGIN_MM))
    return ends[0], ends[1]


def _show(axis: Any, panel: np.ndarray, level: LevelMaps, window: Any) -> None:
    """An image (I, J, 3) with right to the right and front to the top."""
    (i, j, _), (h, v, _) = level.space.shape, level.space.spacing
    extent = (-0.5 * h, (i - 0.5) * h, -0.5 * v, (j - 0.5) * v)
    axis.imshow(panel.swapaxes(0, 1), origin="lower", extent=extent, interpolation="nearest")
    axis.set(xlim=window[0], ylim=window[1], xticks=[], yticks=[], facecolor=_BACK)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _grey(level: LevelMaps, k: int) -> np.ndarray:
    return level.image[0, ..., k].clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()


def _colours(level: LevelMaps, k: int, inside: Tensor) -> np.ndarray:
    """The components as red, green and blue, the foreground's range of each stretched."""
    out = torch.zeros(*level.space.shape[:2], 3)
    for n, component in enumerate(level.pca):
        values = component[level.foreground].sort().values
        low, high = (values[int(p * (len(values) - 1))] for p in (_LOW, _HIGH))
        out[..., n] = (component[..., k] - low) / (high - low).clamp(min=1e-6)
    return (out.clamp(0, 1) * inside[..., None]).numpy()


def _painted(numbers: Tensor, inside: Tensor, colours: list[str]) -> np.ndarray:
    """Colours by number, black outside."""
    from matplotlib.colors import to_rgb

    table = np.array([to_rgb(colour) for colour in colours])
    return table[numbers.numpy()] * inside.numpy()[..., None]


def _hue(channel: int) -> str:
    return _NOTHING if channel == 0 else _HUES[(channel - 1) % len(_HUES)]

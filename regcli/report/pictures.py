"""The pictures of a report: planes in grey, as checkerboards, with edges, as Jacobians."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regcli.evaluate.metrics import log_determinant
from regcli.image import Image
from regcli.ops.jacobian import jacobian_determinant
from regcli.report.grid import deformed_grid
from regcli.report.planes import Plane, choose_planes
from regcli.report.png import GREYS, blend, data_uri, greys
from regcli.warp import Warp

EDGE, FOLD = (255, 178, 0), (255, 232, 0)
SHRUNK_GROWN = [(16, 52, 140), (120, 172, 226), (246, 246, 246), (240, 156, 112), (150, 16, 36)]
OCTAVES = 3.0  # determinants from 1/8 to 8 differ in colour
_LOW, _HIGH = 1.0, 99.8  # percentiles of what is not the least, between which greys run
_FIELDS = 8  # of the checkerboard along the shorter side
_EDGE_PIXELS, _STEEP = 1.5, 0.2  # blur before edges are sought; share of the steepest, of an edge
_BINS = 60


@dataclass(frozen=True, eq=False)
class Subject:
    """The images and maps of a report.

    Attributes:
        fixed: One channel.
        moving: One channel.
        moved: The moving image on the fixed grid.
        stages: A warp for each of "before", "linear", "after".
        mask: (I, J, K) bool on the fixed grid, where numbers are taken.
    """

    fixed: Image
    moving: Image
    moved: Image
    stages: dict[str, Warp]
    mask: Tensor


@dataclass(frozen=True)
class View:
    """A plane, drawn.

    Attributes:
        plane: Where.
        layers: Data URIs of the fixed image and of the moving one at each stage, by name.
        checkerboard: Data URI, fixed and moved in turn.
        edges: Data URI, edges of the fixed image over the moved one.
        jacobian: Data URI, or None of a linear map.
        grid: Lines of the fixed grid, deformed; see `deformed_grid`.
        affine: Data URI, the moving image that the affine part alone has carried.
    """

    plane: Plane
    layers: dict[str, str]
    checkerboard: str
    edges: str
    jacobian: str | None
    grid: list[np.ndarray]
    affine: str


@dataclass(frozen=True)
class Histogram:
    """Determinants inside the mask.

    Attributes:
        counts: Voxels by log2 of the determinant, in equal steps from -OCTAVES to OCTAVES; the
            outermost take what lies beyond.
        folds: Voxels with a determinant <= 0.
    """

    counts: list[int]
    folds: int


@dataclass(frozen=True)
class Pictures:
    """All that is drawn from volumes; holds none."""

    views: list[View]
    histogram: Histogram | None


def draw(subject: Subject) -> Pictures:
    """Draw the planes through the middle of the mask."""
    planes = choose_planes(subject.fixed.space, subject.mask)
    warp = subject.stages["after"]
    determinant = None
    if warp.displacement is not None:
        voxels = warp.space.vectors_to_voxel(warp.displacement)
        determinant = Image(jacobian_determinant(voxels).cpu(), warp.space)
    slices = [_slices(plane, subject) for plane in planes]
    limits = {
        "fixed": _range([s["fixed"] for s in slices]),
        "moving": _range([s["after"] for s in slices]),
    }
    views = [
        _view(plane, _scaled(found, limits), warp, determinant)
        for plane, found in zip(planes, slices, strict=True)
    ]
    return Pictures(views, None if determinant is None else _histogram(determinant, subject.mask))


def _slices(plane: Plane, subject: Subject) -> dict[str, np.ndarray]:
    """Intensities of each layer, (H, W)."""
    stages = dict(subject.stages)
    if stages["after"].displacement is None:  # the linear stage is all there is
        del stages["linear"]
    del stages["after"]  # as it is in the file
    found = {"fixed": plane.slice(subject.fixed)}
    found |= {name: plane.slice(subject.moving, warp) for name, warp in stages.items()}
    affine = Warp(subject.fixed.space, subject.stages["after"].affine)
    found["affine"] = plane.slice(subject.moving, affine)
    return found | {"after": plane.slice(subject.moved)}


def _range(planes: list[np.ndarray]) -> tuple[float, float]:
    """The intensities that are drawn black and white."""
    values = np.concatenate([plane.ravel() for plane in planes])
    shown = values[values > values.min()]
    if len(shown) == 0:
        return float(values.min()), float(values.min()) + 1
    low, high = np.percentile(shown, (_LOW, _HIGH))
    low = min(low, values.min()) if values.min() >= 0 else low  # black is nothing
    return float(low), float(high) if high > low else float(low) + 1


def _scaled(
    found: dict[str, np.ndarray], limits: dict[str, tuple[float, float]]
) -> dict[str, np.ndarray]:
    """Each layer as numbers of greys."""
    out = {}
    for name, plane in found.items():
        low, high = limits["fixed" if name == "fixed" else "moving"]
        share = np.clip((plane - low) / (high - low), 0, 1)
        out[name] = (share * (GREYS - 1)).round().astype(np.uint8)
    return out


def _view(
    plane: Plane, layers: dict[str, np.ndarray], warp: Warp, determinant: Image | None
) -> View:
    fixed, after, affine = layers["fixed"], layers["after"], layers.pop("affine")
    return View(
        plane=plane,
        layers={name: data_uri(layer, greys()) for name, layer in layers.items()},
        checkerboard=data_uri(np.where(_chequers(fixed.shape), fixed, after), greys()),
        edges=data_uri(np.where(_edges(fixed), GREYS, after), greys(EDGE)),
        jacobian=None if determinant is None else _jacobian(plane, determinant),
        grid=deformed_grid(plane, warp),
        affine=data_uri(affine, greys()),
    )


def _chequers(shape: tuple[int, ...]) -> np.ndarray:
    side = max(2, min(shape) // _FIELDS)
    rows, columns = np.indices(shape) // side
    return (rows + columns) % 2 == 0


def _edges(picture: np.ndarray) -> np.ndarray:
    """Edges: zero crossings of the blurred picture's Laplacian where the picture is steep.

    Source: Marr and Hildreth, Theory of edge detection, 1980.
    """
    smooth = _blurred(picture)
    padded = np.pad(smooth, 1, mode="edge")
    right, left = padded[1:-1, 2:], padded[1:-1, :-2]
    below, above = padded[2:, 1:-1], padded[:-2, 1:-1]
    steep = np.hypot(right - left, below - above)
    positive = right + left + below + above - 4 * smooth > 0
    crossing = np.zeros(picture.shape, bool)
    crossing[:, :-1] |= positive[:, :-1] != positive[:, 1:]
    crossing[:-1] |= positive[:-1] != positive[1:]
    return crossing & (steep > _STEEP * np.percentile(steep, 99))


def _blurred(picture: np.ndarray) -> np.ndarray:
    """A picture after a Gaussian; here, as importing scipy takes longer than drawing all of it."""
    reach = round(3 * _EDGE_PIXELS)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _EDGE_PIXELS) ** 2)
    smooth = np.pad(picture.astype(np.float64), reach, mode="edge")
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(smooth, len(kernel), axis=axis)
        smooth = windows @ (kernel / kernel.sum())
    return smooth


def _jacobian(plane: Plane, determinant: Image) -> str:
    found = plane.slice(determinant, nearest=True)
    share = np.clip(_octaves(torch.from_numpy(found)).numpy() / (2 * OCTAVES) + 0.5, 0, 1)
    colours = (share * (GREYS - 1)).round().astype(np.uint8)
    return data_uri(np.where(found <= 0, GREYS, colours), blend(SHRUNK_GROWN, FOLD))


def _histogram(determinant: Image, mask: Tensor) -> Histogram:
    values = determinant.data[0][mask.cpu()]
    folds = int((values <= 0).sum())
    octaves = _octaves(values[values > 0]).clamp(-OCTAVES, OCTAVES)
    counts = torch.histc(octaves, _BINS, -OCTAVES, OCTAVES)
    return Histogram([int(n) for n in counts], folds)


def _octaves(determinant: Tensor) -> Tensor:
    return log_determinant(determinant) / float(np.log(2))

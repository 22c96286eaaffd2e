"""Pairs of small head phantoms with an exact phi, made by examples/phantom.py."""

import functools
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from regcli.image import Image, Space

_HEAD_MM = 185.0  # the longest way through the phantom


def _load_example(name: str):
    path = Path(__file__).parents[1] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"examples_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


phantom = _load_example("phantom")


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images and the map between them.

    Attributes:
        fixed, moving: (1, I, J, K) float32, about 0..1.
        fixed_labels, moving_labels: (1, I, J, K) int16, FreeSurfer codes.
        phi: Fixed world points (N, 3), mm, to moving world points, float64.
        phi_inverse: The way back, to 1e-6 mm.
        points: (N, 3) world points in the fixed brain.
    """

    fixed: Image
    moving: Image
    fixed_labels: Image
    moving_labels: Image
    phi: Callable[[Tensor], Tensor]
    phi_inverse: Callable[[Tensor], Tensor]
    points: Tensor


@functools.cache  # half a second each
def pair(
    space_fixed: Space,
    space_moving: Space | None = None,
    *,
    contrast: Literal["same", "cross"] = "same",
    seed: int = 0,
    linear: bool = True,
    steepness: float = 0.7,
    noise: float = 0.01,
) -> Pair:
    """A head that fills the fixed grid, and the same head deformed on the moving grid.

    Who asks twice for the same (of the same Space objects) gets one object: tests only read it.

    Args:
        space_fixed: 3-D, or 2-D with one slice.
        space_moving: Default the same grid.
        contrast: "cross": T1-like against T2-like.
        seed: Another anatomy, map and noise.
        linear: Whether phi also turns by 10 degrees, scales by 1.05 and takes the middle of the
            fixed grid near that of the moving one; else phi is x + u(x) in one world.
        steepness: Bound of |Du|, below 1; 0 for no deformation.
        noise: Of a white matter of 0.8; the bias field is ten times as strong.
    """
    space_moving = space_moving or space_fixed
    phi, phi_inverse = exact_map(
        space_fixed, space_moving, seed=seed, linear=linear, steepness=steepness
    )
    start, scale = space_fixed.centre.numpy(), _extent(space_fixed) / _HEAD_MM
    voxel = max(_solid_spacings(space_fixed)) / scale
    anatomy = phantom.Anatomy(phantom.random_folds(seed, max(24.0, 8 * voxel)))
    rng = np.random.default_rng(seed + 2)

    def images(space: Space, points: np.ndarray, column: int) -> tuple[Image, Image]:
        inner = (points - start) / scale
        values, codes = (v.reshape(space.shape) for v in anatomy.at(inner, column, 0.7 * voxel))
        scanned = phantom.scan(values, rng, bias=10 * noise, noise=noise).astype(np.float32)
        labels = Image(torch.from_numpy(codes)[None], space, labels=True)
        return Image(torch.from_numpy(scanned)[None], space), labels

    on_fixed = phantom.grid_points(space_fixed.shape, space_fixed.affine.numpy())
    on_moving = phantom.grid_points(space_moving.shape, space_moving.affine.numpy())
    fixed, fixed_labels = images(space_fixed, on_fixed, 2)
    column = 3 if contrast == "cross" else 2
    back = phi_inverse(torch.from_numpy(on_moving)).numpy()
    moving, moving_labels = images(space_moving, back, column)
    brain = on_fixed[fixed_labels.data.numpy().ravel() > 0]
    points = torch.from_numpy(rng.permutation(brain)[:50])
    return Pair(fixed, moving, fixed_labels, moving_labels, phi, phi_inverse, points)


def exact_map(
    space_fixed: Space,
    space_moving: Space,
    *,
    seed: int = 0,
    linear: bool = True,
    steepness: float = 0.7,
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """phi of `pair` and its inverse, on world points (N, 3), mm; float64."""
    start = space_fixed.centre.numpy()
    end = space_moving.centre.numpy() if linear else start
    scale = _extent(space_fixed) / _HEAD_MM
    truth = _truth(space_fixed, seed, linear, steepness)

    def phi(points: Tensor) -> Tensor:
        inner = (points.to(torch.float64).numpy() - start) / scale
        return torch.from_numpy(end + scale * truth.forward(inner))

    def phi_inverse(points: Tensor) -> Tensor:
        inner = (points.to(torch.float64).numpy() - end) / scale
        return torch.from_numpy(start + scale * truth.backward(inner))

    return phi, phi_inverse


def _solid_spacings(space: Space) -> list[float]:
    return [step for step, solid in zip(space.spacing, space.solid, strict=True) if solid]


def _extent(space: Space) -> float:
    """The shortest side of the field of view, mm; a missing axis does not count."""
    lengths = [n for n in space.shape if n > 1]
    return min(n * step for n, step in zip(lengths, _solid_spacings(space), strict=True))


def _truth(space: Space, seed: int, linear: bool, steepness: float):
    """phi in the phantom's own mm; in 2-D it stays in the plane."""
    warp = phantom.random_warp(seed + 1, steepness=steepness)
    axis, shift = np.array([0.3, -0.4, 1.0]), np.array([4.0, -3.0, 5.0])
    if not all(space.solid):
        axis = space.affine[:3, space.solid.index(False)].numpy()
        axis = axis / np.linalg.norm(axis)
        flat = np.eye(3) - np.outer(axis, axis)
        shift = flat @ shift
        warp = replace(warp, vectors=warp.vectors @ flat, amplitudes=warp.amplitudes @ flat)
    affine = np.eye(4)
    if linear:
        affine = phantom.turned(10, tuple(axis), scale=1.05)
        affine[:3, 3] = shift
    return phantom.Truth(affine, warp)


def corrupted(image, at):
    """The image with a bright box somewhere, and the mask that leaves the box out."""
    data, mask = image.data.clone(), torch.ones_like(image.data)
    box = (0, *(slice(c - 3, c + 4) for c in at))
    data[box] = 3 * float(data.max())
    mask[box] = 0
    return Image(data, image.space), mask

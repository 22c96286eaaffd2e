"""Make a pair of head phantoms whose correct registration is known.

    python examples/phantom.py OUT/ [--spacing 2] [--seed 0] [--contrast same|cross]

Every voxel of both images is computed from formulas at its world point, so no image is made by
resampling the other. The anatomy T(p) is defined at points p of the fixed world; the moving image
at y is T(phi^-1(y)), where phi(x) = A (x + u(x)) is a smooth invertible map. All points are RAS mm.

OUT/ receives fixed and moving images and labels (.nii.gz; FreeSurfer codes), corresponding points
(fixed_points.csv, moving_points.csv: x,y,z) and truth_warp.csv, which samples phi inside the brain
(x,y,z of the fixed side; x,y,z of the moving side).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

# name: code on the left, code on the right, T1-like value, T2-like value
TISSUES = {
    "air": (0, 0, 0.02, 0.02),
    "scalp": (0, 0, 0.70, 0.42),
    "skull": (0, 0, 0.14, 0.08),
    "muscle": (0, 0, 0.40, 0.26),
    "csf": (24, 24, 0.20, 1.00),
    "cortex": (3, 42, 0.52, 0.60),
    "white": (2, 41, 0.82, 0.36),
    "cerebellar cortex": (8, 47, 0.50, 0.58),
    "cerebellar white": (7, 46, 0.80, 0.38),
    "brainstem": (16, 16, 0.74, 0.44),
    "lateral ventricle": (4, 43, 0.18, 1.00),
    "third ventricle": (14, 14, 0.18, 1.00),
    "thalamus": (10, 49, 0.63, 0.50),
    "caudate": (11, 50, 0.54, 0.56),
    "putamen": (12, 51, 0.58, 0.52),
    "pallidum": (13, 52, 0.69, 0.34),
    "hippocampus": (17, 53, 0.53, 0.64),
}


@dataclass(frozen=True)
class Waves:
    """A smooth random field: sum over m of amplitudes[m] cos(vectors[m] . p + phases[m]).

    Attributes:
        vectors: (M, 3) radians per mm.
        phases: (M,) radians.
        amplitudes: (M, C).
    """

    vectors: np.ndarray
    phases: np.ndarray
    amplitudes: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Values (N, C) at points (N, 3)."""
        return np.cos(points @ self.vectors.T + self.phases) @ self.amplitudes

    def slopes(self, points: np.ndarray) -> np.ndarray:
        """Derivatives (N, C, 3) at points (N, 3), per mm."""
        sines = -np.sin(points @ self.vectors.T + self.phases)
        return np.einsum("nm,mc,md->ncd", sines, self.amplitudes, self.vectors, optimize=True)


@dataclass(frozen=True)
class Truth:
    """phi(x) = A (x + u(x)), fixed world to moving world.

    Attributes:
        affine: A, (4, 4).
        warp: u, mm; a contraction, so that phi is invertible.
    """

    affine: np.ndarray
    warp: Waves

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Fixed points (N, 3) carried to the moving side."""
        return (points + self.warp(points)) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def backward(self, points: np.ndarray, tolerance_mm: float = 1e-7) -> np.ndarray:
        """Moving points (N, 3) carried to the fixed side, by fixed-point iteration."""
        goal = (points - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
        x = goal - self.warp(goal)
        for _ in range(100):
            step = goal - self.warp(x) - x
            x = x + step
            if np.abs(step).max(initial=0) < tolerance_mm:
                return x
        raise ValueError("the warp is too steep to be inverted")


@dataclass(frozen=True)
class Anatomy:
    """A head about 150 x 185 x 155 mm wide, centred at the world's origin.

    Attributes:
        folds: One-channel field on the brain's hull; sulci run along its zeros.
    """

    folds: Waves

    def levels(self, p: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """Depth (N,) of points (N, 3) in each tissue, mm; later tissues cover earlier ones."""
        x, y, z = p.T
        side = np.abs(x)
        head = _ellipsoid(p, (0, -1, -1), (75, 92, 77))
        hull = _smooth_min(_ellipsoid(p, (0, 0, 6), (62, 78, 59)), z + 36 - 0.004 * y**2)
        callosum = _ellipsoid(p * (0, 1, 1), (0, -2, 6), (1, 40, 22))
        fissure = np.hypot(x, np.maximum(callosum, 0)) - 0.7
        pial = np.minimum(self._folded(hull, p - np.array((0, 0, 6)), 17.0), fissure)
        small = _ellipsoid(p, (0, -47, -34), (45, 27, 19))
        folia = self._folded(small, 2 * p - np.array((0, -94, -68)), 7.0)
        mirrored = np.stack([side, y, z], axis=1)
        bent = np.stack([side - 0.004 * (y - 10) ** 2, y, z + 0.008 * (y + 5) ** 2], axis=1)
        return [
            ("scalp", head),
            ("skull", head - 5),
            ("muscle", head - 11),
            ("csf", np.minimum(np.maximum(hull, small) + 5, head - 10.5)),
            ("cortex", pial),
            ("white", pial - 2.8),
            ("cerebellar cortex", small),
            ("cerebellar white", folia - 2.5),
            ("brainstem", _ellipsoid(p, (0, -20, -32), (11, 11, 30))),
            ("lateral ventricle", _ellipsoid(bent, (8, -4, 18), (5.5, 30, 6.5))),
            ("third ventricle", _ellipsoid(p, (0, -6, 2), (2.2, 11, 8))),
            ("thalamus", _ellipsoid(mirrored, (10.5, -12, 5), (7.5, 13, 8))),
            ("caudate", _ellipsoid(mirrored, (14.5, 15, 9), (4.5, 13, 8))),
            ("putamen", _ellipsoid(mirrored, (26, 5, 2), (5.5, 15, 9))),
            ("pallidum", _ellipsoid(mirrored, (19.5, 1, 0), (4, 8.5, 6))),
            ("hippocampus", _ellipsoid(mirrored, (25, -16, -12), (6, 17, 5))),
        ]

    def at(self, points: np.ndarray, column: int, blur_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """Intensities and codes, (N,) each, of points (N, 3).

        `column` of TISSUES: 2 or 3. Edges are about `blur_mm` wide, as partial volume makes them.
        """
        values = np.full(len(points), TISSUES["air"][column])
        codes = np.zeros(len(points), np.int16)
        for name, depth in self.levels(points):
            left, right, *intensities = TISSUES[name]
            share = 0.5 + 0.5 * np.tanh(depth / blur_mm)
            values += share * (intensities[column - 2] - values)
            codes = np.where(depth > 0, np.where(points[:, 0] < 0, left, right), codes)
        return values, codes

    def _folded(self, depth: np.ndarray, radial: np.ndarray, reach: float) -> np.ndarray:
        """Depth (N,) cut by sulci: sheets 1.6 mm thick that run `reach` mm inwards.

        `radial` (N, 3): the points, from the middle of the structure.
        """
        near = depth > -0.8
        q = radial[near]
        stretch = np.linalg.norm(q / (62, 78, 59), axis=1) + 1e-3
        on_hull = q / stretch[:, None]
        slopes = self.folds.slopes(on_hull)[:, 0]
        outward = q / (np.linalg.norm(q, axis=1, keepdims=True) + 1e-3)
        slopes -= (slopes * outward).sum(1, keepdims=True) * outward
        across = np.abs(self.folds(on_hull)[:, 0]) / (np.linalg.norm(slopes, axis=1) + 0.02)
        sheets = np.hypot(stretch * across, np.maximum(depth[near] - reach, 0)) - 0.8
        folded = depth.copy()
        folded[near] = np.minimum(depth[near], sheets)
        return folded


def _ellipsoid(
    p: np.ndarray, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> np.ndarray:
    """Depth in an ellipsoid, exact to first order at its surface, mm."""
    q = (p - np.array(centre)) / radii
    size = np.linalg.norm(q, axis=1)
    return (1 - size) * size / (np.linalg.norm(q / radii, axis=1) + 1e-9)


def _smooth_min(a: np.ndarray, b: np.ndarray, width: float = 6.0) -> np.ndarray:
    return 0.5 * (a + b - np.hypot(a - b, width)) + 0.25 * width


def random_folds(seed: int, wavelength_mm: float = 24.0) -> Waves:
    """The field whose zeros are the sulci: plane waves of about one wavelength."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(20, 3))
    vectors *= 2 * np.pi / wavelength_mm / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= rng.uniform(0.8, 1.2, (20, 1))
    return Waves(vectors, rng.uniform(0, 2 * np.pi, 20), np.full((20, 1), 20**-0.5))


def random_warp(seed: int, size_mm: float = 150.0, steepness: float = 0.7) -> Waves:
    """A displacement whose derivative is nowhere longer than `steepness` (< 1)."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(6, 3))
    vectors *= 2 * np.pi / size_mm / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= rng.uniform(0.9, 1.8, (6, 1))
    amplitudes = rng.normal(size=(6, 3))
    amplitudes *= steepness / 6 / np.linalg.norm(amplitudes, axis=1, keepdims=True)
    amplitudes /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Waves(vectors, rng.uniform(0, 2 * np.pi, 6), amplitudes)


def turned(degrees: float, axis: tuple[float, float, float], scale: float = 1.0) -> np.ndarray:
    """A (4, 4) rotation about an axis through the origin, and scaling."""
    matrix = np.eye(4)
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array(axis) / np.linalg.norm(axis))
    matrix[:3, :3] = scale * turn.as_matrix()
    return matrix


def grid_points(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """World points (I * J * K, 3) of a grid's voxels."""
    voxels = np.indices(shape).reshape(3, -1).T
    return voxels @ affine[:3, :3].T + affine[:3, 3]


def scan(
    clean: np.ndarray, rng: np.random.Generator, bias: float = 0.25, noise: float = 0.02
) -> np.ndarray:
    """What a scanner makes of an image (I, J, K): a smooth bias of its own, and Rician noise."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in clean.shape), indexing="ij", sparse=True)
    slopes, frequencies, phases = rng.normal(size=3), rng.uniform(1, 2, 3), rng.uniform(0, 6, 3)
    waves = [
        s * np.cos(f * a + p) for s, f, a, p in zip(slopes, frequencies, axes, phases, strict=True)
    ]
    drift = (waves[0] + waves[1] + waves[2]) / np.linalg.norm(slopes)
    real, imaginary = noise * rng.normal(size=(2, *clean.shape))
    return np.hypot(clean * np.exp(bias * drift) + real, imaginary)


def fixed_grid(spacing: float) -> tuple[tuple[int, int, int], np.ndarray]:
    """160 x 192 x 160 mm, stored RAS, the origin in the middle."""
    i, j, k = (round(extent / spacing) for extent in (160, 192, 160))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-spacing * (n - 1) / 2 for n in (i, j, k)]
    return (i, j, k), affine


def moving_grid(spacing: float, centre: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray]:
    """About 175 x 215 x 185 mm around a point: LPS, thick slices, odd sizes, a bit oblique."""
    steps = spacing * np.array([0.9, 0.9, 1.25])
    i, j, k = (int(n) // 2 * 2 + 1 for n in (175, 215, 185) / steps)
    affine = turned(4, (1, 0.5, 0)) @ np.diag([-steps[0], -steps[1], steps[2], 1.0])
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array([i, j, k]) - 1) / 2
    return (i, j, k), affine


def write_volume(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    """int16 NIfTI with the same qform and sform."""
    image = nib.Nifti1Image(np.rint(values).astype(np.int16), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def write_points(path: Path, header: str, *columns: np.ndarray) -> None:
    """CSV of points (N, 3) side by side."""
    np.savetxt(path, np.hstack(columns), "%.6f", ",", header=header, comments="")


def main() -> None:
    """Read the command line, make the pair, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--spacing", type=float, default=2.0, help="of the fixed image, mm")
    parser.add_argument("--seed", type=int, default=0, help="another anatomy and map")
    parser.add_argument("--contrast", choices=["same", "cross"], default="same")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    anatomy = Anatomy(random_folds(options.seed))
    affine = turned(10, (0.3, -0.4, 1.0), scale=1.05)
    affine[:3, 3] = (9, -6, 12)
    truth = Truth(affine, random_warp(options.seed + 1))
    rng = np.random.default_rng(options.seed + 2)

    for name, (shape, grid) in {
        "fixed": fixed_grid(options.spacing),
        "moving": moving_grid(options.spacing, np.array([11.0, -4.0, 9.0])),
    }.items():
        column = 3 if name == "moving" and options.contrast == "cross" else 2
        parts = []
        for points in np.array_split(grid_points(shape, grid), 1 + np.prod(shape) // 30_000):
            p = points if name == "fixed" else truth.backward(points)
            parts.append(anatomy.at(p, column, 0.35 * options.spacing))
        clean, codes = (np.concatenate(part).reshape(shape) for part in zip(*parts, strict=True))
        clean = clean if name == "fixed" else clean**0.9
        write_volume(options.out / f"{name}.nii.gz", 1000 * scan(clean, rng), grid)
        write_volume(options.out / f"{name}_labels.nii.gz", codes, grid)

    lattice = grid_points((17, 21, 17), turned(0, (0, 0, 1), 8.0)) - (64, 80, 64)
    inside = lattice[anatomy.at(lattice, 2, 1.0)[1] > 0]
    landmarks = rng.permutation(inside)[:60] + rng.uniform(-3, 3, (60, 3))
    write_points(options.out / "fixed_points.csv", "x,y,z", landmarks)
    write_points(options.out / "moving_points.csv", "x,y,z", truth.forward(landmarks))
    header = "x,y,z,x_moving,y_moving,z_moving"
    write_points(options.out / "truth_warp.csv", header, inside, truth.forward(inside))


if __name__ == "__main__":
    main()

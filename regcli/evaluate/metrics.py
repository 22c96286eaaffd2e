"""Numbers that say how good a registration is: overlap, distances, folds, similarity."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from regcli.errors import InputError
from regcli.image import Space
from regcli.ops.correlation import squared_correlation
from regcli.ops.histogram import moments
from regcli.ops.jacobian import digital_determinants, jacobian_determinant
from regcli.ops.totals import total

LOG_FLOOR = 1e-3  # determinants are raised to this before their log is taken
_CONSTANT = 1e-12  # variance of an image scaled to at most 1 that counts as one value
_DENSE = 1 << 20  # codes within such a range are counted one by one
_SAMPLE = 200_000  # voxels that tell what is far out
_FLAT = 1e-5  # a window with less than this share of the image's variance is flat


def dice(fixed: Tensor, moved: Tensor, codes: Iterable[int] | None = None) -> dict[int, float]:
    """Overlap 2 |F and M| / (|F| + |M|) of every label.

    Args:
        fixed: (I, J, K) integers.
        moved: (I, J, K) integers.
        codes: Labels to compare; default all that occur but 0.

    Returns:
        A number in 0..1 per label: 0 if one of the two lacks it; no entry if both do.

    Raises:
        InputError: If the shapes differ.
    """
    _require_same_shape(fixed, moved)
    in_fixed, in_moved, in_both = map(label_sizes, (fixed, moved, fixed[fixed == moved]))
    if codes is None:
        codes = (in_fixed.keys() | in_moved.keys()) - {0}
    sizes = {code: in_fixed.get(code, 0) + in_moved.get(code, 0) for code in sorted(codes)}
    return {code: 2 * in_both.get(code, 0) / size for code, size in sizes.items() if size > 0}


def label_sizes(labels: Tensor) -> dict[int, int]:
    """Voxels of every code that occurs, 0 too, in labels of any shape; integers."""
    if labels.numel() == 0:
        return {}
    least, most = int(labels.min()), int(labels.max())
    if most - least < _DENSE:  # no sorting: a tenth of the time
        counts = torch.bincount(labels.flatten() - least)
        codes = counts.nonzero()[:, 0]
        counts, codes = counts[codes], codes + least
    else:
        codes, counts = labels.unique(return_counts=True)
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))


def hd95(
    fixed: Tensor,
    moved: Tensor,
    spacing: tuple[float, float, float],
    codes: Iterable[int] | None = None,
) -> dict[int, float]:
    """95th percentile of the distance between the surfaces of every label.

    The larger of the two directions' percentiles. The surface of a label are its voxels with a
    face neighbour outside it, or at the edge of the grid; axes of length 1 do not count.

    Args:
        fixed: (I, J, K) integers.
        moved: (I, J, K) integers.
        spacing: mm per voxel along each axis.
        codes: Labels to compare; default all that occur but 0.

    Returns:
        mm per label: NaN if one of the two lacks it; no entry if both do.

    Raises:
        InputError: If the shapes differ.
    """
    _require_same_shape(fixed, moved)
    if codes is None:
        codes = (label_sizes(fixed).keys() | label_sizes(moved).keys()) - {0}
    in_fixed, in_moved = (_surfaces(labels, set(codes)) for labels in (fixed, moved))
    steps = np.array(spacing)
    distances = {}
    for code in sorted(in_fixed.keys() | in_moved.keys()):
        if code in in_fixed and code in in_moved:
            a, b = in_fixed[code] * steps, in_moved[code] * steps
            distances[code] = max(np.percentile(d, 95).item() for d in nearest(a, b))
        else:
            distances[code] = float("nan")
    return distances


def nearest(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each of a's points to the nearest of b's, and of each of b's to a's.

    Surfaces have far fewer voxels than the boxes around them: by trees of their points, 41 labels
    of a 1 mm head take half the time of Euclidean distance transforms, to the same bits.

    Args:
        a: (M, 3).
        b: (N, 3).

    Returns:
        (M,) and (N,), float64.
    """
    from scipy.spatial import KDTree  # late: see ops/spline.py

    to_a, to_b = (KDTree(x, balanced_tree=False, compact_nodes=False) for x in (a, b))
    threads = torch.get_num_threads()
    return to_b.query(a, workers=threads)[0], to_a.query(b, workers=threads)[0]


def tre(a: Tensor, b: Tensor) -> Tensor:
    """Distance between corresponding points.

    Args:
        a: (N, 3) mm.
        b: (N, 3) mm.

    Returns:
        (N,) mm, float64.

    Raises:
        InputError: If there are not as many points in one as in the other.
    """
    _require_same_shape(a, b)
    return (a.to(torch.float64) - b.to(torch.float64)).norm(dim=1)


def jacobian_summary(
    displacement: Tensor, space: Space, mask: Tensor | None = None
) -> dict[str, float]:
    """Jacobian determinants and folds of the map x -> x + u(x).

    Args:
        displacement: u, (1, 3, I, J, K) mm along the world axes.
        space: The grid of u.
        mask: (I, J, K), voxels that count where non-zero; default all.

    Returns:
        folds_percent: Share of the voxels whose central-difference determinant is <= 0.
        ndv_percent: Folded volume by the ten determinants of digital diffeomorphism, per volume.
        min, max: Of the central-difference determinant.
        sdlogj: Standard deviation of its logarithm; see `log_determinant` for folds.
        folds_anywhere: Voxels of the whole grid, mask or not, with one of the ten <= 0.

    Raises:
        InputError: If the mask is empty or of another shape.
    """
    voxels = space.vectors_to_voxel(displacement)
    det = jacobian_determinant(voxels)[0]
    least, folded = (tensor[0] for tensor in digital_determinants(voxels))
    inside = _mask(mask, det)
    det, folded = det[inside].to(torch.float64), folded[inside].to(torch.float64)
    return {
        "folds_percent": 100 * float((det <= 0).to(torch.float64).mean()),
        "ndv_percent": 100 * float(folded.mean()),
        "min": float(det.min()),
        "max": float(det.max()),
        "sdlogj": float(log_determinant(det).std(correction=0)),
        "folds_anywhere": int((least <= 0).sum()),
    }


def log_determinant(determinant: Tensor) -> Tensor:
    """Natural logarithm of determinants, which are first raised to LOG_FLOOR.

    So it is defined at folds, and one fold counts like compression a thousandfold. There is no
    offset: Learn2Reg's + 3 hides folds.
    """
    return determinant.clamp(min=LOG_FLOOR).log()


def ncc(a: Tensor, b: Tensor, mask: Tensor | None = None) -> float:
    """Correlation coefficient of two images (I, J, K) in a mask (I, J, K); 0 if one is flat."""
    _require_same_shape(a, b)
    w = _mask(mask, a).to(torch.float32)[None, None]
    x, y = (_standardised_in(t[None, None], w) for t in (a, b))
    return float(total(x.mul_(y)) / total(w))


def lncc(a: Tensor, b: Tensor, mask: Tensor | None = None, radius: int = 2) -> float:
    """Mean squared local correlation.

    Args:
        a: (I, J, K).
        b: (I, J, K).
        mask: (I, J, K), voxels that count where non-zero; default all.
        radius: Windows are 2 * radius + 1 voxels wide and hold the masked voxels only.

    Returns:
        Mean over the masked voxels' windows, 0..1; windows in which one image is flat count 0.

    Raises:
        InputError: If the shapes differ or the mask is empty.
    """
    _require_same_shape(a, b)
    inside = _mask(mask, a)
    w = inside.to(torch.float32)[None, None]
    x, y = (_standardised_in(t[None, None], w) for t in (a, b))
    return squared_correlation(x, y, w, radius, _FLAT)


def mutual_information(a: Tensor, b: Tensor, mask: Tensor | None = None, bins: int = 32) -> float:
    """Mutual information of two images (I, J, K) in a mask, by their joint histogram.

    Args:
        a: (I, J, K).
        b: (I, J, K).
        mask: (I, J, K), voxels that count where non-zero; default all.
        bins: Per image, of equal width between its 0.1th and 99.9th percentile; the outermost
            take what lies beyond.

    Returns:
        Nats, 0 for independent images, at most log(bins).

    Raises:
        InputError: If the shapes differ or the mask is empty.
    """
    _require_same_shape(a, b)
    inside = _mask(mask, a)
    joint = _bins(a[inside], bins) * bins + _bins(b[inside], bins)
    p = torch.bincount(joint, minlength=bins * bins).to(torch.float64).view(bins, bins)
    p = p / p.sum()
    independent = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
    seen = p > 0
    return float((p[seen] * (p[seen] / independent[seen]).log()).sum())


def _require_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise InputError(
            f"The two have different shapes, {tuple(a.shape)} and {tuple(b.shape)}.",
            "Give both on the same grid, or as many points in one as in the other.",
        )


def _mask(mask: Tensor | None, like: Tensor) -> Tensor:
    if mask is None:
        return torch.ones_like(like, dtype=torch.bool)
    _require_same_shape(mask, like)
    if not bool((mask != 0).any()):
        raise InputError("The mask is empty.", "Give a mask with voxels that are not zero.")
    return mask != 0


def _surfaces(labels: Tensor, codes: set[int]) -> dict[int, np.ndarray]:
    """Voxels (N, 3) of each label that occurs with a face neighbour outside it or the grid."""
    values = labels.cpu().numpy()
    surface = np.full(values.shape, max(values.shape) == 1)
    for axis, length in enumerate(values.shape):
        if length > 1:
            v, s = np.moveaxis(values, axis, 0), np.moveaxis(surface, axis, 0)
            differ = v[1:] != v[:-1]
            s[1:] |= differ
            s[:-1] |= differ
            s[0] = s[-1] = True
    code, voxels = values[surface], np.argwhere(surface)
    wanted = np.isin(code, list(codes))
    code, voxels = code[wanted], voxels[wanted]
    order = np.argsort(code, kind="stable")
    found, starts = np.unique(code[order], return_index=True)
    parts = np.split(voxels[order], starts)[1:]  # nothing comes before the first
    return dict(zip(found.tolist(), parts, strict=True))


def _standardised_in(image: Tensor, weight: Tensor) -> Tensor:
    """The image with mean 0 and variance 1 where weight (0 or 1) is 1, and 0 elsewhere; float32."""
    image = _tamed(image, weight)
    largest = float(image.abs().max()) or 1.0
    image = image.to(torch.float32) / largest  # of any scale
    mean, variance = moments(image, weight)
    if float(variance) <= _CONSTANT:
        return torch.zeros_like(image)
    return image.sub_(mean).mul_(weight).mul_(variance.rsqrt())


def _tamed(image: Tensor, weight: Tensor) -> Tensor:
    """The image without what lies ten times as far out as all but 2 voxels in a thousand.

    Beside one such voxel, of metal or of a broken file, all windows would count as flat.
    """
    step = max(1, image.numel() // _SAMPLE)
    inside = weight.flatten()[::step] > 0
    values = image.flatten()[::step][inside]
    if len(values) == 0:
        return image
    low, high = np.percentile(values.to(torch.float64).cpu().numpy(), (0.1, 99.9))
    reach = 10 * (high - low)
    return image.clamp(low - reach, high + reach) if reach > 0 else image


def _bins(values: Tensor, bins: int) -> Tensor:
    low, high = np.percentile(values.cpu().numpy(), (0.1, 99.9))
    step = max(high - low, 1e-30) / bins
    return ((values.to(torch.float64) - low) / step).floor().clamp(0, bins - 1).to(torch.int64)

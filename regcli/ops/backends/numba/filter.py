"""Separable filters: two passes over memory, whatever the number of taps."""

import numpy as np

from regcli.ops.backends.numba.slabs import inline, kernel


@inline
def _pad_row(row, radius, replicate, padded):
    n = row.shape[0]
    for t in range(radius):
        padded[t] = row[0] if replicate else 0.0
        padded[radius + n + t] = row[n - 1] if replicate else 0.0
    for k in range(n):
        padded[radius + k] = row[k]


@kernel
def within_planes(lo, hi, image, taps_j, taps_k, replicate, out):
    """Filter the planes lo..hi-1 of image (I, J, K) along J and K; odd numbers of taps."""
    rows, columns = image.shape[1], image.shape[2]
    rj, rk = taps_j.shape[0] // 2, taps_k.shape[0] // 2
    padded = np.empty(columns + 2 * rk, np.float32)
    plane = np.empty((rows, columns), np.float32)
    for n in range(lo, hi):
        for j in range(rows):
            _pad_row(image[n, j], rk, replicate, padded)
            plane[j, :] = 0.0
            for t in range(2 * rk + 1):
                tap = taps_k[t]
                for k in range(columns):
                    plane[j, k] += tap * padded[k + t]
        for j in range(rows):
            out[n, j, :] = 0.0
            for t in range(2 * rj + 1):
                source = j + t - rj
                if not replicate and (source < 0 or source >= rows):
                    continue
                source = min(max(source, 0), rows - 1)
                tap = taps_j[t]
                for k in range(columns):
                    out[n, j, k] += tap * plane[source, k]


@kernel
def across_planes(lo, hi, image, taps, replicate, out):
    """Filter image (I, J, K) along I; an odd number of taps."""
    depth, radius = image.shape[0], taps.shape[0] // 2
    for n in range(lo, hi):
        for j in range(image.shape[1]):
            out[n, j, :] = 0.0
            for t in range(2 * radius + 1):
                source = n + t - radius
                if not replicate and (source < 0 or source >= depth):
                    continue
                source = min(max(source, 0), depth - 1)
                tap = taps[t]
                for k in range(image.shape[2]):
                    out[n, j, k] += tap * image[source, j, k]

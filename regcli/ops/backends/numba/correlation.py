"""Local correlation: sums over windows to the energy and its derivatives, per voxel.

Window sums run: each plane's are added to a total when the window reaches it and taken off when the
window leaves it, so the cost hardly depends on the radius, and no volume of sums is ever stored.
"""

import math

import numpy as np

from regcli.ops.backends.numba.slabs import copy_row, inline, kernel

_F = np.float32
LEAST = 2 - 1e-3  # voxels in a window: one says nothing, and running sums are rounded


@inline
def _spread(plane, radius, across, running):
    """plane (J, K) <- sums over its windows; nothing lies outside.

    across (J, K), running (K,) float64: scratch.
    """
    rows, columns = plane.shape
    for j in range(rows):
        line, source = across[j], plane[j]
        copy_row(source, line)
        for t in range(1, radius + 1):
            for k in range(t, columns):
                line[k] += source[k - t]
            for k in range(columns - t):
                line[k] += source[k + t]
    running[:] = 0
    for j in range(min(radius, rows)):
        for k in range(columns):
            running[k] += across[j, k]
    for j in range(rows):
        line = plane[j]
        if j + radius < rows:
            ahead = across[j + radius]
            for k in range(columns):
                running[k] += ahead[k]
        if j - radius - 1 >= 0:
            behind = across[j - radius - 1]
            for k in range(columns):
                running[k] -= behind[k]
        for k in range(columns):
            line[k] = running[k]


@inline
def _carve(scratch, channels, width, rows, columns):
    """The parts of a slab's scratch: running sums, a ring of spread planes, and two planes more.

    What is added to a sum in float64 is taken off again almost exactly; in float32, what bright
    windows leave behind would drown flat ones.
    """
    plane = rows * columns
    wide = scratch[: 2 * (channels * plane + columns)].view(np.float64)
    total = wide[: channels * plane].reshape(channels, rows, columns)
    rest = scratch[2 * (channels * plane + columns) :]
    ring = rest[: width * channels * plane].reshape(width, channels, rows, columns)
    extra = rest[width * channels * plane : (width * channels + 2) * plane].reshape(
        2, rows, columns
    )
    ring[:], total[:] = 0, 0
    return ring, total, extra[0], extra[1], wide[channels * plane :]


@inline
def _replace(total, slot, plane):
    """total += plane - slot; slot = plane."""
    for j in range(plane.shape[0]):
        t, s, p = total[j], slot[j], plane[j]
        for k in range(plane.shape[1]):
            t[k] += np.float64(p[k]) - np.float64(s[k])
        copy_row(p, s)


@inline
def _product(w, f, m, channel, out):
    """One of w, w f, w m, w f f, w m m, w f m."""
    for j in range(out.shape[0]):
        a, b, c, row = w[j], f[j], m[j], out[j]
        for k in range(out.shape[1]):
            if channel == 0:
                row[k] = a[k]
            elif channel == 1:
                row[k] = a[k] * b[k]
            elif channel == 2:
                row[k] = a[k] * c[k]
            elif channel == 3:
                row[k] = a[k] * b[k] * b[k]
            elif channel == 4:
                row[k] = a[k] * c[k] * c[k]
            else:
                row[k] = a[k] * b[k] * c[k]


@inline
def _reach(p, slot, total, plane, across, running, weight, fixed, moved, radius):
    """Let the windows' totals of the six products take in plane p, and lose what its slot held."""
    for c in range(6):
        if 0 <= p < fixed.shape[0]:
            _product(weight[p], fixed[p], moved[p], c, plane)
            _spread(plane, radius, across, running)
        else:
            plane[:] = 0
        _replace(total[c], slot[c], plane)


def scratch_size(channels, radius, rows, columns):
    """Values of scratch that a slab of `coefficients` (6 channels) or `derivatives` (5) needs."""
    size = ((2 * radius + 3) * channels + 2) * rows * columns + 2 * columns
    return size + -size % 16  # so that the next slab's float64 numbers lie straight


@kernel
def coefficients(lo, hi, scratch, fixed, moved, weight, radius, floor, out, loss):
    """Per window: its share of the energy, and the coefficients of its derivatives.

    The window at x counts weight[x] (1 - rho). out[0..4]: a = 1/(|f||m|), a mean(f), b = rho/|m|^2,
    b mean(m), 1/|m|^2; all times the weight.
    floor: added to both variances and the covariance, per voxel: flat windows count as matching.
    """
    _, rows, columns = fixed.shape
    width = 2 * radius + 1
    ring, total, plane, across, running = _carve(scratch, 6, width, rows, columns)
    for p in range(lo - radius, hi + radius):
        slot = ring[(p - lo + radius) % width]
        _reach(p, slot, total, plane, across, running, weight, fixed, moved, radius)
        i = p - radius
        if i < lo:
            continue
        loss[i] = 0.0
        for j in range(rows):
            wj, n, sf, sm = weight[i, j], total[0, j], total[1, j], total[2, j]
            sff, smm, sfm = total[3, j], total[4, j], total[5, j]
            o0, o1, o2, o3, o4 = (
                out[0, i, j],
                out[1, i, j],
                out[2, i, j],
                out[3, i, j],
                out[4, i, j],
            )
            lost = 0.0
            for k in range(columns):
                w = wj[k] if n[k] > LEAST else _F(0)
                count = max(n[k], LEAST)  # for less, w is 0: only the numbers must stay finite
                share = 1.0 / count
                least = _F(count * floor)
                # what is left of these differences needs float64 no longer
                ff = max(_F(sff[k] - sf[k] * sf[k] * share), _F(0)) + least
                mm = max(_F(smm[k] - sm[k] * sm[k] * share), _F(0)) + least
                fm = _F(sfm[k] - sf[k] * sm[k] * share) + least
                mean_f, mean_m = _F(sf[k] * share), _F(sm[k] * share)
                a = _F(1) / math.sqrt(ff * mm)
                rho = fm * a
                lost += w * (_F(1) - rho)
                c = w / mm
                o0[k] = w * a
                o1[k] = w * a * mean_f
                o2[k] = rho * c
                o3[k] = rho * c * mean_m
                o4[k] = c
            loss[i] += lost


@kernel
def derivatives(lo, hi, scratch, coefficient, weight, fixed, moved, radius, slope, curvature):
    """dE/dm = -(f sum a - sum a mean(f) - m sum b + sum b mean(m)); curvature sum 1/|m|^2."""
    depth, rows, columns = fixed.shape
    width = 2 * radius + 1
    ring, total, plane, across, running = _carve(scratch, 5, width, rows, columns)
    for p in range(lo - radius, hi + radius):
        slot = ring[(p - lo + radius) % width]
        for c in range(5):
            if 0 <= p < depth:
                for j in range(rows):
                    copy_row(coefficient[c, p, j], plane[j])
                _spread(plane, radius, across, running)
            else:
                plane[:] = 0
            _replace(total[c], slot[c], plane)
        i = p - radius
        if i < lo:
            continue
        for j in range(rows):
            w, f, m, s, h = weight[i, j], fixed[i, j], moved[i, j], slope[i, j], curvature[i, j]
            a, af, b, bm, c = total[0, j], total[1, j], total[2, j], total[3, j], total[4, j]
            for k in range(columns):
                s[k] = -w[k] * (f[k] * a[k] - af[k] - m[k] * b[k] + bm[k])
                h[k] = w[k] * c[k]


@kernel
def squared(lo, hi, scratch, fixed, moved, weight, radius, flat, out):
    """out[i] = sum over plane i of weight times the squared correlation in the window.

    Windows in which either variance is at most `flat` count 0.
    """
    _, rows, columns = fixed.shape
    width = 2 * radius + 1
    ring, total, plane, across, running = _carve(scratch, 6, width, rows, columns)
    for p in range(lo - radius, hi + radius):
        slot = ring[(p - lo + radius) % width]
        _reach(p, slot, total, plane, across, running, weight, fixed, moved, radius)
        i = p - radius
        if i < lo:
            continue
        out[i] = 0.0
        for j in range(rows):
            w, n, sf, sm = weight[i, j], total[0, j], total[1, j], total[2, j]
            sff, smm, sfm = total[3, j], total[4, j], total[5, j]
            found = 0.0
            for k in range(columns):
                share = 1.0 / max(n[k], 1e-6)
                mean_f, mean_m = sf[k] * share, sm[k] * share
                ff = sff[k] * share - mean_f * mean_f
                mm = smm[k] * share - mean_m * mean_m
                fm = sfm[k] * share - mean_f * mean_m
                rho = min(fm * fm / max(ff * mm, 1e-20), 1.0)
                found += w[k] * rho if min(ff, mm) > flat else 0.0
            out[i] += found

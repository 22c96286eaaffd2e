"""Loops over displacement fields u (3, I, J, K) in voxels: compose, invert, determinants, folds."""

from regcli.ops.kernels.cpu.sample import cell
from regcli.ops.kernels.cpu.slabs import inline, kernel


@inline
def _displacement_at(u, x, y, z):
    """u at a position, trilinear; the nearest edge outside."""
    a0, a1, a = cell(x, u.shape[1])
    b0, b1, b = cell(y, u.shape[2])
    c0, c1, c = cell(z, u.shape[3])
    w000, w001 = (1 - a) * (1 - b) * (1 - c), (1 - a) * (1 - b) * c
    w010, w011 = (1 - a) * b * (1 - c), (1 - a) * b * c
    w100, w101 = a * (1 - b) * (1 - c), a * (1 - b) * c
    w110, w111 = a * b * (1 - c), a * b * c
    v0 = (
        w000 * u[0, a0, b0, c0] + w001 * u[0, a0, b0, c1] + w010 * u[0, a0, b1, c0]
        + w011 * u[0, a0, b1, c1] + w100 * u[0, a1, b0, c0] + w101 * u[0, a1, b0, c1]
        + w110 * u[0, a1, b1, c0] + w111 * u[0, a1, b1, c1]
    )  # fmt: skip
    v1 = (
        w000 * u[1, a0, b0, c0] + w001 * u[1, a0, b0, c1] + w010 * u[1, a0, b1, c0]
        + w011 * u[1, a0, b1, c1] + w100 * u[1, a1, b0, c0] + w101 * u[1, a1, b0, c1]
        + w110 * u[1, a1, b1, c0] + w111 * u[1, a1, b1, c1]
    )  # fmt: skip
    v2 = (
        w000 * u[2, a0, b0, c0] + w001 * u[2, a0, b0, c1] + w010 * u[2, a0, b1, c0]
        + w011 * u[2, a0, b1, c1] + w100 * u[2, a1, b0, c0] + w101 * u[2, a1, b0, c1]
        + w110 * u[2, a1, b1, c0] + w111 * u[2, a1, b1, c1]
    )  # fmt: skip
    return v0, v1, v2


@kernel
def compose(lo, hi, outer, inner, where, out):
    """out = inner + outer(x + inner(x)), the displacement of outer after inner; same grids.

    where (I, J, K) uint8: voxels to compute, the others are left alone; (0, 0, 0) for all.
    """
    everywhere = where.shape[0] == 0
    for i in range(lo, hi):
        for j in range(inner.shape[2]):
            for k in range(inner.shape[3]):
                if not (everywhere or where[i, j, k]):
                    continue
                d0, d1, d2 = inner[0, i, j, k], inner[1, i, j, k], inner[2, i, j, k]
                v0, v1, v2 = _displacement_at(outer, i + d0, j + d1, k + d2)
                out[0, i, j, k] = d0 + v0
                out[1, i, j, k] = d1 + v1
                out[2, i, j, k] = d2 + v2


@inline
def _central(u, c, i, j, k):
    """Central differences of component c along the three axes; one-sided at the edges."""
    i0, i1 = max(i - 1, 0), min(i + 1, u.shape[1] - 1)
    j0, j1 = max(j - 1, 0), min(j + 1, u.shape[2] - 1)
    k0, k1 = max(k - 1, 0), min(k + 1, u.shape[3] - 1)
    return (
        (u[c, i1, j, k] - u[c, i0, j, k]) / max(i1 - i0, 1),
        (u[c, i, j1, k] - u[c, i, j0, k]) / max(j1 - j0, 1),
        (u[c, i, j, k1] - u[c, i, j, k0]) / max(k1 - k0, 1),
    )


@inline
def _determinant(a00, a01, a02, a10, a11, a12, a20, a21, a22):
    return (
        a00 * (a11 * a22 - a12 * a21)
        - a01 * (a10 * a22 - a12 * a20)
        + a02 * (a10 * a21 - a11 * a20)
    )


@kernel
def determinants(lo, hi, u, out):
    """out[x] = det(I + Du), central differences; one-sided at edges, none on axes of length 1."""
    for i in range(lo, hi):
        for j in range(u.shape[2]):
            for k in range(u.shape[3]):
                a00, a01, a02 = _central(u, 0, i, j, k)
                a10, a11, a12 = _central(u, 1, i, j, k)
                a20, a21, a22 = _central(u, 2, i, j, k)
                out[i, j, k] = _determinant(1 + a00, a01, a02, a10, 1 + a11, a12, a20, a21, 1 + a22)


@kernel
def digital(lo, hi, u, where, smallest, volume):
    """The ten finite-difference determinants of digital diffeomorphism, per voxel.

    Eight pair a forward or backward difference on each axis: signed volumes (times 6) of the
    tetrahedra at the corners of the voxel's eight cubes. Two are the tetrahedra that remain in
    the middle of the forward cube, cut in its two ways (halved: 1 for the identity).
    smallest: the least of those that exist at x. volume: the folded volume, in voxels: half the
    sum of the negative tetrahedra, for each cube is cut in two ways. In a plane, the triangles of
    its squares are meant, and every determinant comes up twice. Liu et al., IJCV 2024.
    where (I, J, K) uint8: voxels to compute, the others are left alone; (0, 0, 0) for all.
    """
    everywhere = where.shape[0] == 0
    shape = u.shape[1:]
    along = (int(shape[0] > 1), int(shape[1] > 1), int(shape[2] > 1))
    solid = along[0] + along[1] + along[2] == 3
    share = 1.0 / 12.0 if solid else 1.0 / 8.0
    for i in range(lo, hi):
        for j in range(shape[1]):
            for k in range(shape[2]):
                if not (everywhere or where[i, j, k]):
                    continue
                least, folded = 1e30, 0.0
                for s0 in range(-1, 2, 2):
                    i1 = i + s0 * along[0]
                    if i1 < 0 or i1 >= shape[0]:
                        continue
                    a00 = 1 + s0 * (u[0, i1, j, k] - u[0, i, j, k])
                    a10 = s0 * (u[1, i1, j, k] - u[1, i, j, k])
                    a20 = s0 * (u[2, i1, j, k] - u[2, i, j, k])
                    for s1 in range(-1, 2, 2):
                        j1 = j + s1 * along[1]
                        if j1 < 0 or j1 >= shape[1]:
                            continue
                        a01 = s1 * (u[0, i, j1, k] - u[0, i, j, k])
                        a11 = 1 + s1 * (u[1, i, j1, k] - u[1, i, j, k])
                        a21 = s1 * (u[2, i, j1, k] - u[2, i, j, k])
                        for s2 in range(-1, 2, 2):
                            k1 = k + s2 * along[2]
                            if k1 < 0 or k1 >= shape[2]:
                                continue
                            a02 = s2 * (u[0, i, j, k1] - u[0, i, j, k])
                            a12 = s2 * (u[1, i, j, k1] - u[1, i, j, k])
                            a22 = 1 + s2 * (u[2, i, j, k1] - u[2, i, j, k])
                            det = _determinant(a00, a01, a02, a10, a11, a12, a20, a21, a22)
                            least = min(least, det)
                            folded += max(-det, 0.0)
                if solid and i + 1 < shape[0] and j + 1 < shape[1] and k + 1 < shape[2]:
                    for cut in range(2):
                        # vertices (0,0,0) (1,1,0) (1,0,1) (0,1,1), or the other four corners
                        i0, j0, k0 = i + cut, j + cut, k + cut
                        i1, j1, k1 = i + 1 - cut, j + 1 - cut, k + 1 - cut
                        e = 1.0 - 2.0 * cut
                        b00 = e + u[0, i1, j1, k0] - u[0, i0, j0, k0]
                        b10 = e + u[1, i1, j1, k0] - u[1, i0, j0, k0]
                        b20 = u[2, i1, j1, k0] - u[2, i0, j0, k0]
                        b01 = e + u[0, i1, j0, k1] - u[0, i0, j0, k0]
                        b11 = u[1, i1, j0, k1] - u[1, i0, j0, k0]
                        b21 = e + u[2, i1, j0, k1] - u[2, i0, j0, k0]
                        b02 = u[0, i0, j1, k1] - u[0, i0, j0, k0]
                        b12 = e + u[1, i0, j1, k1] - u[1, i0, j0, k0]
                        b22 = e + u[2, i0, j1, k1] - u[2, i0, j0, k0]
                        det = -e * _determinant(b00, b01, b02, b10, b11, b12, b20, b21, b22)
                        least = min(least, 0.5 * det)
                        folded += max(-det, 0.0)
                smallest[i, j, k] = least
                volume[i, j, k] = share * folded


@inline
def _newton(u, i, j, k, b0, b1, b2, tolerance, steps):
    """Damped Newton steps on v + u(x + v) = 0 at voxel (i, j, k), from v = b: v and residual."""
    s0, s1, s2 = _displacement_at(u, i + b0, j + b1, k + b2)
    r0, r1, r2 = b0 + s0, b1 + s1, b2 + s2
    best = r0 * r0 + r1 * r1 + r2 * r2
    length = 1.0
    for _ in range(steps):
        if best <= tolerance * tolerance or length < 1e-3:
            break
        p = min(max(int(i + b0 + 0.5), 0), u.shape[1] - 1)
        q = min(max(int(j + b1 + 0.5), 0), u.shape[2] - 1)
        r = min(max(int(k + b2 + 0.5), 0), u.shape[3] - 1)
        a00, a01, a02 = _central(u, 0, p, q, r)
        a10, a11, a12 = _central(u, 1, p, q, r)
        a20, a21, a22 = _central(u, 2, p, q, r)
        if i + b0 < 0 or i + b0 > u.shape[1] - 1:  # outside, u does not change
            a00, a10, a20 = 0.0, 0.0, 0.0
        if j + b1 < 0 or j + b1 > u.shape[2] - 1:
            a01, a11, a21 = 0.0, 0.0, 0.0
        if k + b2 < 0 or k + b2 > u.shape[3] - 1:
            a02, a12, a22 = 0.0, 0.0, 0.0
        a00, a11, a22 = a00 + 1, a11 + 1, a22 + 1
        det = _determinant(a00, a01, a02, a10, a11, a12, a20, a21, a22)
        if abs(det) < 0.01 or length < 0.3:
            t0, t1, t2 = r0, r1, r2  # the fixed-point step
        else:
            t0 = _determinant(r0, a01, a02, r1, a11, a12, r2, a21, a22) / det
            t1 = _determinant(a00, r0, a02, a10, r1, a12, a20, r2, a22) / det
            t2 = _determinant(a00, a01, r0, a10, a11, r1, a20, a21, r2) / det
            # no further than the slopes can be trusted
            longest = max(abs(t0), abs(t1), abs(t2))
            if longest > 2:
                t0, t1, t2 = 2 * t0 / longest, 2 * t1 / longest, 2 * t2 / longest
        c0, c1, c2 = b0 - length * t0, b1 - length * t1, b2 - length * t2
        s0, s1, s2 = _displacement_at(u, i + c0, j + c1, k + c2)
        n0, n1, n2 = c0 + s0, c1 + s1, c2 + s2
        size = n0 * n0 + n1 * n1 + n2 * n2
        if size < best:
            best, b0, b1, b2, r0, r1, r2 = size, c0, c1, c2, n0, n1, n2
            length = min(1.0, 2 * length)
        else:
            length *= 0.5
    return b0, b1, b2, r0, r1, r2


@kernel
def invert(lo, hi, u, tolerance, steps, v, residual):
    """v with v(x) + u(x + v(x)) = 0, by damped Newton steps at every voxel on its own.

    Plain fixed-point iteration diverges where the map stretches more than twofold; the slopes of
    u at the voxel nearest to x + v make these steps converge there too.
    residual: v(x) + u(x + v(x)), (3, I, J, K) voxels.
    """
    for i in range(lo, hi):
        for j in range(u.shape[2]):
            for k in range(u.shape[3]):
                b0, b1, b2 = -u[0, i, j, k], -u[1, i, j, k], -u[2, i, j, k]
                b0, b1, b2, r0, r1, r2 = _newton(u, i, j, k, b0, b1, b2, tolerance, steps)
                v[0, i, j, k], v[1, i, j, k], v[2, i, j, k] = b0, b1, b2
                residual[0, i, j, k], residual[1, i, j, k], residual[2, i, j, k] = r0, r1, r2


@kernel
def invert_again(lo, hi, u, tolerance, steps, old, old_residual, v, residual):
    """Where `invert` did not get there, start anew from what the 26 neighbours found.

    old, old_residual: of the pass before, read only; v, residual: copies of them, improved.
    """
    limit = tolerance * tolerance
    for i in range(lo, hi):
        for j in range(u.shape[2]):
            for k in range(u.shape[3]):
                r0 = old_residual[0, i, j, k]
                r1 = old_residual[1, i, j, k]
                r2 = old_residual[2, i, j, k]
                best = r0 * r0 + r1 * r1 + r2 * r2
                if best <= limit:
                    continue
                for neighbour in range(27):
                    p = min(max(i + neighbour // 9 - 1, 0), u.shape[1] - 1)
                    q = min(max(j + neighbour // 3 % 3 - 1, 0), u.shape[2] - 1)
                    r = min(max(k + neighbour % 3 - 1, 0), u.shape[3] - 1)
                    b0, b1, b2 = old[0, p, q, r], old[1, p, q, r], old[2, p, q, r]
                    b0, b1, b2, r0, r1, r2 = _newton(u, i, j, k, b0, b1, b2, tolerance, steps)
                    size = r0 * r0 + r1 * r1 + r2 * r2
                    if size < best:
                        best = size
                        v[0, i, j, k], v[1, i, j, k], v[2, i, j, k] = b0, b1, b2
                        residual[0, i, j, k] = r0
                        residual[1, i, j, k] = r1
                        residual[2, i, j, k] = r2
                    if best <= limit:
                        break

"""The same things in SimpleITK's words, for comparison."""

import numpy as np
import SimpleITK as sitk
import torch

from regcli.image import Image, Space
from regcli.warp import Warp

LPS = np.diag([-1.0, -1.0, 1.0])


def _place(volume, space: Space):
    affine = space.affine.numpy()
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    volume.SetSpacing(steps.tolist())
    volume.SetDirection((LPS @ affine[:3, :3] / steps).ravel().tolist())
    volume.SetOrigin((LPS @ affine[:3, 3]).tolist())
    return volume


def to_itk(image: Image):
    """One channel as a SimpleITK image; the space must not be sheared."""
    return _place(sitk.GetImageFromArray(image.data[0].numpy().transpose(2, 1, 0)), image.space)


def to_itk_transform(warp: Warp):
    """A (x + u(x)) as an ITK composite; ITK takes u for zero outside its grid."""
    matrix = LPS @ warp.affine[:3, :3].numpy() @ LPS
    offset = LPS @ warp.affine[:3, 3].numpy()
    linear = sitk.AffineTransform(matrix.ravel().tolist(), offset.tolist())
    if warp.displacement is None:
        return sitk.CompositeTransform([linear])
    u = LPS @ warp.displacement[0].numpy().astype(np.float64).reshape(3, -1)
    u = u.T.reshape(*warp.space.shape, 3).transpose(2, 1, 0, 3)
    field = _place(sitk.GetImageFromArray(u, isVector=True), warp.space)
    return sitk.CompositeTransform([linear, sitk.DisplacementFieldTransform(field)])


def resample(moving: Image, onto: Space, warp: Warp, interpolator: int = sitk.sitkLinear):
    """The moving image on another grid by ITK: (I, J, K)."""
    like = _place(sitk.Image(*onto.shape, sitk.sitkUInt8), onto)
    moved = sitk.Resample(to_itk(moving), like, to_itk_transform(warp), interpolator, 0.0)
    return torch.from_numpy(sitk.GetArrayFromImage(moved).transpose(2, 1, 0).copy())

r"""A regularizer of one's own: motion itself has a price.

    cd examples
    regcli register fixed.nii.gz moving.nii.gz -o out/ \
        --regularizer diffusion --regularizer small_motion:SmallMotion:weight=0.02

The module is found in the current folder or on PYTHONPATH. A regularizer is a frozen dataclass
whose fields are the options; `penalty` gives value, force and Hessian near a displacement u. They
may be stencils of differences (regcli/energy/regularizers.py has some) or, as here, at voxels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from regcli.energy.base import Regularizer
from regcli.image import Space
from regcli.ops.match import Quadratic
from regcli.ops.penalty import Penalty


@dataclass(frozen=True)
class SmallMotion(Regularizer):
    """weight / 2 sum of |u|^2, u in mm. It keeps no neighbours together: add diffusion.

    Attributes:
        weight: Per mm^2.
    """

    weight: float = 0.01

    def penalty(self, u: Tensor, space: Space, share: Tensor) -> Penalty:
        """See Regularizer."""
        h = torch.tensor(space.spacing, device=u.device).view(1, 3, 1, 1, 1)  # u is in voxels
        slope = self.weight * share.to(u.device) * h.square()
        force = slope * u
        A = u.new_zeros(1, 6, *space.shape)  # entries 00 01 02 11 12 22
        A[:, [0, 3, 5]] = slope.expand_as(u)
        value = 0.5 * (force * u).sum(dtype=torch.float64)
        return Penalty(u, torch.zeros(3, 3), voxels=Quadratic(value, force, A))

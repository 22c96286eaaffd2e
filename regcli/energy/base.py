"""Similarity and Regularizer: what a registration lowers. Lower is better, one number per pair."""

from abc import ABC, abstractmethod

from torch import Tensor

from regcli.image import Space
from regcli.ops.match import Moved, Quadratic
from regcli.ops.penalty import Penalty


class Similarity(ABC):
    """A dissimilarity of a fixed and a moved image.

    Energies are sums over voxels of a number without units, near 1 where nothing matches, so that
    one regularization weight serves all of them at every voxel size.
    """

    @abstractmethod
    def describe(self, image: Tensor) -> Tensor:
        """The values to compare: the image itself or descriptors of it.

        Args:
            image: (1, 1, I, J, K), foreground in [0, 1].

        Returns:
            (1, C, I, J, K).
        """

    @abstractmethod
    def model(
        self, fixed: Tensor, moved: Moved, weight: Tensor, onto: Quadratic | None = None
    ) -> Quadratic:
        """The energy, its force and its Gauss-Newton Hessian, without autograd.

        Args:
            fixed: (1, C, I, J, K), described.
            moved: Of (1, C, I, J, K), described, then moved.
            weight: (1, 1, I, J, K) in [0, 1]; voxels of weight 0 count nothing.
            onto: A model to add this one to, in its memory.
        """


class Regularizer(ABC):
    """A penalty of a displacement, per voxel and without units; its derivatives are mm per mm.

    So one weight means the same at every voxel size, against any similarity.
    """

    @abstractmethod
    def penalty(self, u: Tensor, space: Space, share: Tensor) -> Penalty:
        """The energy near u, with the Hessian of its force or a larger one, without autograd.

        Args:
            u: (1, 3, I, J, K), voxels.
            space: Its grid.
            share: Factor of the energy: (1, 1, I, J, K) at every voxel, or () of all.
        """

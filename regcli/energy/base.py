"""Similarity and Regularizer: what a registration lowers. Lower is better, one number per pair."""

from abc import ABC, abstractmethod

from torch import Tensor

from regcli.ops.match import Moved, Quadratic


class Similarity(ABC):
    """How unlike a fixed and a moved image are.

    Energies are sums over voxels of a number without units, near 1 where nothing matches, so that
    one regularization weight serves all of them at every voxel size.
    """

    @abstractmethod
    def describe(self, image: Tensor) -> Tensor:
        """What is compared: the image itself or descriptors of it.

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
    """How implausible a displacement is: a quadratic form u . R u / 2."""

    @abstractmethod
    def stiffness(self, spacing: tuple[float, float, float]) -> Tensor:
        """(3, 3): weight of (u_c(x) - u_c(y))^2 / 2 for neighbours x, y on axis k, at [c, k].

        Args:
            spacing: mm; u is in voxels.
        """

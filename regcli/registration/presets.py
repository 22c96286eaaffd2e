"""Presets: registrations put together from similarities, levels and solvers."""

import math

from regcli.energy.base import Similarity
from regcli.energy.intensity import LNCC
from regcli.recipe import RegisterRecipe
from regcli.registration.features.model import FeatureModel
from regcli.registration.force import GaussNewtonForce
from regcli.registration.linear import typical_extent
from regcli.registration.multiresolution import Level, Registration
from regcli.registration.pyramid import ROUNDING, Prepared
from regcli.registration.symmetric import SymmetricForce
from regcli.registry import REGULARIZERS, TRANSFORMS, build
from regcli.solve.descent import LevenbergMarquardt, Relaxation
from regcli.transforms.linear import Linear
from regcli.transforms.svf import Stationary

_COARSEST = 20  # voxels along an average axis: enough to see the lobes of a brain
_STEPS = (40, 40, 20)  # of the coarsest levels; the last number serves all finer ones
# Steps on the finest level cost more than all others; on coarse ones too few cost Dice.
_TOL, _TOL_COARSE = 1e-3, 1e-4
# Families whose steps gain less each take more of them, and a smaller tolerance on the finest
# level: a T1 pair at 2 mm gained .4 points of Dice by it as a geodesic.
_PATIENT = {"geodesic": ((60, 60, 40), 4e-4)}
# Factor of the gains of learned features beside lncc: with weights of gains .7, 1, 1.6 it gained
# the two most alike of eight T1 pairs at 2 mm half a point of Dice, all eight nothing on average;
# two T1-T2 pairs would have lost 2 points by it.
_BESIDE_LNCC = 0.45


def deformable(
    recipe: RegisterRecipe,
    similarities: tuple[Similarity, ...],
    fixed: Prepared,
    rigidity: Prepared | None = None,
    axes: tuple[bool, bool, bool] = (True, True, True),
    *,
    smoothness: float = 1.0,
    feature_share: float = 1.0,
) -> Registration:
    """The deformable stage; learned features, if the pair has any, are added to what is compared.

    Args:
        recipe: Transform, regularizer, levels and stop rule.
        similarities: Their energies are added.
        fixed: Decides the automatic levels.
        rigidity: A further one at every point of the fixed space.
        axes: Axes of the fixed grid along which displacements are free.
        smoothness: Factor of the regularizers, besides the recipe's, that suits the pair.
        feature_share: Factor of the usual weight of learned features.
    """
    factors = recipe.levels or automatic_levels(fixed, len(recipe.iterations))
    usual, tol = _PATIENT.get(recipe.family, (_STEPS, _TOL))
    steps = recipe.iterations or tuple(usual[min(n, len(usual) - 1)] for n in range(len(factors)))
    finest = min(h for n, h in zip(fixed.space.shape, fixed.space.spacing, strict=True) if n > 1)
    levels = tuple(
        Level(
            finest * factor,
            Relaxation(most, recipe.tol or (tol if factor == factors[-1] else _TOL_COARSE)),
        )
        for factor, most in zip(factors, steps, strict=True)
    )
    transform = build(TRANSFORMS, recipe.transform)
    force = GaussNewtonForce(
        similarities,
        tuple(build(REGULARIZERS, spec) for spec in recipe.regularizers),
        feature_share * (_BESIDE_LNCC if any(isinstance(s, LNCC) for s in similarities) else 1.0),
        recipe.smoothness * smoothness,
        rigidity,
        axes,
    )
    if recipe.symmetric:
        half = Stationary(cap=transform.cap, sigma=transform.sigma, inverse=True)
        return Registration(recipe.family, half, SymmetricForce(force), levels, even=True)
    return Registration(recipe.family, transform, force, levels)


def refinement(family: str, learned: FeatureModel) -> Registration:
    """A linear stage on learned features alone, after one on intensities.

    Args:
        family: Family of linear maps.
        learned: The network whose features are compared.
    """
    levels = tuple(Level(f * learned.spacing_mm, LevenbergMarquardt()) for f in (4, 2))
    return Registration(family, Linear(family), GaussNewtonForce(()), levels)


def automatic_levels(fixed: Prepared, count: int = 0) -> tuple[int, ...]:
    """Shrink factors in powers of two, coarse to fine, down to 1.

    Args:
        fixed: The coarsest level keeps about 20 voxels along its average axis.
        count: How many levels, or 0 for as many as that allows.
    """
    finest = min(h for n, h in zip(fixed.space.shape, fixed.space.spacing, strict=True) if n > 1)
    halvings = math.log2(typical_extent(fixed) / finest / _COARSEST) + ROUNDING
    most = 1 + max(0, math.floor(halvings))
    return tuple(2**n for n in reversed(range(count or most)))

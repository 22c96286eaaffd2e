"""deform: what comes after the linear stage: the whole map by learned steps or by forces."""

import time
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from regcli.image import Box, Space
from regcli.recipe import RegisterRecipe
from regcli.registration.equilibrium.fixed_steps import FixedSteps
from regcli.registration.equilibrium.force import transferred
from regcli.registration.equilibrium.solve import EquilibriumRegistration
from regcli.registration.equilibrium.stage import follow
from regcli.registration.features.model import Learned
from regcli.registration.levels import Watch
from regcli.registration.model_choice import Seen, features
from regcli.registration.multiresolution import region
from regcli.registration.presets import deformable, is_symmetric, refinement
from regcli.registration.priors import Given
from regcli.registration.pyramid import Prepared
from regcli.registration.stages import Found, comparison, free_axes, on_grid
from regcli.registration.symmetric import Meeting, meeting, met
from regcli.registry import LINEAR
from regcli.transforms.geodesic import Geodesic
from regcli.transforms.unfold import unfolded


@dataclass(frozen=True, eq=False)
class Scene:
    """Where two images are deformed: on the fixed grid, or on one half-way between both.

    Attributes:
        fixed: Image.
        moving: Image.
        affine: (4, 4) fixed world to moving world.
        box: What of the fixed grid matters.
        home: The canonical grid of the fixed image itself.
        file: Its grid as it is stored.
        middle: Half-way, if both images are there.
    """

    fixed: Prepared
    moving: Prepared
    affine: Tensor
    box: Box
    home: Space
    file: Space
    middle: Meeting | None

    @cached_property
    def inner(self) -> Prepared:
        """What of the fixed image matters."""
        return self.fixed.cropped(self.box)

    def displacement(self, y: Tensor) -> Tensor:
        """RAS mm on the fixed image's own grid, (1, 3, I, J, K).

        Args:
            y: (1, 3, I, J, K) in voxels: a displacement of the fixed grid, or a velocity half-way.
        """
        if self.middle is not None:
            y = unfolded(self.middle.back(met(y), self.home))
        return on_grid(y, self.home, self.file)


def scene(
    fixed: Prepared, moving: Prepared, affine: Tensor, file: Space, recipe: RegisterRecipe
) -> Scene:
    """Where a recipe deforms two images.

    Args:
        fixed: Image.
        moving: Image.
        affine: (4, 4) fixed world to moving world.
        file: Grid of the fixed image as it is stored.
        recipe: Whether both images move.
    """
    if not is_symmetric(recipe):
        box = region(fixed, moving, affine)
        return Scene(fixed, moving, affine, box, fixed.space, file, None)
    middle = meeting(fixed, moving, affine)
    box, still = Box(middle.space, (0, 0, 0), middle.space.shape), torch.eye(4).to(affine)
    return Scene(middle.fixed, middle.moving, still, box, fixed.space, file, middle)


def by_steps(
    registration: EquilibriumRegistration | FixedSteps,
    where: Scene,
    recipe: RegisterRecipe,
    watch: Watch,
    notes: list[str],
    found: Found,
) -> None:
    """Follow learned steps; what they lead to is put into `found`."""
    clock = time.monotonic()
    y, space = follow(
        registration, where.inner, where.moving, where.affine, recipe, watch, notes, found
    )
    if where.middle is None:
        y = registration.extended(y, space, where.box)
    else:
        y = transferred(y, space, where.middle.space)
    found.displacement = where.displacement(y)
    found.seconds["solve"] = time.monotonic() - clock


def by_forces(
    networks: tuple[Learned, ...],
    where: Scene,
    recipe: RegisterRecipe,
    given: Given,
    watch: Watch,
    notes: list[str],
    found: Found,
) -> None:
    """Follow the forces of intensities and features; what they lead to is put into `found`.

    Args:
        networks: Of features, the preferred one first, if there are any.
        where: The images.
        recipe: What to do; of linear maps, features refine the one that was found.
        given: Prompts, and a factor of the regularization.
        watch: Progress and time limit.
        notes: Takes the decisions.
        found: The linear stage's.
    """
    clock, seen, compared = time.monotonic(), Seen(), None
    inner, moving, affine = where.inner, where.moving, where.affine
    if recipe.transform not in LINEAR:
        compared = comparison(where.fixed, moving, recipe, affine, notes)
        found.metrics, found.contrast = compared.specs, compared.contrast
        if compared.contrast is not None and not compared.contrast.same:
            networks = networks[-1:]  # the preferred one knows one contrast
    if networks:
        began = time.monotonic()
        seen = features(networks, recipe, inner, moving, affine, notes)
        found.trust = seen.trust
        if seen.network is not None:
            found.weights = (seen.network.name, seen.network.sha256)
        found.seconds["features"] = time.monotonic() - began
    network, pair = seen.network, seen.pair
    if compared is None:
        assert network is not None
        registration = refinement(recipe.transform, network)
        y, _, traces = registration.run(inner, moving, affine, watch, pair, given.prompts)
        found.affine = affine @ y
    else:
        share = 1.0
        if network is not None and recipe.model != "dio":
            share = compared.feature_share
            if share == 0:
                pair = _without_features(network, notes, found)
        rigidity = given.rigidity_on(where.file, where.fixed.data.device)
        axes = free_axes(recipe, where.file)
        registration = deformable(
            recipe,
            compared.similarities,
            where.fixed,
            rigidity,
            axes,
            smoothness=compared.smoothness,
            feature_share=share,
        )
        registration = replace(registration, wary=given.aligned)
        y, space, traces = registration.run(inner, moving, affine, watch, pair, given.prompts)
        if isinstance(registration.transform, Geodesic):
            notes.append(registration.transform.in_words(y, space))
        if where.middle is None:
            y = registration.extended(y, space, where.box)
        else:
            y = registration.transform.resize(y, space, where.middle.space)
        found.displacement = where.displacement(y)
    found.traces += traces
    found.seconds["solve"] = time.monotonic() - clock - found.seconds["features"]


def _without_features(network: Learned, notes: list[str], found: Found) -> None:
    """Note that the weights serve no purpose where the metric is sure."""
    notes.append(
        f"Features of the weights {network.name} left out: mind matches these images closely, and "
        "is more exact alone."
    )
    found.weights = None
    if found.trust is not None:
        found.trust = replace(found.trust, used=False)

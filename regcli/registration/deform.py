"""Deforming by energies: of intensities, and of learned features where the images suit these."""

import time
from dataclasses import dataclass, replace

import torch

from regcli.image import Space
from regcli.recipe import RegisterRecipe
from regcli.registration.aligned import AlignedPair
from regcli.registration.features.choice import Candidates, candidates, features
from regcli.registration.levels import Watch
from regcli.registration.method import LinearOnly, Method, StageResult
from regcli.registration.presets import deformable, refinement
from regcli.registration.priors import Priors
from regcli.registration.stages import comparison, free_axes
from regcli.transforms.geodesic import Geodesic


def energy_method(
    recipe: RegisterRecipe, priors: Priors, space: Space, device: torch.device
) -> Method:
    """The method of --model auto, classical and dio; see Method.

    Raises:
        WeightsError: If the weights cannot be used.
        InputError: If learned features were asked for and the images are not 3-D.
    """
    found = candidates(recipe, space)
    if not recipe.linear:
        return Deformation(recipe, priors, found, found.notes)
    return Refinement(recipe, priors, found) if found.networks else LinearOnly(found.notes)


@dataclass(frozen=True, eq=False)
class Refinement(Method):
    """A linear map on learned features alone, after one on intensities.

    Attributes:
        recipe: Its transform.
        priors: Prompts.
        candidates: Networks, at least one.
        notes: See Method.
    """

    recipe: RegisterRecipe
    priors: Priors
    candidates: Candidates
    notes: tuple[str, ...] = ()

    def run(self, pair: AlignedPair, watch: Watch) -> StageResult:
        """See Method."""
        clock = time.monotonic()
        seen = features(self.candidates.networks, pair, insisted=self.candidates.insisted)
        began = time.monotonic()
        assert seen.network is not None
        registration = refinement(self.recipe.transform, seen.network)
        y, _, traces = registration.run(
            pair.inner, pair.moving, pair.affine, watch, seen.pair, self.priors.prompts
        )
        return StageResult(
            affine=pair.affine @ y,
            weights=(seen.network.name, seen.network.sha256),
            traces=tuple(traces),
            seconds={"features": began - clock, "solve": time.monotonic() - began},
            trust=seen.trust,
            notes=seen.notes,
        )


@dataclass(frozen=True, eq=False)
class Deformation(Method):
    """A dense map that lowers the energy of what is compared and of the regularizers.

    Attributes:
        recipe: What to do.
        priors: Prompts, and a factor of the regularization.
        candidates: Networks of features, if there are any.
        notes: See Method.
    """

    recipe: RegisterRecipe
    priors: Priors
    candidates: Candidates
    notes: tuple[str, ...] = ()

    def run(self, pair: AlignedPair, watch: Watch) -> StageResult:
        """See Method."""
        clock, recipe, networks = time.monotonic(), self.recipe, self.candidates.networks
        compared = comparison(pair.fixed, pair.moving, recipe, pair.affine)
        if compared.contrast is not None and not compared.contrast.same:
            networks = networks[-1:]  # the preferred one knows one contrast
        began = time.monotonic()
        seen = features(networks, pair, insisted=self.candidates.insisted)
        seconds = time.monotonic() - began
        notes, network, trust = [*compared.notes, *seen.notes], seen.network, seen.trust
        share, described = 1.0, seen.pair
        if network is not None and not self.candidates.insisted:
            share = compared.feature_share
            if share == 0:  # the weights serve no purpose where the metric is sure
                notes.append(
                    f"Features of the weights {network.name} left out: mind matches these images "
                    "closely, and is more exact alone."
                )
                network, described = None, None
                trust = trust if trust is None else replace(trust, used=False)
        registration = deformable(
            recipe,
            compared.similarities,
            pair.fixed,
            self.priors.rigidity_on(pair.file, pair.fixed.data.device),
            free_axes(recipe, pair.file),
            smoothness=compared.smoothness,
            feature_share=share,
        )
        registration = replace(registration, wary=self.priors.aligned)
        y, space, traces = registration.run(
            pair.inner, pair.moving, pair.affine, watch, described, self.priors.prompts
        )
        if isinstance(registration.transform, Geodesic):
            notes.append(registration.transform.in_words(y, space))
        if pair.middle is None:
            y = registration.extended(y, space, pair.box)
        else:
            y = registration.transform.resize(y, space, pair.middle.space)
        displacement = pair.displacement(y)
        return StageResult(
            affine=pair.fixed_to_moving,
            displacement=displacement,
            metrics=compared.specs,
            weights=None if network is None else (network.name, network.sha256),
            traces=tuple(traces),
            seconds={"features": seconds, "solve": time.monotonic() - clock - seconds},
            trust=trust,
            contrast=compared.contrast,
            notes=tuple(notes),
        )

"""features: what a network says of one image, with its colours and where it can move voxels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regcli.energy.features import ONE
from regcli.errors import InputError, WeightsError
from regcli.image import Image, Space
from regcli.io import weights as files
from regcli.io.images import read_image
from regcli.machine import choose_device, settings
from regcli.ops.components import Components, moments, principal_components
from regcli.ops.directions import rounding_bound, singular_values
from regcli.ops.memory import release
from regcli.recipe import RegisterRecipe
from regcli.registration.equilibrium.model import are_steps
from regcli.registration.features.channels import Channel, channels
from regcli.registration.features.extract import extract, working_grid
from regcli.registration.features.model import FeatureModel, load
from regcli.registration.multiresolution import region
from regcli.registration.normalize import FOREGROUND, prepare, robust_range
from regcli.registration.pyramid import Prepared

# Below this share of the strongest edges' singular values a direction does not count: squared
# differences curve there 400 times less than at such edges.
SHARE = 0.05
_STRONGEST = 0.99  # percentile of the largest singular values: the maximum is one odd voxel


@dataclass(frozen=True, eq=False)
class LevelMaps:
    """One level of features, with what is made of it.

    Attributes:
        space: Its grid.
        image: (1, I, J, K) float32, the image smoothed to suit it, its robust range in [0, 1].
        foreground: (I, J, K) bool, what `image` shows: PCA, thresholds and shares are taken there.
        features: (C, I, J, K) uint8, probabilities times 255.
        pca: (3, I, J, K) float32, probabilities along the principal components of all levels.
        explained: Share of this level's variance in the foreground along each of these.
        singular_values: (3, I, J, K) float32, falling: of the C x 3 matrix of the features'
            gradients, probability per mm.
        strongest: 99th percentile of the largest of them, per mm.
        rounding: What the rounding of probabilities to bytes can make of them at most, per mm.
    """

    space: Space
    image: Tensor
    foreground: Tensor
    features: Tensor
    pca: Tensor
    explained: list[float]
    singular_values: Tensor
    strongest: float
    rounding: float

    @property
    def name(self) -> str:
        """Its name in file names."""
        return level_name(self.space.spacing[0])

    @property
    def threshold(self) -> float:
        """Per mm: features change along a direction where a singular value is above it."""
        return self.threshold_at(SHARE)

    def threshold_at(self, share: float) -> float:
        """The threshold for another share of the strongest edges than SHARE."""
        return max(share * self.strongest, self.rounding)

    @property
    def rank(self) -> Tensor:
        """(I, J, K) uint8 of 0 to 3: in how many directions features can move a voxel."""
        return (self.singular_values > self.threshold).sum(dim=0, dtype=torch.uint8)

    def rank_shares(self, share: float = SHARE) -> list[float]:
        """Shares of the foreground with rank 0, 1, 2 and 3.

        Args:
            share: Of the strongest edges, what counts as a direction.
        """
        inside = self.singular_values[:, self.foreground]
        return _shares((inside > self.threshold_at(share)).sum(dim=0))

    def rank_shares_by_channel(self) -> list[list[float] | None]:
        """As `rank_shares`, where each channel is the largest; None where it is so nowhere."""
        largest = self.features.max(dim=0).indices[self.foreground]
        ranks = self.rank[self.foreground].long()
        groups = (ranks[largest == n] for n in range(len(self.features)))
        return [_shares(group) if len(group) else None for group in groups]


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """The features of an image, as maps to look at.

    Attributes:
        weights: Name and SHA-256.
        channels: Of all levels.
        components: Of probabilities, in the foregrounds of all levels together: the same axes for
            all, so that a colour means the same on each.
        levels: Coarse to fine.
        volumes: mL of every channel but the background.
        usual: Share of them that is usual for images like those the network was trained on.
    """

    weights: tuple[str, str]
    channels: tuple[Channel, ...]
    components: Components
    levels: tuple[LevelMaps, ...]
    volumes: tuple[float, ...]
    usual: float

    @property
    def warnings(self) -> list[str]:
        """Warnings for the user."""
        if self.usual == 1:
            return []
        return [
            f"The image does not suit the weights {self.weights[0]}: {self.usual:.0%} of the "
            "structures have a usual volume, and register --model auto wants all; regcli weights "
            "list tells of others."
        ]


def features(
    image: Image | str | Path,
    weights: str = files.DEFAULT,
    *,
    device: str = "auto",
    threads: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> FeatureMaps:
    """Extract the features of one image, as if it were the fixed image of a registration.

    Args:
        image: An image or its path; one channel, 3-D, any grid.
        weights: Name of shipped weights of dio, or a file of such.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: 0 for all cores.
        progress: Called with a stage and the share of it that is done.

    Raises:
        WeightsError: If the weights are missing, damaged, of another kind, or say something that
            is no number.
        InputError: If the image is not 3-D or shows nothing.
    """
    recipe = RegisterRecipe(model="dio", weights=weights, device=device, threads=threads)
    learned = feature_weights(weights)
    image = image if isinstance(image, Image) else read_image(image).image
    check_image(image, "The image")
    progress = progress or (lambda stage, share: None)
    with settings(recipe):
        place = choose_device(recipe.device)
        ready = prepare(image, None, place)
        ready = ready.cropped(region(ready, ready, torch.eye(4, dtype=torch.float64)))
        maps = _maps(learned, ready, files.facts(files.find(weights).path), progress)
    release()
    return maps


def level_name(spacing_mm: float) -> str:
    """The name of a level in file names, such as 2mm."""
    return f"{spacing_mm:.4g}mm"


def feature_weights(spec: str) -> FeatureModel:
    """The network of features that `--weights` means.

    Raises:
        WeightsError: If the file is missing, damaged, or holds weights that have no features.
    """
    if are_steps(spec):
        raise WeightsError(
            f"The weights '{spec}' are of a network of steps, which has no features.",
            f"Give weights of dio, such as {files.DEFAULT}.",
        )
    return load(spec)


def check_image(image: Image, name: str | Path) -> None:
    """Refuse an image that no network of features can see.

    Args:
        image: Any.
        name: What to call it.

    Raises:
        InputError: If it is not 3-D, or constant.
    """
    if not all(image.space.solid):
        shape = "x".join(map(str, image.space.shape))
        raise InputError(
            f"{name} is 2-D ({shape}), and the weights are for 3-D images.", "Give a 3-D image."
        )
    low, high = robust_range(image.data)
    if low == high:
        raise InputError(
            f"{name} is constant: every voxel is {low:g}.", "Give an image that shows something."
        )


def _shares(ranks: Tensor) -> list[float]:
    """Shares of the values 0, 1, 2 and 3 among ranks, (N,)."""
    return (torch.bincount(ranks, minlength=4) / len(ranks)).tolist()


def _maps(
    learned: FeatureModel,
    ready: Prepared,
    facts: dict[str, Any],
    progress: Callable[[str, float], None],
) -> FeatureMaps:
    eye = torch.eye(4, dtype=torch.float64)
    grid = working_grid(ready.space, learned.spacing_mm, learned.net.multiple)
    progress("features", 0.0)
    described = extract(learned.net.to(ready.data.device), ready.onto(grid, eye), learned.gains)
    progress("features", 1.0)
    volumes = described.volumes()
    seen = [
        _Seen(space, _shown(ready.onto(space, eye)), level[0].cpu())
        for space, level in zip(described.spaces, described.levels, strict=True)
    ]
    sums = [moments(one.features, one.foreground) for one in seen]
    found = principal_components(reduce(add, sums))
    levels = []
    for one, own in zip(seen, sums, strict=True):
        levels.append(_level(one, found, found.explained(own)))
        progress("maps", len(levels) / len(seen))
    return FeatureMaps(
        weights=(learned.name, learned.sha256),
        channels=channels(learned.net.channels, facts),
        components=Components(found.mean / ONE, found.axes),
        levels=tuple(levels),
        volumes=tuple(volumes),
        usual=described.suits(learned.usual),
    )


@dataclass(frozen=True, eq=False)
class _Seen:
    """A level as it comes: its grid, what the image shows there, (1, I, J, K), and bytes."""

    space: Space
    image: Tensor
    features: Tensor

    @cached_property
    def foreground(self) -> Tensor:
        """(I, J, K) bool; everything on a grid too coarse to show anything."""
        inside = self.image[0] > FOREGROUND
        return inside if bool(inside.any()) else torch.ones_like(inside)


def _shown(image: Prepared) -> Tensor:
    # what the image does not cover shows nothing, as for the network
    return (image.data if image.weight is None else image.data * image.weight)[0].cpu()


def _level(seen: _Seen, components: Components, explained: list[float]) -> LevelMaps:
    steps = seen.space.affine[:3, :3]
    values = singular_values(seen.features, steps).div_(ONE)
    largest = values[0][seen.foreground].sort().values
    return LevelMaps(
        space=seen.space,
        image=seen.image,
        foreground=seen.foreground,
        features=seen.features,
        pca=components.of(seen.features).div_(ONE),
        explained=explained,
        singular_values=values,
        strongest=float(largest[int(_STRONGEST * (len(largest) - 1))]),
        rounding=rounding_bound(len(seen.features), steps, 1 / ONE),
    )

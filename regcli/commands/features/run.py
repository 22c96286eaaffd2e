"""features_files: what a network says of an image, as maps, a picture and numbers."""

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import regcli
from regcli.commands.features.picture import draw_features
from regcli.commands.record import spare_result
from regcli.commands.register.results import describe_file, verify_image
from regcli.energy.features import ONE
from regcli.errors import MemoryShortageError, OutputError, RecipeError
from regcli.image import Image, Storage
from regcli.io import weights as files
from regcli.io.images import ImageFile, read_header, read_image, write_image
from regcli.io.nifti import write_stored
from regcli.io.outputs import OutputFolder, open_outputs
from regcli.machine import check_threads, choose_device
from regcli.registration.features.maps import (
    SHARE,
    FeatureMaps,
    LevelMaps,
    check_image,
    feature_weights,
    features,
    level_name,
)

KINDS = ("image", "features", "pca", "rank", "singular_values")
PICTURE, RECORD = "features.png", "features.json"
_FACTORS = (4, 2, 1)  # of the levels' voxel sizes, to that of the weights
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
_BYTES = Storage("uint8", 1 / ONE)
_UNITS = {
    "image": "0 and 1 are the ends of the robust range of intensities, from which features are "
    "found; smoothed to suit the level's voxels",
    "features": "probabilities, one volume per channel",
    "pca": "probabilities less their mean, along the three axes of most variance in the "
    "foregrounds of all levels together, most first; each axis is turned so that its largest "
    "loading is positive; pca_explained is the share of a level's own variance",
    "singular_values": "probability per mm, largest first: of the C x 3 matrix J of the features' "
    "gradients, central differences along x, y and z",
    "rank": "singular values above threshold_per_mm: in how many directions features can move a "
    "voxel. The threshold is threshold_share of the 99th percentile of the largest singular "
    "values in the foreground (strongest_per_mm): below, squared differences of features curve "
    f"{1 / SHARE**2:.0f} times less than at strong edges. It is never less than what rounding to "
    "bytes can feign (rounding_per_mm)",
    "foreground": "above 5 % of the robust range on the level's grid; numbers are taken there",
}
_OURS = re.compile(rf"({'|'.join(KINDS)})_[0-9.e+-]+mm\.nii\.gz")


@dataclass(frozen=True)
class FeatureJob:
    """One image and what is asked of it.

    Attributes:
        image: Its file.
        out: Folder of the result.
        weights: Name of shipped weights of dio, or a file of such.
        frame: Which frame of a 4-D image: a number from 0, or "mean".
        device: As of a recipe.
        threads: 0 for all cores.
        force: Replace an earlier result.
        command: As the user gave it, for features.json.
    """

    image: Path
    out: Path
    weights: str = files.DEFAULT
    frame: int | str | None = None
    device: str = "auto"
    threads: int = 0
    force: bool = False
    command: tuple[str, ...] = ()


def features_files(
    job: FeatureJob, progress: Callable[[str, float], None] | None = None
) -> dict[str, Any]:
    """Write the features of an image, their colours, and in how many directions they can move it.

    Args:
        job: What to do.
        progress: Called with a stage and the share of it that is done.

    Returns:
        What features.json holds.

    Raises:
        RegcliError: Of the kind that fits; nothing is then left in the folder.
    """
    began, progress = time.monotonic(), progress or (lambda stage, share: None)
    check_threads(job.threads)
    learned = feature_weights(job.weights)
    names = _names(learned.spacing_mm)
    _spare(job, names)
    with open_outputs(job.out, names, force=job.force) as folder:
        progress("read", 0.0)
        file = _read(job)
        check_image(file.image, job.image)
        read = time.monotonic()
        with _memory_watched(file.image):
            maps = features(
                file.image,
                job.weights,
                device=job.device,
                threads=job.threads,
                progress=progress,
            )
        found = time.monotonic()
        _write(maps, folder, progress)
        draw_features(maps, folder.stage(PICTURE), job.image.name)
        record = _record(job, file, maps)
        record["outputs"] = {_kind(name): str(job.out / name) for name in names}
        seconds = {"read": read - began, "features": found - read}
        seconds |= {"write": time.monotonic() - found, "total": time.monotonic() - began}
        record["seconds"] = {name: round(value, 3) for name, value in seconds.items()}
        text = json.dumps(record, indent=1, allow_nan=False)
        folder.stage(RECORD).write_text(text, encoding="utf-8")
        earlier = _earlier(job.out)
        folder.commit(names)
        for name in earlier - set(names):
            (job.out / name).unlink(missing_ok=True)
        progress("write", 1.0)
    return record


def _names(spacing_mm: float) -> list[str]:
    """Every file, coarse to fine, the record last."""
    levels = [level_name(spacing_mm * factor) for factor in _FACTORS]
    maps = [_file(kind, level) for level in levels for kind in KINDS]
    return [*maps, PICTURE, RECORD]


def _file(kind: str, level: str) -> str:
    return f"{kind}_{level}.nii.gz"


def _kind(name: str) -> str:
    """The name of a file in the record."""
    return {PICTURE: "picture", RECORD: "json"}.get(name, name.removesuffix(".nii.gz"))


def _spare(job: FeatureJob, names: list[str]) -> None:
    """Refuse to write over a registration's record or over the image, whatever --force says."""
    spare_result(job.out)
    for name in names:
        if (job.out / name).resolve() == job.image.resolve():
            raise OutputError(
                f"{job.image} is the input of this run and would be overwritten.",
                "Choose another folder with -o.",
            )


def _earlier(out: Path) -> set[str]:
    """Names of the maps that an earlier record in this folder lists as its own."""
    try:
        listed = json.loads((out / RECORD).read_text(encoding="utf-8"))["outputs"]
        names = {Path(path).name for path in listed.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
    return {name for name in names if _OURS.fullmatch(name)}


def _read(job: FeatureJob) -> ImageFile:
    if job.frame is not None and read_header(job.image).frames == 1:
        raise RecipeError("--frame has no effect: the image is not 4-D.", "Leave it out.")
    return read_image(job.image, frame=job.frame)


@contextmanager
def _memory_watched(image: Image) -> Iterator[None]:
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise MemoryShortageError(
            f"Memory ran out while describing {image.data.numel() / 1e6:.0f} million voxels.",
            "Use --device cpu, or crop the image.",
        ) from error


def _write(maps: FeatureMaps, folder: OutputFolder, progress: Callable[[str, float], None]) -> None:
    """Write every map, side by side, and read each back."""

    def write(kind: str, level: LevelMaps) -> None:
        path = folder.stage(_file(kind, level.name))
        if kind == "features":
            write_stored(level.features.numpy(), level.space, _BYTES, path)
        elif kind == "rank":
            write_stored(level.rank[None].numpy(), level.space, Storage("uint8"), path)
        else:
            write_image(Image(getattr(level, kind), level.space), path)
        verify_image(path, level.space)

    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        tasks = [pool.submit(write, kind, level) for level in maps.levels for kind in KINDS]
        for done, task in enumerate(tasks):
            task.result()
            progress("write", (done + 1) / (len(tasks) + 1))


def _record(job: FeatureJob, file: ImageFile, maps: FeatureMaps) -> dict[str, Any]:
    """The content of features.json, without files and times."""
    return {
        "version": regcli.__version__,
        "command": shlex.join(job.command),
        "image": describe_file(file),
        "frame": job.frame,
        "weights": dict(zip(("name", "sha256"), maps.weights, strict=True)),
        "device": str(choose_device(job.device)),
        "threads": job.threads or torch.get_num_threads(),
        "units": _UNITS,
        "channels": [
            {"name": c.name, "codes": list(c.codes), "volume_ml": volume}
            for c, volume in zip(maps.channels, (None, *maps.volumes), strict=True)
        ],
        "usual_share": maps.usual,
        "pca": {
            "mean": maps.components.mean.tolist(),
            "axes": maps.components.axes.tolist(),
        },
        "levels": [_level(level, maps) for level in maps.levels],
        "warnings": [*file.warnings, *maps.warnings],
    }


def _level(level: LevelMaps, maps: FeatureMaps) -> dict[str, Any]:
    inside = level.singular_values[:, level.foreground]
    return {
        "name": level.name,
        "shape": list(level.space.shape),
        "spacing": list(level.space.spacing),
        "affine": level.space.affine.tolist(),
        "files": {kind: _file(kind, level.name) for kind in KINDS},
        "foreground_voxels": int(level.foreground.sum()),
        "pca_explained": level.explained,
        "rank": {
            "percent": [100 * share for share in level.rank_shares()],
            "threshold_per_mm": level.threshold,
            "threshold_share": SHARE,
            "strongest_per_mm": level.strongest,
            "rounding_per_mm": level.rounding,
            "median_singular_values_per_mm": inside.median(dim=1).values.tolist(),
            "percent_by_channel": {
                channel.name: None if shares is None else [100 * part for part in shares]
                for channel, shares in zip(
                    maps.channels, level.rank_shares_by_channel(), strict=True
                )
            },
            "percent_by_share": {
                f"{share:g}": [100 * part for part in level.rank_shares(share)] for share in _SHARES
            },
        },
    }

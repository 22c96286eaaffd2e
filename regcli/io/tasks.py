"""Learn2Reg's *_evaluation_config.json: which pairs are measured, by what, and in which files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib

from regcli.errors import InputError
from regcli.io.files import read_text
from regcli.io.images import read_header

METRICS = ("dice", "hd95", "tre", "sdlogj", "ndv")
_ENDINGS = (".npz", ".nii.gz")  # the evaluator takes the first that is there
_GIVE = "Give the *_evaluation_config.json of Learn2Reg, or correct it."


@dataclass(frozen=True)
class Method:
    """One number of a case.

    Attributes:
        name: What the task calls it.
        metric: Of METRICS.
        labels: Codes, of dice and hd95.
        dest: What stands for "images" in the names of landmark files, of tre.
    """

    name: str
    metric: str
    labels: tuple[int, ...] = ()
    dest: str = ""


@dataclass(frozen=True)
class TaskPair:
    """Two images of a task by their paths in it, which end in ..._0001_0000.nii.gz."""

    fixed: str
    moving: str

    @property
    def name(self) -> str:
        """The evaluator's name of the case."""
        return "<--".join("_".join(_ids(image)) for image in (self.fixed, self.moving))

    @property
    def one_modality(self) -> bool:
        """Whether the evaluator takes landmarks of the plain name, and once took short fields."""
        fixed, moving = (_ids(image)[1] for image in (self.fixed, self.moving))
        return fixed == moving or (fixed, moving) == ("0000", "0001")

    @property
    def fields(self) -> tuple[str, ...]:
        """Names that the displacement field may have, but for their ending."""
        (fixed, first), (moving, second) = _ids(self.fixed), _ids(self.moving)
        short = (f"disp_{fixed}_{moving}",) if self.one_modality else ()
        return (*short, f"disp_{fixed}_{first}_{moving}_{second}")


@dataclass(frozen=True)
class Task:
    """The measures of a task.

    Attributes:
        name: Of the task.
        data: Folder that the paths of images start from.
        methods: At least one; their names differ.
        pairs: At least one; their names differ.
        shape: (I, J, K) of the displacements.
        masked: Whether sdlogj is taken inside the fixed image's mask.
    """

    name: str
    data: Path
    methods: tuple[Method, ...]
    pairs: tuple[TaskPair, ...]
    shape: tuple[int, int, int]
    masked: bool

    def beside(self, image: str, word: str, ending: str = ".nii.gz") -> Path:
        """The file of an image's labels, masks or landmarks: `word` stands for "images"."""
        path = image.replace("images", word)
        return self.data / (path.removesuffix(".nii.gz") + ending)

    def landmarks(self, pair: TaskPair, dest: str) -> tuple[Path, Path]:
        """Files of a pair's landmarks: CSV, or labels (.nii.gz) as in LUMIR.

        Raises:
            InputError: If there are none.
        """
        words = [dest]
        if not pair.one_modality:  # of the two modalities, as releases of the evaluator write them
            pair_of = sorted(_ids(image)[1] for image in (pair.fixed, pair.moving))
            words = [dest + "".join(str(int(m)) for m in pair_of), dest + "".join(pair_of)]
        for word in words:
            for ending in (".csv", ".nii.gz"):
                fixed, moving = (self.beside(p, word, ending) for p in (pair.fixed, pair.moving))
                if fixed.exists() and moving.exists():
                    return fixed, moving
        missing = self.beside(pair.fixed, words[0], ".csv")
        raise InputError(
            f"{pair.name} has no landmarks: {missing}, or that of the moving image, is missing.",
            "Give the folder of the task's data by --data.",
        )


def read_task(path: Path, data: Path | None = None) -> Task:
    """A task from its file.

    Args:
        path: The JSON file.
        data: Folder that holds the images, labels and landmarks; default the file's own.

    Raises:
        InputError: If it is missing, or not the configuration of an evaluation.
    """
    try:
        content = json.loads(read_text(path, _GIVE))
        methods = tuple(_method(path, entry) for entry in content["evaluation_methods"])
        pairs = tuple(TaskPair(pair["fixed"], pair["moving"]) for pair in content["eval_pairs"])
        shape = tuple(int(n) for n in content["expected_shape"])
        name = str(content.get("task_name") or content.get("name") or path.stem)
        names = [pair.name for pair in pairs]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is no task of Learn2Reg: {what}.", _GIVE) from None
    if not methods or not pairs:
        raise InputError(f"{path} names no method or no pair.", _GIVE)
    if len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
        raise InputError(f"{path}: expected_shape is not [I, J, K, 3].", _GIVE)
    i, j, k, _ = shape
    for what in ([method.name for method in methods], names):
        if twice := [name for name in what if what.count(name) > 1]:
            raise InputError(f"{path} has {twice[0]} twice.", _GIVE)
    masked = bool(content.get("masked_evaluation", False))
    return Task(name, data or path.parent, methods, pairs, (i, j, k), masked)


def find_field(folder: Path, pair: TaskPair) -> Path:
    """The displacement field of a pair.

    Raises:
        InputError: If the folder has none.
    """
    names = [name + ending for name in pair.fields for ending in _ENDINGS]
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise InputError(
        f"{folder} has no {' or '.join(names[1::2])}.",
        "Name the folder of displacement fields by --warp.",
    )


def _method(path: Path, entry: dict[str, Any]) -> Method:
    metric = entry["metric"]
    if metric not in METRICS:
        raise InputError(
            f"{path}: '{metric}' is no metric of Learn2Reg.", f"Choose from {', '.join(METRICS)}."
        )
    labels = tuple(int(code) for code in entry["labels"]) if metric in ("dice", "hd95") else ()
    dest = str(entry["dest"]) if metric == "tre" else ""
    return Method(str(entry["name"]), metric, labels, dest)


def _ids(image: str) -> tuple[str, str]:
    """Subject and modality: "0001", "0000" of ..._0001_0000.nii.gz."""
    subject, modality = image[-16:-12], image[-11:-7]
    if not (subject.isdigit() and modality.isdigit() and image.endswith(".nii.gz")):
        raise ValueError(f"{image} does not end in _0001_0000.nii.gz")
    return subject, modality


def read_zooms(image: Path) -> tuple[float, ...]:
    """Spacing of an image as its pixdim says it, which is what the evaluator takes, mm.

    Raises:
        InputError: If it cannot be read.
    """
    read_header(image)  # names what is wrong with it
    return nib.Nifti1Image.from_filename(image).header.get_zooms()[:3]

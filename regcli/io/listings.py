"""Listings: which cases a folder, a CSV or a Learn2Reg JSON holds, and which files are of one.

Files belong together if their names agree, but for a last word that says what they hold
(sub-01_dseg) or, in an image's name, how it was made (sub-01_T1w, BRATS_001_0000).
"""

import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regcli.errors import InputError
from regcli.io.files import extension, open_input, read_text
from regcli.io.images import FORMATS

Pairs = tuple[tuple[str, str], ...]

_ROLES = ("image", "labels", "points", "mask")
_POINTS = (".csv", ".fcsv")
_WORDS = {  # names of folders, last words of files, columns of a CSV, keys of a JSON
    **dict.fromkeys(("image", "images", "img", "imgs", "scans", "volumes"), "image"),
    **dict.fromkeys(("label", "labels", "seg", "segs", "dseg", "segmentation"), "labels"),
    **dict.fromkeys(("segmentations", "aseg", "aparc+aseg", "synthseg"), "labels"),
    **dict.fromkeys(("points", "keypoints", "landmarks"), "points"),
    **dict.fromkeys(("mask", "masks", "brainmask"), "mask"),
}
_DETAILS = ("desc-", "label-", "atlas-", "seg-")  # BIDS entities that leave the grid as it is
_LIST = "Rename the files alike, or list them in a CSV: image,labels,points,mask,split,name."
_LEARN2REG = "Give the *_dataset.json that came with the images, or correct it."


@dataclass(frozen=True)
class Case:
    """One image and what belongs to it; all files are there and not empty.

    Attributes:
        name: Unique; the image's file name without its ending, unless DATA says otherwise.
        image: None if there is a label map alone.
        labels: Label map.
        points: CSV or .fcsv; the rows of paired cases correspond.
        mask: Where the image counts.
    """

    name: str
    image: Path | None
    labels: Path | None = None
    points: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Listing:
    """The entries of DATA, before they are checked."""

    cases: Sequence[Case]
    held_out: frozenset[str] | None = None
    pairs: Pairs = ()
    training_pairs: Pairs = ()


def list_data(data: Path, labels_only: bool) -> Listing:
    """The cases of a folder, a CSV or a Learn2Reg JSON; see `io.cases.read_cohort`.

    Raises:
        InputError: If it is malformed, or it is open what belongs together.
    """
    if data.is_dir():
        described = [p for p in _entries(data) if p.name.endswith("_dataset.json")]
        if len(described) > 1:
            raise InputError(f"{data} holds {len(described)} *_dataset.json.", "Name one of them.")
        return _list_learn2reg(*described) if described else _list_folder(data, labels_only)
    if extension(data) == ".json":
        return _list_learn2reg(data)
    if extension(data) in (".csv", ".tsv"):
        return _list_table(data)
    open_input(data).close()
    raise InputError(f"{data} does not list images.", "Give a folder, a CSV or a Learn2Reg JSON.")


def _list_folder(data: Path, labels_only: bool) -> Listing:
    own, folders = _folder_role(data), _role_folders(data)
    if own and not folders:
        folders = _role_folders(data.parent) | {own: [data]}
    if own in (None, "image"):
        folders.setdefault("image", [data])
    files: dict[str, list[Path]] = {role: [] for role in _ROLES}
    for place, paths in folders.items():
        if len(paths) > 1:
            raise InputError(f"{paths[0]} and {paths[1]} may both hold the {place}.", _LIST)
        for path in _entries(paths[0]):
            if role := _file_role(path, place):
                files[role].append(path)
    if labels_only and not own and not files["labels"] and folders["image"] == [data]:
        files |= {"image": [], "labels": files["image"]}
    return Listing(_join(files, labels_only))


def _role_folders(folder: Path) -> dict[str, list[Path]]:
    folders = defaultdict(list)
    for path in _entries(folder):
        if (role := _folder_role(path)) and path.is_dir():
            folders[role].append(path)
    return dict(folders)


def _folder_role(folder: Path) -> str | None:
    return _WORDS.get(folder.name.lower().removesuffix("tr"))


def _file_role(path: Path, place: str) -> str | None:
    """The role of a file by its ending, its folder and, among images, its last word."""
    word = _WORDS.get(_stem(path).rpartition("_")[2].lower())
    if extension(path) in _POINTS:
        return "points" if "points" in (place, word) else None
    if extension(path) not in FORMATS or place == "points":
        return None
    return word if place == "image" and word in ("labels", "mask") else place


def _join(files: dict[str, list[Path]], labels_only: bool) -> list[Case]:
    """A case for every image and, if only labels count, for every label map without one."""
    cases = {image: {"image": image} for image in files["image"]}
    for role in _ROLES[1:]:
        found, loose = _match(files[role], list(cases))
        lacking = next((owner for owner in cases if owner not in found), None)
        for owner, path in found.items():
            cases[owner][role] = path
        if role == "labels" and labels_only:
            cases |= {path: {role: path} for path in loose}
        elif loose and lacking:  # files of images that were taken away do no harm
            raise InputError(f"{loose[0]} is of no image, and {lacking} has no {role}.", _LIST)
    return [_case(_stem(owner), own) for owner, own in cases.items()]


def _match(paths: list[Path], owners: list[Path]) -> tuple[dict[Path, Path], list[Path]]:
    """The file of every owner that has one, and the files that have no owner."""
    indices = [defaultdict(list) for _ in range(3)]  # the first that knows a file decides
    for owner in owners:
        keys = _stem(owner), _short(owner), _short(owner).rpartition("_")[0]
        for index, key in zip(indices, keys, strict=True):
            index[key].append(owner)
    found: dict[Path, Path] = {}
    loose = []
    for path in paths:
        keys = _stem(path), _short(path), _short(path) or None  # no name is like no other
        said = zip(indices, keys, strict=True)
        near = next((index[key] for index, key in said if key in index), [])
        if len(near) > 1:
            raise InputError(f"{path} may be of {near[0].name} or {near[1].name}.", _LIST)
        if near and near[0] in found:
            raise InputError(f"{found[near[0]]} and {path} may be of {near[0].name}.", _LIST)
        if near:
            found[near[0]] = path
        else:
            loose.append(path)
    return found, loose


def _list_table(path: Path) -> Listing:
    cases, held_out, split = [], set(), False
    for number, row in _rows(path):
        files = {role: path.parent / row[role] for role in _ROLES if row.get(role)}
        first = files.get("image") or files.get("labels")
        if first is None:
            raise InputError(f"{path}, row {number}: no image and no labels.", "Name one of them.")
        name, part = row.get("name") or _stem(first), row.get("split", "").lower()
        if part not in ("", "training", "validation"):
            raise InputError(
                f"{path}, row {number}: '{part}' is no split.", "Write training or validation."
            )
        cases.append(_case(name, files))
        split |= part != ""
        held_out |= {name} if part == "validation" else set()
    return Listing(cases, frozenset(held_out) if split else None)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The number and the cells of every row that is not blank."""
    lines = read_text(path, "Save it as UTF-8.").splitlines()
    first = next((line for line in lines if line.strip()), "")
    reader = csv.reader(lines, delimiter=max(",;\t", key=first.count))
    try:
        rows = [(reader.line_num, [c.strip() for c in row]) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}, row {reader.line_num}: {error}.", "Correct the row.") from None
    rows = [(number, row) for number, row in rows if any(row)]
    header = [_WORDS.get(cell.lower(), cell.lower()) for cell in rows[0][1]] if rows else []
    if not {"image", "labels"} & set(header):
        raise InputError(f"{path} has no column image or labels.", "Name the columns in row 1.")
    for role in (*_ROLES, "split", "name"):
        if header.count(role) > 1:
            raise InputError(f"{path} has two columns for {role}.", "Leave one of them.")
    for number, row in rows:
        if len(row) > len(header):
            raise InputError(f"{path}, row {number}: {len(row)} cells.", "Quote names with commas.")
    return [(number, dict(zip(header, row, strict=False))) for number, row in rows[1:]]


def _list_learn2reg(path: Path) -> Listing:
    try:
        content = json.loads(read_text(path, "Save it as UTF-8."))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}.", _LEARN2REG) from None
    training = content.get("training") if isinstance(content, dict) else None
    if isinstance(training, dict):  # one list per modality, as in AbdomenMRCT
        lists = [part for part in training.values() if isinstance(part, list)]
        training = [entry for part in lists for entry in part]
    if not isinstance(training, list) or not training:
        raise InputError(f"{path} has no list 'training'.", _LEARN2REG)
    cases = [_entry(path, entry) for entry in training]
    validated = _pairs(path, content, "registration_val") or _pairs(path, content, "validation")
    trained = _pairs(path, content, "training_paired_images")
    known = {case.image for case in cases}
    for image in dict.fromkeys(image for pair in (*trained, *validated) for image in pair):
        if image not in known:  # LUMIR lists what is validated nowhere else
            cases.append(_case(_stem(image), _beside(image)))
    held_out = {image for pair in validated for image in pair}
    tested = {image for pair in _pairs(path, content, "registration_test") for image in pair}
    return Listing(
        [case for case in cases if case.image not in tested - held_out],
        frozenset(map(_stem, held_out)) or None,
        tuple((_stem(fixed), _stem(moving)) for fixed, moving in validated),
        tuple((_stem(fixed), _stem(moving)) for fixed, moving in trained),
    )


def _entry(path: Path, entry: object) -> Case:
    """A case of 'training'. ThoraxCBCT's keypoints01 and keypoints02, of pairs, are not read."""
    said = {"image": entry} if isinstance(entry, str) else entry
    paths = {k: v for k, v in said.items() if k in _WORDS} if isinstance(said, dict) else {}
    if "image" not in paths or not all(isinstance(value, str) for value in paths.values()):
        raise InputError(
            f"{path}: an entry of 'training' has no 'image', or a path that is no text.", _LEARN2REG
        )
    # backwards, so that keypoints go before landmarks
    files = {_WORDS[key]: path.parent / paths[key] for key in sorted(paths, reverse=True)}
    points = files.get("points")
    if points and extension(points) in FORMATS and not points.exists():  # so written by Learn2Reg
        files["points"] = points.with_name(f"{_stem(points)}.csv")
    return _case(_stem(files["image"]), _beside(files["image"]) | files)


def _beside(image: Path) -> dict[str, Path]:
    """The image, and the files of its name in labelsTr, masksTr, ... next to its imagesTr."""
    files, part = {"image": image}, image.parent.name.removeprefix("images")
    for word in ("labels", "masks", "keypoints", "landmarks"):
        name = f"{_stem(image)}.csv" if _WORDS[word] == "points" else image.name
        path = image.parent.with_name(word + part) / name
        if path.exists():
            files.setdefault(_WORDS[word], path)
    return files


def _pairs(path: Path, content: dict, key: str) -> list[tuple[Path, Path]]:
    pairs = content.get(key) or ()
    try:
        return [(path.parent / pair["fixed"], path.parent / pair["moving"]) for pair in pairs]
    except (KeyError, TypeError):
        raise InputError(
            f"{path}: '{key}' is no list of pairs of 'fixed' and 'moving'.", _LEARN2REG
        ) from None


def _case(name: str, files: dict[str, Path]) -> Case:
    return Case(name, *(files.get(role) for role in _ROLES))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"{folder} cannot be listed: {error.strerror}.", "Check the folder."
        ) from None


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(extension(path))]


def _short(path: Path) -> str:
    """The name without the words that say what a file holds."""
    words = _stem(path).split("_")
    while words and words[-1].lower() in _WORDS:
        words.pop()
    return "_".join(word for word in words if not word.startswith(_DETAILS))

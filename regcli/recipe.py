"""RegisterRecipe: all options of a registration as plain values, presets, TOML and JSON."""

import dataclasses
import json
import math
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regcli import registry
from regcli.compatibility import BESIDE, FAMILIES_REFUSED, Rule, rules
from regcli.errors import InputError, RecipeError

INITS = ("auto", "none", "header", "moments")
_REGULARIZERS = ("diffusion:weight=0.1", "volume")  # that "auto" stands for
_OWN_REGULARIZERS = {"deq": ("diffusion",)}  # of methods with other ones
_ONE_LIMIT = ("deq",)  # methods whose levels share one limit of iterations
_SEEDS = 1 << 63  # torch takes no more
INTERPOLATIONS = ("auto", "linear", "nearest", "label", "cubic")


@dataclass(frozen=True)
class RegisterRecipe:
    """Everything that decides the result of a registration, but the images.

    Attributes:
        model: "classical", "dio" (learned features), "deq" (learned steps), or "auto": dio if
            weights suit the images.
        weights: Name of shipped weights, or a path; empty for the default ones.
        transform: A spec of registry.TRANSFORMS; a deformable one follows the linear stages.
        symmetric: Whether both images move and meet half-way, so that swapped images give the
            inverse map; "diffeo:symmetric=true" as `transform` says the same.
        init: "auto", "none", "header", "moments", or the path of a transform file.
        metric: "auto", or specs of registry.SIMILARITIES that are added.
        regularizer: "auto", or specs of registry.REGULARIZERS that are added.
        smoothness: Factor of the regularization; 1 is the default strength.
        restrict: 1 for each of the fixed file's axes along which displacements may be, else 0;
            empty for all. Linear stages are not restricted.
        iterations: Most steps per deformable level, coarse to fine; empty for automatic.
        levels: Shrink factors of the deformable levels, coarse to fine; empty for automatic.
        tol: Least relative decrease of the energy per step, for deq the relative residual that
            counts as none (.001 is usual; the absolute one changes in proportion); 0 for automatic.
        solver: For deq, a spec of registry.FIXED_POINTS.
        diagnose: For deq, whether to find out how much of an equilibrium the end is.
        use_labels: Whether label maps drive the registration.
        use_points: Whether corresponding points drive the registration.
        interpolation: Of the moved image: "auto", "linear", "nearest", "label" or "cubic".
        seed: Of everything random; of a registration, that is the diagnosis alone.
        deterministic: Whether to use only algorithms that repeat bit by bit.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: 0 for all cores.
    """

    model: str = "auto"
    weights: str = ""
    transform: str = "diffeo"
    symmetric: bool = False
    init: str = "auto"
    metric: tuple[str, ...] = ("auto",)
    regularizer: tuple[str, ...] = ("auto",)
    smoothness: float = 1.0
    restrict: tuple[int, ...] = ()
    iterations: tuple[int, ...] = ()
    levels: tuple[int, ...] = ()
    tol: float = 0.0
    solver: str = "picard"
    diagnose: bool = False
    use_labels: bool = False
    use_points: bool = False
    interpolation: str = "auto"
    seed: int = 0
    deterministic: bool = False
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        """Refuse what no registration can do, before anything is computed.

        Raises:
            RecipeError: Naming what is allowed.
        """
        _one_of("model", self.model, tuple(registry.METHODS))
        self._take_symmetry_from_transform()
        if self.family in FAMILIES_REFUSED.get(self.model, ()):
            others = (f for f in registry.TRANSFORMS if f not in FAMILIES_REFUSED[self.model])
            raise RecipeError(
                f"--transform {self.transform} compares intensities, as --model {self.model} does "
                "not.",
                f"Leave --model and --weights out, or choose from {', '.join(others)}.",
            )
        if "auto" in self.metric and len(self.metric) > 1:
            raise RecipeError(
                "--metric auto cannot be added to other metrics.", "Name them all, or none."
            )
        for spec in self.metric:
            if spec != "auto":
                registry.parse(registry.SIMILARITIES, spec)
        if not self.metric:
            raise RecipeError("The recipe names no metric.", "Name some, or use auto.")
        if "auto" in self.regularizer and len(self.regularizer) > 1:
            raise RecipeError(
                "--regularizer auto cannot be added to other regularizers.",
                "Name them all, or none.",
            )
        kinds = {registry.parse(registry.REGULARIZERS, spec)[0] for spec in self.regularizers}
        if not kinds - {"folding", "volume"}:
            raise RecipeError(
                "No --regularizer keeps neighbours together; folding and volume do not.",
                "Add one, such as --regularizer diffusion.",
            )
        self._check_restriction()
        if not 0 < self.smoothness < math.inf:
            raise RecipeError(
                f"--smoothness {self.smoothness:g} is not a positive number.", "1 is normal."
            )
        if not 0 <= self.tol < 1:
            raise RecipeError(f"--tol {self.tol:g} is not between 0 and 1.", "0.001 is normal.")
        if self.threads < 0:
            raise RecipeError(f"{self.threads} threads.", "Use a number from 1 up, or 0 for all.")
        if abs(self.seed) >= _SEEDS:
            raise RecipeError(f"--seed {self.seed} is too large.", f"Give one below {_SEEDS}.")
        _one_of("interp", self.interpolation, INTERPOLATIONS)
        if self.iterations and self.levels and len(self.iterations) != len(self.levels):
            raise RecipeError(
                f"{len(self.iterations)} numbers of iterations for {len(self.levels)} levels.",
                "Give --iterations and --levels equally many numbers.",
            )
        if any(n < 0 for n in self.iterations):
            raise RecipeError("--iterations has a number below 0.", "0 skips a level.")
        if self.iterations and not any(self.iterations):
            raise RecipeError("--iterations leaves nothing to do.", "Give a level some.")
        if any(n < 1 for n in self.levels):
            raise RecipeError("--levels has a factor below 1.", "1 is full resolution.")
        if list(self.levels) != sorted(self.levels, reverse=True):
            raise RecipeError(
                f"--levels {'x'.join(map(str, self.levels))} does not go from coarse to fine.",
                "Write shrink factors in falling order, such as 4x2x1.",
            )
        registry.parse(registry.FIXED_POINTS, self.solver)
        self.check_compatible()
        if self.linear and self.init == "none":
            raise RecipeError(
                f"--init none leaves nothing to do for --transform {self.transform}.",
                "Use --init header to start from the images' own positions.",
            )
        if self.model in _ONE_LIMIT and len(self.iterations) > 1:
            raise RecipeError(
                f"--model {self.model} takes one number of --iterations.",
                "It is the limit of every level.",
            )

    @property
    def family(self) -> str:
        """The transform's name, without its options."""
        return self.transform.partition(":")[0]

    @property
    def linear(self) -> bool:
        """Whether the map is linear."""
        return self.family in registry.LINEAR

    @property
    def foldless(self) -> bool:
        """Whether the map may not fold."""
        return self.family in registry.FOLDLESS

    @property
    def regularizers(self) -> tuple[str, ...]:
        """Specs of registry.REGULARIZERS; those that "auto" stands for are the model's usual ones.

        Of learned steps that is their own smoothing, as strong as they were trained with.
        """
        if self.regularizer != ("auto",):
            return self.regularizer
        return _OWN_REGULARIZERS.get(self.model, _REGULARIZERS)

    def check_compatible(self, beside: Collection[str] = ()) -> None:
        """Refuse options that would have no effect.

        Args:
            beside: Options that were given beside the recipe: of compatibility.BESIDE, or fields
                that hold although the recipe does not say so.

        Raises:
            RecipeError: Naming the option and the reason.
        """
        for rule in rules(self.model, self.transform, symmetric=self.symmetric):
            self.refuse(rule, beside)

    def refuse(self, rule: Rule, beside: Collection[str] = ()) -> None:
        """Refuse options that a rule says have no effect.

        Args:
            rule: The rule.
            beside: See `check_compatible`.

        Raises:
            RecipeError: Naming the first one that was given.
        """
        for option in rule.options:
            if option in beside or self._gives(option):
                shown = BESIDE.get(option, f"--{option.replace('_', '-')}")
                shown = shown.replace("transform:", f"transform {self.family}:")
                raise RecipeError(f"{shown} has no effect with {rule.by}.", rule.remedy)

    def _gives(self, option: str) -> bool:
        """Whether a field, or an option of the transform, was given."""
        name, _, part = option.partition(":")
        if part:
            return part in registry.parse(registry.TRANSFORMS, self.transform)[1]
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        return name in defaults and getattr(self, name) != defaults[name]

    def _take_symmetry_from_transform(self) -> None:
        """Make `symmetric` of diffeo:symmetric=true, as it was written before it had a field."""
        family, options = registry.parse(registry.TRANSFORMS, self.transform)
        if family != "diffeo" or "symmetric" not in options:
            return
        text = options.pop("symmetric").lower()
        if text not in ("true", "false"):
            raise RecipeError(
                f"'{self.transform}': '{text}' is not true or false.", "Give a value of that kind."
            )
        rest = ",".join(f"{name}={value}" for name, value in options.items())
        object.__setattr__(self, "transform", f"{family}:{rest}" if rest else family)
        object.__setattr__(self, "symmetric", self.symmetric or text == "true")

    def _check_restriction(self) -> None:
        text = "x".join(map(str, self.restrict))
        if self.restrict and (len(self.restrict) != 3 or not set(self.restrict) <= {0, 1}):
            raise RecipeError(
                f"--restrict {text} is not 0 or 1 for each of three axes.",
                "Write it like 1x1x0; 2-D images have three axes, too.",
            )
        if self.restrict == (1, 1, 1):
            raise RecipeError("--restrict 1x1x1 leaves every axis free.", "Leave it out.")
        if self.restrict == (0, 0, 0):
            raise RecipeError("--restrict 0x0x0 leaves nothing to do.", "Leave an axis free.")

    def with_values(self, values: dict[str, Any]) -> "RegisterRecipe":
        """This recipe with some fields replaced.

        Raises:
            RecipeError: If a name is not a field or a value has the wrong type.
        """
        fields = {f.name: f for f in dataclasses.fields(self)}
        clean = {}
        for name, value in values.items():
            if name not in fields:
                raise RecipeError(
                    f"A recipe has no '{name}'.", f"Its fields are {', '.join(fields)}."
                )
            clean[name] = _typed(name, value, fields[name].default)
        return dataclasses.replace(self, **clean)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "fast": {"tol": 5e-3},
    "accurate": {"tol": 5e-5},
}


def preset(name: str) -> dict[str, Any]:
    """Recipe fields that a preset sets.

    Raises:
        RecipeError: If there is no such preset.
    """
    _one_of("preset", name, tuple(PRESETS))
    return PRESETS[name]


def read_recipe(path: Path) -> dict[str, Any]:
    """Recipe fields of a TOML file, or of the `recipe` of an earlier regcli.json.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin with a mark of the order
        if path.suffix == ".json":
            content = json.loads(text)
            content = content.get("recipe", content) if isinstance(content, dict) else content
            if not isinstance(content, dict):
                raise InputError(f"{path} is not a recipe.", "Give TOML, or regcli.json.")
            return content
        return tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.", "Give a recipe that exists.") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a recipe: {error}.", "Give TOML, or regcli.json."
        ) from error


def numbers(option: str, text: str, like: str = "100x50x20") -> tuple[int, ...]:
    """The numbers of "100x50x20".

    Raises:
        RecipeError: If it is not of that form.
    """
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise RecipeError(
            f"--{option} '{text}' is not a list of numbers.", f"Write it like {like}."
        ) from error


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise RecipeError(
            f"--{option} '{value}' does not exist.", f"Choose from {', '.join(allowed)}."
        )


def _typed(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        words = name in ("metric", "regularizer")
        if isinstance(value, str) and words:
            return (value,)
        kind = str if words else int
        if isinstance(value, (list, tuple)) and all(type(v) is kind for v in value):
            return tuple(value)
    elif isinstance(default, float) and type(value) in (int, float):
        return float(value)
    elif type(value) is type(default):
        return value
    raise RecipeError(
        f"Recipe field '{name}' cannot be {value!r}.", f"Give something like {default!r}."
    )

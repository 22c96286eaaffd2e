import dataclasses
import sys

import pytest

from regcli import registry
from regcli.energy.base import Regularizer, Similarity
from regcli.errors import RecipeError
from regcli.registration.equilibrium.model import step_network
from regcli.solve.adjoint import Adjoint
from regcli.solve.fixedpoint import FixedPointSolver
from regcli.solve.step_adjoint import StepAdjoint
from regcli.transforms.base import Transform

KINDS = {
    "TRANSFORMS": Transform,
    "SIMILARITIES": Similarity,
    "REGULARIZERS": Regularizer,
    "ADJOINTS": Adjoint,
    "STEP_ADJOINTS": StepAdjoint,
    "FIXED_POINTS": FixedPointSolver,
}
ENTRIES = [(table, name) for table in KINDS for name in getattr(registry, table)]


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_every_name_builds_an_object_of_its_kind(table, name):
    built = registry.build(getattr(registry, table), name)
    assert isinstance(built, KINDS[table])
    assert built == registry.build(getattr(registry, table), f"{name}:")


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_every_option_is_set_by_its_own_name(table, name):
    table = getattr(registry, table)
    target, fixed = registry.resolve(table, name)
    for field in dataclasses.fields(target):
        if field.name in fixed:
            continue
        value = not field.default if field.type is bool else field.default + 1
        built = registry.build(table, f"{name}:{field.name}={str(value).lower()}")
        assert built == dataclasses.replace(registry.build(table, name), **{field.name: value})


def test_linear_names_are_transforms():
    assert set(registry.LINEAR) < set(registry.TRANSFORMS)
    for name in registry.LINEAR:
        assert registry.build(registry.TRANSFORMS, name).family == name


@pytest.mark.parametrize("table", KINDS)
def test_an_unknown_name_is_answered_with_the_known_ones(table):
    table = getattr(registry, table)
    with pytest.raises(RecipeError) as error:
        registry.build(table, "nothing:like=this")
    assert "'nothing'" in error.value.cause
    assert all(name in error.value.remedy for name in table)


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_an_unknown_option_is_answered_with_the_known_ones(table, name):
    table = getattr(registry, table)
    with pytest.raises(RecipeError) as error:
        registry.build(table, f"{name}:colour=3")
    assert "'colour'" in error.value.cause
    target, fixed = registry.resolve(table, name)
    free = [f.name for f in dataclasses.fields(target) if f.name not in fixed]
    assert all(option in error.value.remedy for option in free)
    assert free or "no options" in error.value.remedy


def test_halvings_that_leave_nothing_are_refused():
    registry.build(registry.TRANSFORMS, "svf:squarings=16")
    with pytest.raises(RecipeError, match="17 squarings"):
        registry.build(registry.TRANSFORMS, "svf:squarings=17")


def test_what_a_name_fixes_is_not_an_option():
    with pytest.raises(RecipeError, match="no option 'family'"):
        registry.build(registry.TRANSFORMS, "rigid:family=affine")


@pytest.mark.parametrize("spec", ["lncc:radius=two", "lncc:radius=2.5", "ssd:weight=much"])
def test_a_value_of_the_wrong_type_is_refused(spec):
    with pytest.raises(RecipeError) as error:
        registry.build(registry.SIMILARITIES, spec)
    assert spec in error.value.cause
    assert ("a whole number" if "radius" in spec else "a number") in error.value.cause


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_numbers_are_positive(value):
    with pytest.raises(RecipeError, match="is not a positive number"):
        registry.build(registry.SIMILARITIES, f"ssd:weight={value}")


@pytest.mark.parametrize("bins", [1, 100_000])
def test_a_histogram_has_some_bins(bins):
    with pytest.raises(RecipeError, match="is no histogram"):
        registry.build(registry.SIMILARITIES, f"mi:bins={bins}")


@pytest.mark.parametrize("spec", ["lncc:radius", "lncc:radius=", "lncc:radius=2,weight"])
def test_an_option_without_a_value_is_refused(spec):
    with pytest.raises(RecipeError) as error:
        registry.build(registry.SIMILARITIES, spec)
    assert "option=value" in error.value.cause


def test_options_may_stand_in_any_order_with_spaces():
    one = registry.build(registry.SIMILARITIES, "lncc:radius=3, weight=0.5")
    assert one == registry.build(registry.SIMILARITIES, "lncc:weight=0.5,radius=3")
    assert (one.radius, one.weight) == (3, 0.5)
    assert type(one.radius) is int


def test_truth_values_are_words():
    for word, value in (("True", True), ("false", False)):
        built = registry.build(registry.TRANSFORMS, f"svf:inverse={word}")
        assert built.inverse is value
    with pytest.raises(RecipeError, match="'1' is not true or false"):
        registry.build(registry.TRANSFORMS, "svf:inverse=1")


@pytest.mark.parametrize("name", registry.STEP_TRAININGS)
def test_every_training_of_steps_has_a_network_and_takes_options(name):
    recipe = registry.build(registry.STEP_TRAININGS, f"{name}:smoothness=2,labels=0")
    assert recipe.smoothness == 2
    assert recipe.labels == 0
    step_network(recipe.network)


def test_the_papers_mode_can_be_spelt():
    spec = "deq:levels=1,steps=48,sigma=0,jacobian=0,network=update-full"
    recipe = registry.build(registry.STEP_TRAININGS, spec)
    assert (recipe.sigma, recipe.jacobian, recipe.steps) == (0, 0, 48)


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("deq:sigma=-1", "0 or more"),
        ("deq:sigma=nan", "0 or more"),
        ("deq:steps=0", "above 0"),
    ],
)
def test_zero_is_a_number_where_it_means_something(spec, remedy):
    with pytest.raises(RecipeError) as error:
        registry.build(registry.STEP_TRAININGS, spec)
    assert remedy in error.value.remedy


OWN = """
from dataclasses import dataclass
from regcli.energy.base import Regularizer
from regcli.energy.intensity import SSD
from regcli.energy.regularizers import Diffusion

class Plain(Diffusion):
    pass

@dataclass(frozen=True)
class Twice(Diffusion):
    weight: float = 2.0

@dataclass(frozen=True)
class Own(SSD):
    weight: float = 3.0

@dataclass(frozen=True)
class Half(Regularizer):
    weight: float = 1.0

nothing = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "of_a_user.py").write_text(OWN)
    (tmp_path / "broken_by_a_user.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("of_a_user", None)


def test_classes_of_users_are_built_from_the_current_folder(own):
    twice = registry.build(registry.REGULARIZERS, "of_a_user:Twice:weight=0.5")
    assert isinstance(twice, Regularizer)
    assert twice.weight == 0.5
    assert registry.build(registry.SIMILARITIES, "of_a_user:Own").weight == 3


@pytest.mark.parametrize(
    ("table", "spec", "cause"),
    [
        ("SIMILARITIES", "of_a_user:Twice", "is no dataclass that extends Similarity"),
        ("REGULARIZERS", "of_a_user:nothing", "is no dataclass that extends"),
        ("REGULARIZERS", "of_a_user:Missing", "does not exist"),
        ("REGULARIZERS", "of_a_user:Twice:size=1", "no option 'size'"),
        ("REGULARIZERS", "of_a_user:Twice:weight=x", "'x' is not a number"),
        ("REGULARIZERS", "of_a_user:Half", "has no penalty"),
        ("REGULARIZERS", "nowhere_at_all:Twice", "ModuleNotFoundError"),
        ("REGULARIZERS", "broken_by_a_user:Twice", "ZeroDivisionError"),
        ("TRANSFORMS", "of_a_user:Twice", "'of_a_user' is not known"),
        ("REGULARIZERS", "of_a_user:", "'of_a_user' is not known"),
    ],
)
def test_classes_of_users_that_cannot_serve_are_refused(own, table, spec, cause):
    with pytest.raises(RecipeError) as error:
        registry.build(getattr(registry, table), spec)
    assert cause in error.value.cause

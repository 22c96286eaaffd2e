import dataclasses
import json

import pytest

from regcli import recipe as recipes
from regcli.errors import InputError, RecipeError
from regcli.recipe import RegisterRecipe

FULL = RegisterRecipe(
    model="dio",
    weights="some.safetensors",
    transform="diffeo:sigma=0.7",
    init="moments",
    metric=("lncc:radius=3", "mind"),
    regularizer=("diffusion:weight=0.2", "folding"),
    smoothness=1.5,
    restrict=(1, 1, 0),
    iterations=(50, 30, 10),
    levels=(4, 2, 1),
    tol=1e-3,
    use_labels=True,
    use_points=True,
    interpolation="cubic",
    seed=7,
    deterministic=True,
    device="cpu",
    threads=2,
)
STEPS = RegisterRecipe(
    model="deq", transform="freeform", solver="anderson:memory=5", diagnose=True, iterations=(96,)
)
BOTH = RegisterRecipe(symmetric=True)
TOML = """
model = "dio"
weights = "some.safetensors"
transform = "diffeo:sigma=0.7"
init = "moments"
metric = ["lncc:radius=3", "mind"]
regularizer = ["diffusion:weight=0.2", "folding"]
smoothness = 1.5
restrict = [1, 1, 0]
iterations = [50, 30, 10]
levels = [4, 2, 1]
tol = 1e-3
use_labels = true
use_points = true
interpolation = "cubic"
seed = 7
deterministic = true
device = "cpu"
threads = 2
"""


def refuse(match, **values):
    with pytest.raises(RecipeError) as error:
        RegisterRecipe(**values)
    assert match in f"{error.value.cause} {error.value.remedy}"


def test_json_brings_back_the_same_recipe(tmp_path):
    for recipe in (RegisterRecipe(), FULL, STEPS, BOTH):
        path = tmp_path / "regcli.json"
        path.write_text(json.dumps({"recipe": recipe.to_dict(), "version": "1"}))
        assert RegisterRecipe().with_values(recipes.read_recipe(path)) == recipe
        path.write_text(json.dumps(recipe.to_dict()))
        assert RegisterRecipe().with_values(recipes.read_recipe(path)) == recipe


def test_toml_gives_the_recipe_it_spells(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(TOML)
    assert RegisterRecipe().with_values(recipes.read_recipe(path)) == FULL


def test_the_recipes_here_leave_no_field_at_its_default():
    for field in dataclasses.fields(FULL):
        values = [getattr(recipe, field.name) for recipe in (FULL, STEPS, BOTH)]
        assert any(value != field.default for value in values), field.name


@pytest.mark.parametrize(
    "values",
    [
        {"metric": ("ssd",)},
        {"levels": (2, 1)},
    ],
    ids=str,
)
def test_what_learned_steps_ignore_is_refused(values):
    refuse(f"--{next(iter(values))} has no effect with --model deq", model="deq", **values)


@pytest.mark.parametrize("values", [{"solver": "anderson"}, {"diagnose": True}], ids=str)
@pytest.mark.parametrize("model", ["auto", "classical", "dio"])
def test_what_only_learned_steps_know_is_refused_elsewhere(model, values):
    refuse(f"--{next(iter(values))} has no effect with --model {model}", model=model, **values)


def test_learned_steps_have_transforms_solvers_and_limits_of_their_own():
    refuse("--transform diffeo:cap has no effect", model="deq", transform="diffeo:cap=0.3")
    refuse("choose from diffeo, freeform, svf", model="deq", transform="rigid")
    refuse("Choose from picard, anderson, broyden", model="deq", solver="newton")
    refuse("one number of --iterations", model="deq", iterations=(50, 20))
    refuse("'composed' is not known", transform="composed")


def test_values_replace_only_what_they_name():
    assert FULL.with_values({"seed": 3}) == dataclasses.replace(FULL, seed=3)
    assert FULL.with_values({}) == FULL


def test_whole_numbers_serve_as_floats_and_one_metric_as_a_list():
    recipe = RegisterRecipe().with_values({"smoothness": 2, "metric": "ssd"})
    assert type(recipe.smoothness) is float
    assert recipe.metric == ("ssd",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "7"),
        ("seed", 7.0),
        ("seed", True),
        ("smoothness", "1"),
        ("smoothness", True),
        ("deterministic", 1),
        ("iterations", "100x50"),
        ("iterations", 100),
        ("iterations", [100.0, 50]),
        ("iterations", [True]),
        ("levels", None),
        ("metric", [1]),
        ("metric", 3),
        ("transform", ["diffeo"]),
        ("device", None),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name, value):
    with pytest.raises(RecipeError) as error:
        RegisterRecipe().with_values({name: value})
    assert f"'{name}' cannot be {value!r}" in error.value.cause


def test_an_unknown_field_is_answered_with_the_known_ones():
    with pytest.raises(RecipeError) as error:
        RegisterRecipe().with_values({"smothness": 1.0})
    assert "'smothness'" in error.value.cause
    assert all(f.name in error.value.remedy for f in dataclasses.fields(RegisterRecipe))


def test_names_that_do_not_exist_are_answered_with_those_that_do():
    refuse("auto, classical", model="classic")
    refuse("diffeo, freeform, svf, geodesic, bspline, affine", transform="difeo")
    refuse("lncc, ssd, ncc, mi, mind", metric=("lncc", "lcc"))
    refuse("diffusion, bending, elastic, tv, volume, folding, or give", regularizer=("bendin",))


def test_specs_without_values_are_refused():
    refuse("option=value", transform="diffeo:cap")
    refuse("option=value", metric=("lncc:radius",))
    refuse("option=value", regularizer=("diffusion", "tv:weight"))


def test_auto_is_no_part_of_a_sum():
    refuse("auto cannot be added", metric=("auto", "ssd"))
    refuse("auto cannot be added", metric=("ssd", "auto"))
    refuse("auto cannot be added", regularizer=("auto", "bending"))
    refuse("auto cannot be added", regularizer=("volume", "auto"))


def test_auto_stands_for_the_usual_regularizers_of_the_model():
    assert RegisterRecipe().regularizers == ("diffusion:weight=0.1", "volume")
    assert RegisterRecipe(model="deq").regularizers == ("diffusion",)
    assert RegisterRecipe(regularizer=("bending",)).regularizers == ("bending",)


def test_folding_and_volume_need_another_regularizer():
    refuse("folding and volume do not", regularizer=("folding:weight=3",))
    refuse("folding and volume do not", regularizer=("volume", "folding"))
    refuse("such as --regularizer diffusion", regularizer=())
    assert RegisterRecipe(regularizer=("folding", "tv")).regularizer == ("folding", "tv")


@pytest.mark.parametrize("value", [(1, 0), (1, 1, 2), (0, 0, 0), (1, 1, 1, 1)], ids=str)
def test_a_restriction_leaves_some_of_three_axes(value):
    refuse("--restrict", restrict=value)


def test_a_momentum_is_not_restricted_to_axes():
    refuse(
        "--restrict has no effect with --transform geodesic",
        transform="geodesic",
        restrict=(1, 1, 0),
    )


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_smoothness_is_a_positive_number(value):
    refuse("not a positive number", smoothness=value)


@pytest.mark.parametrize("value", [-1e-4, 1.0, float("nan")])
def test_the_tolerance_is_a_share(value):
    refuse("not between 0 and 1", tol=value)


def test_threads_interpolation_and_metrics_exist():
    refuse("-1 threads", threads=-1)
    refuse("auto, linear, nearest, label, cubic", interpolation="bicubic")
    refuse("no metric", metric=())


def test_iterations_and_levels_belong_together():
    refuse("equally many", iterations=(10, 5), levels=(4, 2, 1))
    refuse("below 1", levels=(2, 0))
    refuse("nothing to do", iterations=(0, 0))
    refuse("below 0", iterations=(-1,))
    assert RegisterRecipe(iterations=(10, 0)).iterations == (10, 0)  # as in ANTs, 0 skips a level
    refuse("--levels 1x2x4", levels=(1, 2, 4))
    assert RegisterRecipe(iterations=(10, 5)).levels == ()
    assert RegisterRecipe(levels=(4, 2, 1)).iterations == ()


@pytest.mark.parametrize("transform", ["translation", "rigid", "similarity", "affine"])
def test_a_linear_transform_refuses_what_it_would_ignore(transform):
    for option, value in {
        "iterations": (10,),
        "levels": (2, 1),
        "tol": 1e-3,
        "smoothness": 2.0,
        "regularizer": ("diffusion:weight=1",),
        "restrict": (1, 0, 0),
    }.items():
        refuse(f"--{option} has no effect", transform=transform, **{option: value})
    refuse("leaves nothing to do", transform=transform, init="none")
    assert RegisterRecipe(transform=transform, init="header").init == "header"


def test_presets_are_recipes():
    assert RegisterRecipe().with_values(recipes.preset("default")) == RegisterRecipe()
    tols = [RegisterRecipe().with_values(recipes.preset(name)).tol for name in ("fast", "accurate")]
    assert tols[0] > tols[1] > 0
    with pytest.raises(RecipeError, match="'best'") as error:
        recipes.preset("best")
    assert all(name in error.value.remedy for name in recipes.PRESETS)


def test_numbers_are_written_with_x():
    assert recipes.numbers("levels", "4x2X1") == (4, 2, 1)
    assert recipes.numbers("iterations", "100") == (100,)
    for text in ("", "4,2,1", "4x", "fourx2", "1.5x1"):
        with pytest.raises(RecipeError, match="not a list of numbers"):
            recipes.numbers("levels", text)


def test_a_recipe_that_does_not_exist_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        recipes.read_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.toml", "transform = "),
        ("r.toml", "{}"),
        ("r.json", "{"),
        ("r.json", "[1, 2]"),
        ("r.json", '{"recipe": 3}'),
        ("r.json", '"diffeo"'),
    ],
)
def test_a_file_that_is_no_recipe_is_an_input_error(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match="is not a recipe"):
        recipes.read_recipe(path)


def test_a_binary_file_is_an_input_error(tmp_path):
    path = tmp_path / "r.toml"
    path.write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(InputError, match="is not a recipe"):
        recipes.read_recipe(path)


def test_symmetry_may_be_written_as_an_option_of_diffeo():
    found = RegisterRecipe(transform="diffeo:symmetric=true,cap=0.3")
    assert found == RegisterRecipe(transform="diffeo:cap=0.3", symmetric=True)
    assert RegisterRecipe(transform="diffeo:symmetric=false") == RegisterRecipe()
    assert RegisterRecipe().with_values(found.to_dict()) == found
    refuse("'maybe' is not true or false", transform="diffeo:symmetric=maybe")
    refuse("--symmetric has no effect with --transform svf", transform="svf", symmetric=True)
    refuse("--restrict has no effect with --symmetric", restrict=(1, 1, 0), symmetric=True)

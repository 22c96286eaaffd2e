from pathlib import Path

import pytest

from regcli.errors import InputError, RecipeError
from regcli.train.plan import TrainPlan
from regcli.train.recipe import Collection, read_train_recipe
from regcli.train.synth.drawing import Drawing

SHIPPED = Path(__file__).parents[2] / "examples" / "recipes"
WHOLE = """
network = "lku"
spacing = 1.5
shape = [33, 33, 17]
warm_lr = 0.01
gains = [1, 2, 3]

[[collections]]
folder = "heads"
validation = ["s2"]

[[collections]]
folder = "brains"
synth = false
fill = 24

[[stages]]
until = 10
contrasts = [1, 0, 0, 0]
shape = [17, 17, 17]

[[stages]]
until = 20
thick = 0.1

[types]
white = [2, 41]
front = [1003]
back = [1011]

[groups.cortex]
codes = [3, 42]
types = ["front", "back"]
"""


def written(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_a_recipe_says_what_is_learned_from_whom_and_in_which_order(tmp_path):
    read = read_train_recipe(written(tmp_path, WHOLE))
    assert read.collections == (
        Collection("heads", validation=("s2",)),
        Collection("brains", synth=False, fill=24),
    )
    plan = TrainPlan(**read.settings)
    assert (plan.network, plan.spacing_mm, plan.warm_rate) == ("lku", 1.5, 0.01)
    assert (plan.shape, plan.gains) == ((33, 33, 17), (1.0, 2.0, 3.0))
    first, second, last = (plan.drawing_at(step) for step in (9, 10, 20))
    assert (first.contrasts, first.shape) == ((1.0, 0.0, 0.0, 0.0), (17, 17, 17))
    assert (second.thick, second.shape) == (0.1, (33, 33, 17))
    assert second.contrasts == last.contrasts == Drawing().contrasts
    assert last == plan.drawing
    assert read.types is not None
    assert read.types.groups == {"cortex": ((3, 42), ("front", "back"))}


def test_an_empty_recipe_leaves_everything_to_the_command_line(tmp_path):
    read = read_train_recipe(written(tmp_path, ""))
    assert (read.settings, read.collections, read.types) == ({}, (), None)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_can_be_read(path):
    read = read_train_recipe(path)
    assert TrainPlan(**read.settings).model == "dio"
    assert read.types is not None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1", "'colour'"),
        ("spacing_mm = 1.0", "'spacing_mm'"),  # its name is that of the command line
        ("device = 'cuda'", "'device'"),
        ("spacing = 'two'", "'two'"),
        ("warm_steps = 1.5", "1.5"),
        ("warm_steps = -1", "-1"),
        ("warm_steps = true", "True"),
        ("shape = [1, 2]", "shape"),
        ("stages = 3", "stages"),
        ("[[stages]]\nthick = 0.1", "until"),
        ("[[stages]]\nuntil = 5\n[[stages]]\nuntil = 5", "until"),
        ("[[stages]]\nuntil = 5\nspacing_mm = 1.0", "'spacing_mm'"),
        ("[[stages]]\nuntil = 5\nthick = 'much'", "'much'"),
        ("warm_lr = inf", "warm_lr"),
        ("[[stages]]\nuntil = 5\ncoarsest_mm = inf", "coarsest_mm"),
        ("[[stages]]\nuntil = 5\ncoarsest_mm = 1e9", "coarsest_mm"),
        ("[[stages]]\nuntil = 5\nrandom_contrast = 5", "random_contrast"),
        ("[[stages]]\nuntil = 5\ncontrasts = [0, 0, 0, 0]", "contrasts"),
        ("[[stages]]\nuntil = 5\nelastic_mm = [1e9, 0, 0]", "elastic_mm"),
        ("[[collections]]\npath = 'x'", "'path'"),
        ("[[collections]]\nfolder = 'a'\n[[collections]]\nfolder = 'a'", "twice"),
        ('[[collections]]\nfolder = "a\\u0000b"', "collection 1"),
        ("[[collections]]\nvalidation = ['']", "collection 1"),
        ("[[collections]]\nfill = 'x'", "fill"),
        ("[collections]\nfolder = 'x'", "collections"),
        ("other = [3]", "without types"),
        ("[types]", "no types"),
        ("types = 3", "types"),
        ("[types]\na = 3", "'a'"),
        ("[types]\na = [2.5]", "'a'"),
        ("[types]\na = [2]\nb = [3]\n[groups.c]\ncodes = [4]", "'c'"),
        ("[types]\na = [2]\nb = [3]\n[groups.c]\ncodes = [4]\ntypes = 'a'", "'c'"),
        ("[types]\na = [2]\nb = [2]", "code 2"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(tmp_path, text, named):
    with pytest.raises(RecipeError) as caught:
        read_train_recipe(written(tmp_path, text))
    assert named in str(caught.value)


def test_refusals_of_types_name_the_file(tmp_path):
    with pytest.raises(RecipeError, match=r"recipe.toml: The code 2"):
        read_train_recipe(written(tmp_path, "[types]\na = [2]\nb = [2]"))


def test_a_mark_of_the_byte_order_is_no_part_of_a_recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbfspacing = 1.5")
    assert read_train_recipe(path).settings == {"spacing_mm": 1.5}


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a = ", b"[[[", b"a = " + b"[" * 10**5])
def test_what_is_no_recipe_is_refused(tmp_path, content):
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"recipe\.toml"):
        read_train_recipe(path)
    with pytest.raises(InputError, match=r"absent\.toml: No such file"):
        read_train_recipe(tmp_path / "absent.toml")

"""regcli register --sweep."""

import json

import pytest
from conftest import SPACES
from phantoms import pair
from scans import write_pair

from regcli.cli.sweep import _cell

QUICK = ("--model", "classical", "--init", "none", "--levels", "2", "--iterations", "2")
SWEEP = (*QUICK, "--sweep", "smoothness=0.3,3")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A pair that needs no linear stage, which would take most of the time."""
    return write_pair(tmp_path_factory.mktemp("aligned"), pair(SPACES["odd"], linear=False))


@pytest.fixture
def unpainted(monkeypatch):
    """Sweeps with a stub of a picture."""
    stub = "regcli.commands.sweep.run.draw_tradeoff"
    monkeypatch.setattr(stub, lambda record, path: path.write_bytes(b"PNG"))


def _known(scans):
    given = []
    for what in ("labels", "points"):
        given += [f"--fixed-{what}", getattr(scans, f"fixed_{what}")]
        given += [f"--moving-{what}", getattr(scans, f"moving_{what}")]
    return given


def _report(folder):
    return json.loads((folder / "regcli.json").read_text())


def test_the_table_fits_a_terminal_and_stdout_has_the_paths(register, scans, tmp_path):
    told = register(*SWEEP, *_known(scans))
    assert told.code == 0
    out = tmp_path / "out"
    names = ("smoothness=0.3", "smoothness=3", "sweep.csv", "sweep.png", "sweep.json")
    assert told.out.split() == [str(out / name) for name in names]
    lines = told.err.splitlines()
    assert "smoothness=3 (2 of 2)" in lines
    start = next(n for n, line in enumerate(lines) if line.startswith("smoothness "))
    assert all(len(line) <= 80 for line in lines[start - 1 : start + 5])
    head = " ".join(lines[start - 1 : start + 1])
    assert all(word in head for word in ("lncc", "Dice", "HD95", "TRE", "folds", "ndv", "sdlogj"))
    rows = {line.split()[0]: line.split() for line in lines[start + 2 : start + 5]}
    for name in ("0.3", "3"):
        report = _report(out / f"smoothness={name}")
        assert rows[name][1] == f"{report['similarity']['after']:.3f}"
        assert rows[name][2] == f"{report['labels']['dice']['after']:.3f}"
        assert rows[name][-1] == report["verdict"]["status"]
    assert rows["before"][2] == f"{report['labels']['dice']['before']:.3f}"


def test_quiet_says_nothing_and_json_alone_is_on_stdout(register, tmp_path, unpainted):
    told = register("-q", "--json", *SWEEP)
    assert told.err == ""
    assert json.loads(told.out) == json.loads((tmp_path / "out" / "sweep.json").read_text())


def test_verbose_tells_every_level_of_every_value(register, unpainted):
    told = register("-v", *SWEEP)
    assert told.err.count("inverse error") == 2


def test_a_quality_gate_ends_in_6_when_all_is_written_and_told(register, tmp_path, unpainted):
    told = register("-q", "--json", *SWEEP, "--fail-on", "ncc<2")
    assert told.code == 6
    assert told.err.startswith("error: 2 of 2 values failed. smoothness=0.3: Quality gate")
    assert len(told.err.splitlines()) == 2
    assert json.loads(told.out) == json.loads((tmp_path / "out" / "sweep.json").read_text())


def test_a_time_limit_is_that_of_each_registration(register, tmp_path, unpainted):
    told = register(*SWEEP, "--time-limit", "0.001")
    assert told.code == 0
    rows = json.loads((tmp_path / "out" / "sweep.json").read_text())["rows"]
    assert [row["stopped"] for row in rows] == ["time", "time"]
    assert "all: The time limit stopped the registration early." in told.err


def test_a_value_wins_over_an_earlier_record_and_options_go_to_every_folder(
    run, scans, tmp_path, unpainted
):
    scan_pair = ("register", scans.fixed, scans.moving)
    earlier = {"recipe": {"transform": "rigid", "seed": 7}}
    (tmp_path / "regcli.json").write_text(json.dumps(earlier))
    # a rigid map takes no --iterations, but none is asked for
    options = (*QUICK, "--sweep", "transform=diffeo,freeform", "--config", tmp_path / "regcli.json")
    more = ("--naming", "ants", "--write", "log_jacobian")
    assert run(*scan_pair, "-q", "-o", tmp_path / "b", *options, *more).code == 0
    for name in ("diffeo", "freeform"):
        folder = tmp_path / "b" / f"transform={name}"
        recipe = _report(folder)["recipe"]
        assert (recipe["transform"], recipe["seed"]) == (name, 7)
        assert (folder / "1Warp.nii.gz").is_file()
        assert (folder / "log_jacobian.nii.gz").is_file()


def test_a_sweep_is_replaced_only_by_force(register, unpainted):
    assert register("-q", *SWEEP).code == 0
    assert register(*SWEEP).fails(4, "--force")
    assert register("-q", *SWEEP, "--force").code == 0


@pytest.mark.parametrize(
    "options",
    [
        "smoothness",
        "zzz=1,2",
        "seed=1,2",
        "smoothness=1",
        "smoothness=1,",
        "smoothness=1,,3",
        "smoothness=1,3,1.0",
        "smoothness=1,3,0",
        "smoothness=1,3,nan",
        "smoothness=1,3,x",
        "tol=0,2",
        "levels=2,1x2",
        "iterations=10,x",
        "transform=diffeo,zzz",
        "transform=diffeo,diffeo:zzz=1",
        "transform=diffeo,composed",
        "metric=lncc,zzz",
        "metric=lncc:radius=3,weight=2",
        "regularizer=diffusion,zzz",
        "model=classical,zzz",
        "model=classical,deq --metric lncc",
        "solver=picard,anderson",
        "smoothness=1,3 --smoothness 2",
        "transform=diffeo,rigid --smoothness 2",
        "metric=lncc,mi --metric ssd",
        "smoothness=1,3 --sweep tol=.1,.2",
        "smoothness=1,3 --fail-on dice<.5",
        "smoothness=1,3 --log a.log",
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_is_made(register, tmp_path, options):
    assert register("--sweep", *options.split()).fails(2)
    assert not (tmp_path / "out").exists()


def test_a_refusal_names_the_value_and_says_that_commas_part(register):
    assert register("--sweep", "smoothness=1,3,-2").fails(2, "--sweep smoothness=-2: --smoothness")
    assert register("--sweep", "metric=lncc:radius=3,weight=2").fails(2, "weight=2", "comma")
    assert register("--sweep", "tol=1e-3,1e-4", "--tol", "0.1").fails(2, "Leave --tol out")


def test_shares_show_whether_they_are_none_at_all():
    assert [_cell(x, "%") for x in (0.0, 2e-5, 0.08, 12.3456, None)] == [
        *("0", "<0.001", "0.080", "12.346", "")
    ]

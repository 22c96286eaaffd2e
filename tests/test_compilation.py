from pathlib import Path
from types import SimpleNamespace

import compilation


def test_no_test_is_lost_and_every_worker_begins_with_loops_of_its_own():
    folders = ["io"] * 5 + ["ops"] * 6 + ["train"] * 10
    items = [SimpleNamespace(path=Path("tests", name, f"{n}")) for n, name in enumerate(folders)]
    for workers in (1, 2, 3):
        dealt = compilation.deal(items, workers)
        assert sorted(dealt, key=items.index) == items
        starts = [n * len(items) // workers for n in range(workers)]
        assert all(dealt[start].path.parent.name == "ops" for start in starts)

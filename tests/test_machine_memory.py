"""Memory is what the machine and every group around a process leave."""

import pytest

from regcli.machine import free_memory

GIB = 1 << 30


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.fixture
def machine(tmp_path):
    """A machine with 20 GiB left."""
    write(tmp_path, {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {20 * GIB // 1024} kB"})
    return tmp_path


def test_without_groups_it_is_the_machines(machine):
    assert free_memory(machine) == 20 * GIB


def test_where_nothing_is_said_it_is_unknown(tmp_path):
    assert free_memory(tmp_path) is None


def test_the_tightest_of_the_groups_around_a_process_counts(machine):
    group = "sys/fs/cgroup/slurm/job"
    write(
        machine,
        {
            "proc/self/cgroup": "0::/slurm/job/step",
            f"{group}/step/memory.max": "max",
            f"{group}/step/memory.current": GIB,
            f"{group}/memory.max": 8 * GIB,
            f"{group}/memory.current": 3 * GIB,
            f"{group}/memory.stat": f"anon 7\ninactive_file {GIB}",
            "sys/fs/cgroup/slurm/memory.max": 15 * GIB,
            "sys/fs/cgroup/slurm/memory.current": GIB,
        },
    )
    assert free_memory(machine) == 6 * GIB


def test_a_container_sees_its_own_group_at_the_top(machine):
    top = "sys/fs/cgroup/memory"
    write(
        machine,
        {
            "proc/self/cgroup": "5:cpu:/docker/1\n4:hugetlb,memory:/docker/1\n0::/",
            f"{top}/memory.limit_in_bytes": 4 * GIB,
            f"{top}/memory.usage_in_bytes": 5 * GIB,
            f"{top}/memory.stat": f"total_inactive_file {2 * GIB}",
        },
    )
    assert free_memory(machine) == GIB


def test_no_limit_is_a_number_larger_than_the_machine(machine):
    top = "sys/fs/cgroup/memory"
    write(
        machine,
        {
            "proc/self/cgroup": "4:memory:/",
            f"{top}/memory.limit_in_bytes": 9223372036854771712,
            f"{top}/memory.usage_in_bytes": GIB,
        },
    )
    assert free_memory(machine) == 20 * GIB


def test_a_group_that_has_taken_all_leaves_nothing(machine):
    write(
        machine,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": GIB,
            "sys/fs/cgroup/memory.current": 2 * GIB,
        },
    )
    assert free_memory(machine) == 0

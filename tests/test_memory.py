"""How much memory there is, as the machine and control groups say."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from gamt.memory import available_bytes, machine_bytes

MB, GIB = 2**20, 2**30
V1_NONE = 9223372036854771712
"""What version 1 of control groups says where there is no limit."""


@pytest.mark.parametrize(
    ("process", "limits", "expected"),
    [
        pytest.param("0::/\n", {"memory.max": GIB}, GIB, id="container"),
        pytest.param("0::/\n", {"memory.max": "max"}, None, id="no limit"),
        pytest.param("", {"memory.max": GIB}, GIB, id="no groups named"),
        pytest.param(
            "0::/system.slice/gamt.service\n",
            {"system.slice/gamt.service/memory.max": GIB, "system.slice/memory.max": "max"},
            GIB,
            id="service",
        ),
        pytest.param(
            "0::/slurm/job_1/step_0\n",
            {"slurm/job_1/memory.max": GIB, "slurm/job_1/step_0/memory.max": 2 * GIB},
            GIB,
            id="a group above the process's",
        ),
        pytest.param("0::/mine\n", {"others/memory.max": GIB}, None, id="another process's"),
        pytest.param(
            "3:cpu,cpuacct:/job\n5:memory:/job\n",
            {"memory/job/memory.limit_in_bytes": GIB, "cpu/job/memory.limit_in_bytes": 1},
            GIB,
            id="version 1",
        ),
        pytest.param(
            "5:memory:/docker/1f\n",
            {"memory/memory.limit_in_bytes": GIB},
            GIB,
            id="container, version 1",
        ),
        pytest.param(
            "5:memory:/\n",
            {"memory/memory.limit_in_bytes": V1_NONE},
            None,
            id="no limit, version 1",
        ),
    ],
)
def test_the_least_limit_of_the_processs_control_groups_counts(
    tmp_path: Path, process: str, limits: dict[str, int | str], expected: int | None
) -> None:
    for name, limit in limits.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{limit}\n")
    (tmp_path / "process").write_text(process)
    total = int(psutil.virtual_memory().total)
    assert machine_bytes(tmp_path / "cgroup", tmp_path / "process") == (expected or total)


def write_group(folder: Path, files: Mapping[str, object]) -> None:
    """Writes what a control group says of itself."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def test_what_a_control_group_has_left_can_be_had_and_so_can_what_it_keeps_of_files(
    tmp_path: Path,
) -> None:
    # Of 200 MB, 150 are used, of them 60 and 20 for files: 130 are left.
    write_group(
        tmp_path / "groups" / "job",
        {
            "memory.max": 200 * MB,
            "memory.current": 150 * MB,
            "memory.stat": f"anon {70 * MB}\ninactive_file {60 * MB}\nactive_file {20 * MB}",
        },
    )
    (tmp_path / "process").write_text("0::/job\n")
    assert available_bytes(tmp_path / "groups", tmp_path / "process") == 130 * MB


def test_of_groups_above_each_other_the_one_with_least_left_counts(tmp_path: Path) -> None:
    full = {"memory.usage_in_bytes": 90 * MB, "memory.stat": "total_inactive_file 0"}
    group = tmp_path / "groups" / "memory" / "slurm"
    write_group(group, {"memory.limit_in_bytes": 100 * MB, **full})
    write_group(group / "step", {"memory.limit_in_bytes": 95 * MB, **full})
    (tmp_path / "process").write_text("5:memory:/slurm/step\n")
    assert available_bytes(tmp_path / "groups", tmp_path / "process") == 5 * MB


def test_nothing_can_be_had_of_a_group_that_is_beyond_its_limit(tmp_path: Path) -> None:
    write_group(
        tmp_path / "groups",
        {"memory.max": 10 * MB, "memory.current": 12 * MB, "memory.stat": "active_file 0"},
    )
    assert available_bytes(tmp_path / "groups", tmp_path / "process") == 0


def test_of_a_group_that_does_not_say_what_it_keeps_of_files_nothing_of_it_counts_as_free(
    tmp_path: Path,
) -> None:
    group = {"memory.limit_in_bytes": 200 * MB, "memory.usage_in_bytes": 150 * MB}
    write_group(tmp_path / "groups" / "memory" / "job", group)
    (tmp_path / "process").write_text("5:memory:/job\n")
    assert available_bytes(tmp_path / "groups", tmp_path / "process") == 50 * MB


def test_without_groups_what_the_machine_has_free_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(available=3 * MB, total=GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert available_bytes(tmp_path / "groups", tmp_path / "process") == 3 * MB

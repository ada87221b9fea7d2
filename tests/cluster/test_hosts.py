"""Hosts made of namespaces are what tests of several machines need."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.hosts import make_hosts
from tests.cluster.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("_hosts_possible")]


def test_hosts_have_names_and_processes_of_their_own() -> None:
    with make_hosts(3) as hosts:
        assert [host.run("hostname") for host in hosts] == ["host0\n", "host1\n", "host2\n"]
        # Those that hold the host, and the one that lists.
        assert hosts[1].run("ps", "-e", "-o", "comm=").split() == ["sh", "sleep", "ps"]


def test_hosts_reach_each_other_by_their_addresses(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("here")
    with make_hosts(3) as (_, server, client):
        serve = (
            "-m",
            "http.server",
            "1527",
            "--bind",
            server.address,
            "--directory",
            str(tmp_path),
        )
        url = f"http://{server.address}:1527/page"
        with (tmp_path / "log").open("wb") as log:
            served = subprocess.Popen(
                (*server.prefix, sys.executable, *serve), stdout=log, stderr=log
            )
        wait_until(lambda: "1527" in server.run("ss", "-tln"), "a server")
        fetch = f"import urllib.request as u; print(u.urlopen('{url}').read())"
        assert client.run(sys.executable, "-c", fetch) == "b'here'\n"
    # It ended with its host.
    assert served.wait(60) != 0


def test_hosts_share_all_folders_but_the_hidden_one(tmp_path: Path) -> None:
    for name in ("hidden", "shared"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    with make_hosts(3, hide=tmp_path / "hidden") as hosts:
        hosts[1].run("touch", str(tmp_path / "hidden" / "mine"), str(tmp_path / "shared" / "ours"))
        found = [host.run("ls", str(tmp_path / "hidden")) for host in hosts]
        assert found == ["file\n", "mine\n", ""]
        assert hosts[2].run("ls", str(tmp_path / "shared")) == "file\nours\n"
    assert [one.name for one in (tmp_path / "hidden").iterdir()] == ["file"]


def test_a_crash_ends_what_runs_on_the_host() -> None:
    with make_hosts(2) as hosts:
        running = [subprocess.Popen((*host.prefix, "sleep", "600")) for host in hosts]
        hosts[1].crash()
        assert running[1].wait(60) != 0
        assert running[0].poll() is None
    running[0].wait(60)


def test_nothing_is_left_of_hosts() -> None:
    interfaces = sorted(psutil.net_if_addrs())
    with pytest.raises(ZeroDivisionError), make_hosts(2):
        _ = 1 / 0
    assert sorted(psutil.net_if_addrs()) == interfaces
    names = [one.name() for one in psutil.Process().children(recursive=True)]
    assert "unshare" not in names

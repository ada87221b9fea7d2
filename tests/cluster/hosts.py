"""Hosts of a network, all on this machine: each with an address, a name and processes of its own.

A host is a set of Linux namespaces, held by a process. When that ends, so does all that runs on the
host, and nothing is left of its network.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cluster.waiting import PATIENCE_S, wait_until

# Of the block that is for documentation: nothing real has an address there.
ADDRESS = "198.51.100.{}"
NAMESPACES = ("--net", "--mount", "--uts", "--pid")
# A shell, since the first process of a host has to see off those that have lost their parents.
HOLD = ("sh", "-c", "sleep infinity & wait")
UNSHARE = ("unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True)
class Host:
    """A host.

    Attributes:
        address: its IP address, which the other hosts reach.
        holder: the process that all others of the host end with.
    """

    address: str
    holder: psutil.Process

    @property
    def prefix(self) -> tuple[str, ...]:
        """The words before a command line that make it run here, in the same working directory."""
        target = ("--target", str(self.holder.pid))
        return ("nsenter", *target, *NAMESPACES, f"--wdns={Path.cwd()}")

    def run(self, *words: str) -> str:
        """Runs a command here, and returns what it printed.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        done = subprocess.run(
            (*self.prefix, *words),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
        )
        return done.stdout

    def crash(self) -> None:
        """Ends the host at once, with all that runs on it."""
        self.holder.kill()


def find_obstacle() -> str | None:
    """Returns why hosts can't be made on this machine; None where they can."""
    missing = [one for one in ("ip", "nsenter", "unshare") if shutil.which(one) is None]
    if missing:
        return f"no {missing[0]}: on Debian, apt install iproute2 util-linux"
    tried = subprocess.run((*UNSHARE, "true"), check=False, capture_output=True, text=True)
    return f"no namespaces of our own: {tried.stderr.strip()}" if tried.returncode else None


@contextmanager
def make_hosts(count: int, hide: Path | None = None) -> Iterator[list[Host]]:
    """Makes hosts on one network, host0 and so on, which end with the block.

    Args:
        count: how many.
        hide: a folder that host0 alone shares with this machine; every other one has an empty
            folder of its own there.
    """
    holders = [psutil.Popen((*UNSHARE, *HOLD), stderr=subprocess.DEVNULL) for _ in range(count)]
    try:
        hosts = [
            Host(ADDRESS.format(number + 1), find_inside(holder))
            for number, holder in enumerate(holders)
        ]
        switch = hosts[0]
        switch.run("ip", "link", "add", "switch", "type", "bridge")
        switch.run("ip", "link", "set", "switch", "up")
        switch.run("ip", "address", "add", f"{switch.address}/24", "dev", "switch")
        for number, host in enumerate(hosts):
            host.run("hostname", f"host{number}")
            host.run("ip", "link", "set", "lo", "up")
            if host is not switch:
                plug_in(host, switch, f"port{number}")
                if hide is not None:
                    host.run("mount", "-t", "tmpfs", "tmpfs", str(hide))
        yield hosts
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


def plug_in(host: Host, switch: Host, port: str) -> None:
    """Connects a host to a port of the switch."""
    # The host's process by the number that this machine gives it: hosts see other numbers.
    outside = ("nsenter", "--target", str(switch.holder.pid), "--net", "ip", "link", "add", port)
    peer = ("type", "veth", "peer", "name", "eth0", "netns", str(host.holder.pid))
    subprocess.run((*outside, *peer), check=True)
    switch.run("ip", "link", "set", port, "master", "switch", "up")
    host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
    host.run("ip", "link", "set", "eth0", "up")


def find_inside(holder: psutil.Popen) -> psutil.Process:
    """Returns the first process of a new host, once it is ready."""

    def is_ready() -> bool:
        if holder.poll() is not None:
            raise ChildProcessError(f"unshare ended with {holder.returncode}")
        return [one.name() for one in holder.children()] == ["sh"]

    wait_until(is_ready, "a new host")
    (inside,) = holder.children()
    return inside

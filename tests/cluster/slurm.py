"""Slurm with one node, on this machine, for as long as a test takes.

It runs as the user who starts it, with files, ports and a key of its own: it reads nothing of
/etc/slurm, and a Slurm that runs already does not notice.
"""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cluster.processes import find_free_port, kill
from tests.cluster.waiting import PATIENCE_S, wait_until

CPUS = 4
# Where Debian has daemons, and a user's PATH has them not.
PATH = f"{os.environ['PATH']}:/usr/sbin"
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
# Without cgroups, which a container may not have
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
# Seconds from asking a job to end to killing it
KillWait=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
# The node has what is written here, whatever the machine has
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000
PartitionName=main Nodes=ALL Default=YES
"""


@dataclass(frozen=True)
class Slurm:
    """A running Slurm.

    Attributes:
        configuration: its slurm.conf. Slurm's commands find it by the variable SLURM_CONF.
    """

    configuration: Path

    def run(self, *words: str) -> str:
        """Runs one of Slurm's commands, and returns what it printed.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        environment = {**os.environ, "SLURM_CONF": str(self.configuration)}
        done = subprocess.run(
            words,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
        )
        return done.stdout

    def jobs(self) -> list[str]:
        """Returns the states of all jobs that have not ended, such as PENDING."""
        return self.run("squeue", "--noheader", "--format=%T").split()

    def end_jobs(self) -> None:
        """Cancels all jobs, and waits until they have ended."""
        self.run("scancel", f"--user={getpass.getuser()}")
        wait_until(lambda: not self.jobs(), "the end of all jobs")


def find_obstacle() -> str | None:
    """Returns why Slurm can't be started on this machine; None where it can."""
    for name in ("munged", "slurmctld", "slurmd", "sbatch"):
        if shutil.which(name, path=PATH) is None:
            return f"no {name}: on Debian, apt install slurm-wlm munge"
    return None


@contextmanager
def running_slurm() -> Iterator[Slurm]:
    """Runs Slurm, with a node that takes jobs; all ends with the block."""
    # Not in pytest's folder: the path of a socket may have 107 characters, and munged wants that
    # all users reach it.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        slurm = Slurm(folder / "slurm.conf")
        write_configuration(slurm.configuration)
        daemons = []
        try:
            munge = (f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket")
            others = (f"--pid-file={folder}/munge.pid", f"--seed-file={folder}/munge.seed")
            daemons.append(start(slurm, "munged", "--foreground", *munge, *others))
            wait_until((folder / "munge.socket").exists, "munged's socket")
            daemons.append(start(slurm, "slurmctld", "-D", "-i"))
            daemons.append(start(slurm, "slurmd", "-D"))
            wait_until(lambda: "idle" in slurm.run("sinfo", "--noheader"), "a node")
            try:
                yield slurm
            finally:
                slurm.end_jobs()
        finally:
            kill_all(slurm.configuration)
            for daemon in daemons:
                daemon.wait()


def write_configuration(path: Path) -> None:
    """Writes slurm.conf, and beside it the key and the folders that it needs."""
    folder = path.parent
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    text = CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        user=getpass.getuser(),
        folder=folder,
        controller_port=find_free_port(),
        node_port=find_free_port(),
        cpus=CPUS,
    )
    path.write_text(text)


def start(slurm: Slurm, name: str, *options: str) -> subprocess.Popen[bytes]:
    """Starts a daemon, which logs to NAME.log."""
    environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(slurm.configuration)}
    with (slurm.configuration.parent / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            (name, *options), env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def kill_all(configuration: Path) -> None:
    """Kills all that was started with this slurm.conf: daemons, jobs, and what those run."""
    for process in psutil.process_iter():
        try:
            found = process.environ().get("SLURM_CONF") == str(configuration)
        except psutil.Error:
            continue  # it has ended, or is another user's
        if found:
            kill(process)

"""A real Slurm on this machine: munged, slurmctld, slurmd on loopback, a fake GPU, no systemd.

Two partitions as in the shipped profile, `cpu` and `gpu`, and `short` that allows a minute. No accounting: `squeue` is
polled instead of `sacct`. Only for tests: it runs as root and authenticates nobody but itself.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "munged")
INSTALL = "apt-get install slurmctld slurmd slurm-client munge"
ETC = Path("/etc/slurm")  # the jobstep plugin drops SLURM_CONF, so the config has to be where Slurm looks


def why_not() -> str | None:
    """Return why no cluster can be brought up here, or None."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: {INSTALL}"
    if os.geteuid() != 0:
        return "the test cluster needs root"
    conf = ETC / "slurm.conf"
    if conf.exists() and not conf.is_symlink():
        return "this machine belongs to a real Slurm cluster"
    return None


def _conf(folder: Path, host: str) -> str:
    cpus = os.cpu_count() or 1  # slurmd drains a node that claims more than it has
    mem_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 500
    return f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,batch_sched_delay=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.txt
MinJobAge=3600
ReturnToService=2
KillWait=30
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={mem_mb} Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
PartitionName=short Nodes={host} MaxTime=1 State=UP
"""


@contextmanager
def slurm(folder: Path) -> Iterator[Path]:
    """Bring up the cluster, yield the file of completed jobs (jobcomp), take it down.

    Parameters
    ----------
    folder : Path
        Empty folder for state, sockets and logs.
    """
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(_conf(folder, host))
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n")
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    folder.chmod(0o755)
    ETC.mkdir(exist_ok=True)
    links = [ETC / name for name in ("slurm.conf", "gres.conf", "cgroup.conf")]
    for link in links:
        link.unlink(missing_ok=True)
        link.symlink_to(folder / link.name)
    munge = f"munged --foreground --force --key-file={key} --socket={folder}/munge.socket --pid-file={folder}/munge.pid"
    munge += f" --log-file={folder}/munge.log --seed-file={folder}/munge.seed"
    running: list[subprocess.Popen[bytes]] = []

    def start(command: str) -> None:
        log = (folder / f"{command.split(maxsplit=1)[0]}.out").open("wb")
        running.append(subprocess.Popen(command.split(), stdout=log, stderr=log, start_new_session=True))

    try:
        start(munge)
        _wait((folder / "munge.socket").exists, "munged", folder)
        start("slurmctld -D -i")
        start(f"slurmd -D -N {host}")
        _wait(lambda: "idle" in _ask("sinfo", "-h", "-o", "%T"), "an idle node", folder)
        yield folder / "jobcomp.txt"
    finally:
        subprocess.run(["scancel", "--user=root"], capture_output=True, check=False)
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        for link in links:
            link.unlink(missing_ok=True)


def _ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _wait(ready, what: str, folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            logs = "\n".join(
                f"--- {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in folder.glob("*.log")
            )
            raise RuntimeError(f"{what} did not come up\n{logs}")
        time.sleep(0.3)


def jobs(jobcomp: Path) -> list[dict[str, str]]:
    """Return Slurm's own records of the jobs that ended: partition, name, state, processors."""
    text = jobcomp.read_text() if jobcomp.exists() else ""
    return [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in text.splitlines()]


def show() -> list[dict[str, str]]:
    """Return what Slurm says of every job it remembers (MinJobAge after its end), the GPUs it asked for among it."""
    lines = _ask("scontrol", "--oneliner", "show", "job").splitlines()
    return [
        dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines if "JobId=" in line
    ]


def queued() -> list[str]:
    """Return the numbers of the jobs that wait or run."""
    return _ask("squeue", "--noheader", "--format=%i").split()

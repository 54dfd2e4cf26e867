"""Jobs that wait in Slurm's queue and cannot start: Slurm's own reason, and what to change.

Snakemake waits for a pending job without a word, for ever if need be, and for the end of any job where Slurm keeps no
accounts. The Snakefile has these lines printed while it runs on a cluster (``watch``), and ``make status`` prints them
too; where there are no accounts it refuses to begin (``no_accounts``).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from normct.common import cli

NEVER = {
    "PartitionTimeLimit": "it asks for more time than the partition allows: lower runtime in slurm/config.yaml, or name"
    " another slurm_partition",
    "PartitionNodeLimit": "it asks for more nodes than the partition has: name another slurm_partition",
    "PartitionDown": "the partition is down: name another slurm_partition, or ask your site",
    "PartitionInactive": "the partition takes no jobs: name another slurm_partition, or ask your site",
    "BadConstraints": "no node is what it asks for: lower mem_mb, threads or gpu, or share a job among fewer subjects",
    "ReqNodeNotAvail, ?UnavailableNodes": "the nodes it could run on are down or drained: name another slurm_partition, or"
    " ask your site",
    "AccountNotAllowed": "the account may not use this partition: set slurm_account",
    "InvalidAccount": "the account is unknown: set slurm_account",
    "InvalidQOS": "the quality of service is unknown or not for this account: set qos",
    "QOSNotAllowed": "the partition does not take this quality of service: set qos",
    r"QOSMax\w+Per(Job|Node)": "it asks for more than its quality of service ever allows: lower mem_mb, threads, gpu or"
    " runtime",
    r"AssocMax\w+Per(Job|Node)": "it asks for more than the account ever allows: lower mem_mb, threads, gpu or runtime",
    "JobHeldAdmin": "the administrator holds it: ask your site",
    "JobHeldUser": "it is held: scontrol release JOB",
    "launch failed requeued held": "it could not be launched and is held: scontrol release JOB",
}
"""Beginning of Slurm's reason (a pattern) -> what it means. The reasons of mere waiting are not here: Priority, Resources,
limits of all of a user's jobs together, a reservation for maintenance."""
FIELDS = "%i|%k|%P|%C|%m|%l|%r"


def meaning(reason: str) -> str | None:
    """Return what a reason means and what to change; None where waiting helps."""
    return next((words for pattern, words in NEVER.items() if re.match(pattern, reason)), None)


@dataclass(frozen=True)
class Stuck:
    """A pending job that cannot start as things are; fields as ``squeue`` prints them."""

    job: str
    comment: str
    partition: str
    cpus: str
    memory: str
    time: str
    reason: str

    @property
    def text(self) -> str:
        """One line: which job, what it asks for, Slurm's reason, and what to do."""
        what = self.comment.removeprefix("rule_").replace("_wildcards_", " ")
        return (
            f"Slurm will not start job {self.job} ({what}; partition {self.partition}, {self.cpus} CPUs, "
            f"{self.memory}B, {self.time}). Its reason: {self.reason}: {meaning(self.reason)}"
        )


def stuck(text: str) -> list[Stuck]:
    """Return the jobs of ``squeue --format=%i|%k|%P|%C|%m|%l|%r`` whose reason does not pass by waiting."""
    rows = (line.strip().split("|", 6) for line in text.splitlines() if line.count("|") >= 6)
    jobs = [Stuck(*row) for row in rows]
    return [job for job in jobs if meaning(job.reason)]


def pending() -> list[Stuck]:
    """Ask ``squeue`` about one's own pending jobs; none where it does not answer, which is not ours to judge."""
    command = ["squeue", "--me", "--noheader", "--states=PENDING", f"--format={FIELDS}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return stuck(done.stdout)


def no_accounts() -> str | None:
    """Ask ``sacct``, which Snakemake asks for the end of its jobs, for nothing; return why it does not answer, or None."""
    try:
        done = subprocess.run(
            ["sacct", "--noheader", "--starttime=now"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    else:
        if done.returncode == 0:
            return None
        said = done.stderr.strip()
    return (
        f"Slurm's accounting does not answer: {said}\nSnakemake would wait for ever for the end of its jobs. Where your site"
        " keeps no accounts, uncomment `slurm-status-command: squeue` in slurm/config.yaml; else try again later."
    )


def watch(
    say: Callable[[str], object], first: float = 20.0, seconds: float = 120.0
) -> threading.Event | None:
    """Ask every so often until the event that is returned is set, and say each stuck job once; None without Slurm."""
    if shutil.which("squeue") is None:
        return None
    stop, said = threading.Event(), set()

    def ask() -> None:
        wait = first
        while not stop.wait(wait):
            wait = seconds
            for job in pending():
                if (job.job, job.reason) not in said:
                    said.add((job.job, job.reason))
                    say(job.text)

    threading.Thread(target=ask, name="slurm-queue", daemon=True).start()
    return stop


def main(argv: list[str] | None = None) -> None:
    """Command line: print every stuck job of one's own."""
    cli.parser(__doc__, "normct.common.slurm_queue").parse_args(argv)
    if shutil.which("squeue") is None:
        print("No Slurm on this machine.")
        return
    jobs = pending()
    print("\n".join(job.text for job in jobs) or "No job is stuck in Slurm's queue.", file=sys.stdout)


if __name__ == "__main__":
    cli.run(main)

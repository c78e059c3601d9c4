"""A SLURM of its own: real slurmctld, slurmd and munged below one folder, on one host.

No systemd, no cgroups, loopback only, free ports, nothing of the machine's own SLURM is
touched. Used by the tests; by hand ``python tests/local_slurm.py`` starts one, prints
what to export and ends it at Ctrl-C.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "scontrol")
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
CONFIGURATION = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire={requeue_wait}
CredType=cred/munge
CommunicationParameters=NoAddrCache,NoCtldInAddrAny,NoInAddrAny
MailProg=/bin/true
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=10
MinJobAge=3600
MaxArraySize=1001
InactiveLimit=0
SlurmctldTimeout=30
SlurmdTimeout=30
UnkillableStepTimeout=30
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
"""

NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} \
RealMemory=8000 State=UNKNOWN"


def missing():
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]


def free_ports(n):
    """Return ports that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def living(pid):
    """Whether a process runs; a daemon killed in a container may stay as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class LocalSlurm:
    """The daemons, and the client commands that speak to them.

    Parameters
    ----------
    cpus : int
        What a node pretends to have.
    nodes : int
        Pretended nodes, all of them this host.
    requeue_wait : int
        Seconds that a requeued job waits, 5 at least; 120 on a stock SLURM.
    """

    def __init__(self, cpus=4, nodes=1, requeue_wait=5):
        # short: a socket's path must have less than 108 characters
        self.folder = Path(tempfile.mkdtemp(prefix="ns-slurm-", dir="/tmp"))
        port, *ports = free_ports(1 + nodes)
        self.nodes = [f"node{i + 1}" for i in range(nodes)]
        host = socket.gethostname().split(".")[0]
        (self.folder / "etc").mkdir()
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(mode=0o755 if name == "spool" else 0o700)
        self.folder.chmod(0o755)
        (self.folder / "munge" / "key").write_bytes(secrets.token_bytes(1024))
        (self.folder / "munge" / "key").chmod(0o600)
        self.configuration = self.folder / "etc" / "slurm.conf"
        (self.folder / "etc" / "cgroup.conf").write_text(
            "CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=no\n"
        )
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True)
        self.configuration.write_text(
            CONFIGURATION.format(
                host=host,
                user=user.stdout.strip(),
                folder=self.folder,
                port=port,
                nodes="\n".join(
                    NODE.format(name=name, host=host, port=p, cpus=cpus)
                    for name, p in zip(self.nodes, ports, strict=True)
                ),
                requeue_wait=requeue_wait,
            )
        )
        dropped = ("SLURM_", "SBATCH_", "OMPI_COMM", "PMIX_")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(dropped)},
            "PATH": SEARCHED,
            "SLURM_CONF": str(self.configuration),
        }

    # -- daemons -------------------------------------------------------------------------

    def _daemon(self, *words):
        subprocess.run(
            words, env=self.environment, check=True, stdout=subprocess.DEVNULL, timeout=60
        )

    def start(self):
        """Start what does not run and wait until the node is ready."""
        if not self.running("munged"):
            munge = self.folder / "munge"
            self._daemon(
                "munged", "--force", "--num-threads=2", f"--key-file={munge / 'key'}",
                f"--socket={self.folder / 'munge.sock'}", f"--seed-file={munge / 'seed'}",
                f"--pid-file={self.folder / 'munged.pid'}",
                f"--log-file={self.folder / 'munged.log'}",
            )  # fmt: skip
        if not self.running("slurmctld"):
            self._daemon("slurmctld", "-f", str(self.configuration))
        for node in self.nodes:
            (self.folder / "spool" / node).mkdir(exist_ok=True)
            if not self.running(f"slurmd-{node}"):
                self._daemon("slurmd", "-f", str(self.configuration), "-N", node)
        try:
            self.wait(lambda: self.ready() == len(self.nodes), 60)
        except AssertionError:
            shown = self.do("scontrol", "show", "nodes", timeout=5, check=False)
            raise AssertionError(f"nodes are not ready:\n{shown}") from None
        return self

    def ready(self):
        """Return how many nodes take jobs, 0 while the controller does not answer."""
        try:
            shown = self.do("sinfo", "-h", "-N", "-o", "%T", timeout=5, check=False)
        except subprocess.TimeoutExpired:
            return 0
        return sum(state in ("idle", "mixed", "allocated") for state in shown.split())

    def story(self):
        """Return what the controller and the nodes tell, for a failed test."""
        logs = [p.read_text()[-3000:] for p in sorted(self.folder.glob("slurm*.log"))]
        return "\n".join([self.do("scontrol", "show", "nodes", timeout=5, check=False), *logs])

    def pid(self, name):
        """Return the process of a daemon, 0 if it has none."""
        try:
            pid = int((self.folder / f"{name}.pid").read_text())
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
        except (OSError, ValueError):
            return 0
        return pid if living(pid) and name.startswith(comm) else 0

    def running(self, name):
        """Whether a daemon runs."""
        return self.pid(name) > 0

    def kill(self, name):
        """Kill a daemon as a crash would.

        A controller writes down what it knows up to 5 s late. One that dies earlier forgets
        the job and gives its number once more, at which the node drains itself.
        """
        pid = self.pid(name)
        assert pid, f"{name} does not run"
        if name == "slurmctld":
            # twice: what is written first may have been collected before
            self._written_down()
            self._written_down()
        os.kill(pid, signal.SIGKILL)
        self.wait(lambda: not living(pid), 30)

    def _written_down(self):
        """Change every running job and wait until the controller has written its jobs."""
        state, changed = self.folder / "state" / "job_state", time.time()
        for job in self.jobs("R"):
            self.do("scontrol", "update", f"jobid={job}", f"comment={changed}")
            self.wait(lambda: state.exists() and state.stat().st_mtime > changed, 60)

    def stop(self):
        """End jobs and daemons."""
        daemons = [f"slurmd-{node}" for node in self.nodes]
        if all(map(self.running, ["slurmctld", *daemons])):
            with contextlib.suppress(subprocess.TimeoutExpired, AssertionError):
                self.do("scancel", "--user", str(os.getuid()), timeout=10, check=False)
                self.wait(lambda: not self.jobs("R,CG,CF"), 30)
        for name in (*daemons, "slurmctld", "munged"):
            pid = self.pid(name)
            if pid:
                os.kill(pid, signal.SIGTERM)
                with contextlib.suppress(AssertionError):
                    self.wait(lambda pid=pid: not living(pid), 20)
                if living(pid):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            print((self.folder / "slurmctld.log").read_text()[-2000:], file=sys.stderr)
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    # -- clients -------------------------------------------------------------------------

    @staticmethod
    def wait(condition, seconds=120.0):
        """Wait until something is true and return it, or fail."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.1)
        return found

    def do(self, *words, timeout=60, check=True, cwd=None, **variables):
        """Run a client command; return what it prints."""
        done = subprocess.run(
            [str(w) for w in words],
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *words, **settings):
        """Submit a script and return the job's number."""
        return int(self.do("sbatch", "--parsable", *words, **settings).split(";")[0])

    def jobs(self, states="PD,R,CG,CF"):
        """Return numbers of the jobs in some states."""
        return self.do("squeue", "-h", "-t", states, "-o", "%A").split()

    def job(self, number):
        """Return what the controller knows of a job."""
        words = self.do("scontrol", "-o", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def job_state(self, number):
        """Return the state of a job."""
        return self.job(number)["JobState"]

    def end_of(self, number, seconds=240.0):
        """Wait for the end of a job that is not to run again; return its last state."""
        going = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED")
        self.wait(lambda: self.job_state(number) not in going, seconds)
        return self.job_state(number)


def main():
    """Run until Ctrl-C."""
    with LocalSlurm() as slurm:
        print(f"export SLURM_CONF={slurm.configuration} PATH=$PATH:/usr/sbin", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()

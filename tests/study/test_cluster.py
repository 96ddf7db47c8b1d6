"""Clusters of real processes, started as docs/cluster.md says, and hit where it hurts."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import faulty
import numpy as np
import pytest
import tiny

from gentheory.study import plan
from gentheory.study.spec import parse
from gentheory.study.store import Store

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
NODES = ("127.0.0.1", "127.0.0.2")
PATIENCE = 600.0
"""Seconds that a machine with better things to do may take."""


def snippets(section: str, language: str) -> list[str]:
    """The page's code in this language, in its section of this title."""
    (text,) = (part for part in PAGE.split("\n## ") if part.startswith(f"{section}\n"))
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


SETTINGS, SCHEDULER, WORKERS, RUN = snippets("By hand", "sh")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def shell(
    command: str, environment: dict[str, str], **options: int
) -> Generator[subprocess.Popen[str], None, None]:
    """The command in a shell and a process group of its own, which ends with the block."""
    with subprocess.Popen(
        ["bash", "-c", command], env=environment, text=True, start_new_session=True, **options
    ) as running:
        try:
            yield running
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)


def certificates(folder: Path) -> dict[str, str]:
    """One certificate for all, signed by itself, and what the page has one export for it."""
    request = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=it -days 2 -keyout key -out cert"
    subprocess.run(request.split(), cwd=folder, check=True, capture_output=True)
    (command,) = snippets("Encryption", "sh")
    names = re.findall(r"^export (\w+)=", command, flags=re.MULTILINE)
    assert len(names) == 7
    return {name: str(folder / ("key" if name.endswith("KEY") else "cert")) for name in names}


class Machines:
    """Two nodes on the loopback interface, and what the page has one type there."""

    def __init__(self, folder: Path, scheme: str = "tcp") -> None:
        self.out = folder / "quickstart"
        (folder / "studies").mkdir()
        (folder / "scratch").mkdir()
        tiny.write(folder / "studies" / "quickstart.toml", tiny.slow())
        names = re.findall(r"^export (\w+)=", SETTINGS, flags=re.MULTILINE)
        values = {"SCHEDULER": f"{scheme}://127.0.0.1:{free_port()}", "SHARED": str(folder)}
        assert names == list(values)
        self.address = values["SCHEDULER"]
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self.folder = folder
        self.environment = {**os.environ, **values, "PATH": path, "OMP_NUM_THREADS": "1"}
        if scheme == "tls":
            self.environment |= certificates(folder)
        # A node has its own address, one core, and no need of the page's port.
        (folder / "nproc").write_text("#!/bin/sh\necho 1\n")
        (folder / "nproc").chmod(0o755)

    @contextmanager
    def up(self) -> Generator[subprocess.Popen[str], None, None]:
        """Scheduler and workers; yields the scheduler."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with ExitStack() as stack:
            command = SCHEDULER.replace(":8787", ":0")
            scheduler = stack.enter_context(shell(command, self.environment, **quiet))
            for node in NODES:
                here = {
                    **self.environment,
                    "PATH": f"{self.folder}{os.pathsep}{self.environment['PATH']}",
                    "TMPDIR": str(self.folder / "scratch"),
                    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "120s",
                }
                command = f"{WORKERS.rstrip()} --host {node}"
                stack.enter_context(shell(command, here, **quiet))
            yield scheduler

    @contextmanager
    def run(self) -> Generator[subprocess.Popen[str], None, None]:
        """The page's run, in the folder that its study is in."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {
            **self.environment,
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "120s",
        }
        command = f"cd {self.folder}\n{RUN}"
        with shell(command, environment, **pipes) as running:
            yield running


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_nodes_of_which_a_worker_is_killed_give_the_same_table(
    tmp_path: Path, undisturbed: Store
) -> None:
    nodes = Machines(tmp_path)
    with nodes.up(), nodes.run() as running:
        item = tiny.until(lambda: tiny.at_work(nodes.out), seconds=PATIENCE)
        os.kill(item.owner["pid"], signal.SIGKILL)
        printed, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, printed) == (0, f"8 of 8 models done in {nodes.out}\n"), err
    assert "Traceback" not in err
    assert err.count("Dask dashboard: ") == 1
    store = Store.open(nodes.out)
    tiny.assert_same(store, undisturbed)
    assert store.inflight() == []
    assert [run["engine"] for run in store.runs()] == [nodes.address]
    # None, if the shard was committed in the very moment.
    assert sum(len(notes["attempts"]) for notes in store.attempts().values()) <= 1


@pytest.mark.slow
@pytest.mark.timeout(2100)
def test_a_scheduler_that_is_killed_costs_only_what_was_in_flight(
    tmp_path: Path, undisturbed: Store
) -> None:
    nodes = Machines(tmp_path, "tls" if shutil.which("openssl") else "tcp")
    with nodes.up() as scheduler, nodes.run() as running:
        item = tiny.until(lambda: tiny.at_work(nodes.out), seconds=PATIENCE)
        os.kill(item.owner["pid"], signal.SIGSTOP)  # so that the run cannot end before it is hit
        tiny.until(lambda: [*nodes.out.glob("shards/*/shard.json")], seconds=PATIENCE)
        os.killpg(scheduler.pid, signal.SIGKILL)
        printed, err = running.communicate(timeout=PATIENCE)
    tiny.refused(
        tiny.Ended(running.returncode, printed, err),
        f"{nodes.address}: found no scheduler any more, .* run the same command: finished shards",
    )
    store = Store.open(nodes.out)
    before = tiny.files(store)
    assert 0 < len(store.done()) < 4
    with nodes.up(), nodes.run() as running:
        printed, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, printed) == (0, f"8 of 8 models done in {nodes.out}\n"), err
    assert tiny.files(store).items() >= before.items()
    tiny.assert_same(store, undisturbed)
    assert store.inflight() == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_model_that_hangs_and_one_that_runs_out_of_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out, limit = tiny.study(), tmp_path / "out", 40
    (hangs, _), (_, hungry) = (s.points for s in plan.shards(parse(raw, place="it")))
    faults = faulty.environment(tmp_path / "site", {hangs.id: "hang", hungry.id: "kill"})
    file = tiny.write(tmp_path / "study.toml", raw)
    options = ("--workers", 2, "--retries", 0, "--time-limit", limit)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in faults.items():
            patched.setenv(name, value)
        with tiny.process("run", file, "--out", out, *options) as running:
            printed, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, printed) == (0, f"4 of 4 models done in {out}\n"), err
    store, whole = Store.open(out), tiny.done(tmp_path / "reference", raw)
    models, expected = store.table("models"), whole.table("models")
    assert models["outcome"].tolist() == ["failed", "finished", "finished", "failed"]
    assert models["model"].tolist() == expected["model"].tolist()
    good = models["outcome"] == "finished"
    np.testing.assert_allclose(models["gap"][good], expected["gap"][good], rtol=1e-4)
    told = tiny.main(capsys, "status", out).out
    assert re.search(
        rf"model {hangs.id} of shard \w+: given up: not done within {limit} s, in "
        r'".*/sitecustomize\.py", line \d+ in go_wrong\n',
        told,
    ), told
    died = "the worker process died: out of memory, or ended from outside"
    assert re.search(rf"model {hungry.id} of shard \w+: given up: {died}\n", told), told
    notes = [len(notes["attempts"]) for notes in store.attempts().values()]
    assert notes == [2, 2]  # the stack and the model, each once
    assert store.inflight() == []


def test_no_scheduler_at_the_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask.config

    file, address = tiny.write(tmp_path / "s.toml", tiny.study()), f"tcp://127.0.0.1:{free_port()}"
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        ended = tiny.main(capsys, "run", file, "--out", tmp_path / "out", "--engine", address)
    tiny.refused(
        ended,
        rf"--engine: found no scheduler at {address} \(.*\), expected the address that "
        r"`dask scheduler` printed; start one, and check the address, the firewall and, for tls",
    )


def test_the_snippets_for_slurm_and_kubernetes_can_be_read() -> None:
    (script,) = snippets("SLURM", "python")
    compile(script, "cluster.py", "exec")
    yaml = pytest.importorskip("yaml", reason="PyYAML, which comes with Dask, reads the snippets")
    cluster, job = map(yaml.safe_load, snippets("Kubernetes", "yaml"))
    assert (cluster["kind"], job["kind"]) == ("DaskCluster", "Job")
    (worker,) = cluster["spec"]["worker"]["spec"]["containers"]
    (scheduler,) = cluster["spec"]["scheduler"]["spec"]["containers"]
    (run,) = job["spec"]["template"]["spec"]["containers"]
    assert worker["args"][:2] == ["dask", "worker"]
    assert worker["args"][-2:] == ["--nthreads", "1"]
    assert worker["volumeMounts"] == run["volumeMounts"]
    assert worker["image"] == scheduler["image"] == run["image"]
    name, ports = cluster["metadata"]["name"], cluster["spec"]["scheduler"]["service"]["ports"]
    assert f"--engine=tcp://{name}-scheduler:{ports[0]['port']}" in run["args"]
    assert snippets("Kubernetes", "sh")[0].splitlines()[-1] == "kubectl apply -f cluster.yaml"


def test_the_job_of_the_slurm_snippet(tmp_path: Path) -> None:
    jobqueue = pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    (script,) = snippets("SLURM", "python")
    (call,) = re.findall(r"SLURMCluster\((.*?)\n    \)", script, flags=re.DOTALL)
    cluster = eval(f"SLURMCluster({call})", {"os": os, "SLURMCluster": jobqueue.SLURMCluster})
    text = cluster.job_script()
    cluster.close()
    assert "#SBATCH -t 04:00:00" in text
    assert "--nworkers 16" in text
    assert "--nthreads 1" in text

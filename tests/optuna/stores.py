"""Each storage of Optuna, opened anew as another process would, and what it takes to have it."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.storages import GrpcStorageProxy, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.event import listen

SERVER = """
import sys
import optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
storage = optuna.storages.InMemoryStorage()
optuna.storages.run_grpc_proxy_server(storage, host="localhost", port=int(sys.argv[1]))
"""


@contextmanager
def memory(folder):
    storage = InMemoryStorage()
    yield lambda: storage


@contextmanager
def sqlite(folder):
    def opened():
        storage = RDBStorage(f"sqlite:///{folder}/study.db")
        storage.engine.dispose()
        listen(storage.engine, "connect", lambda made, _: made.execute("PRAGMA synchronous=OFF"))
        return storage

    yield opened


@contextmanager
def journal(folder):
    yield lambda: JournalStorage(JournalFileBackend(f"{folder}/study.log"))


@contextmanager
def grpc(folder):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SERVER, str(port)])
    clients = []

    def opened():
        clients.append(GrpcStorageProxy(host="localhost", port=port))
        clients[-1].wait_server_ready(timeout=60)
        return clients[-1]

    try:
        yield opened
    finally:
        for client in clients:
            client.close()
        server.terminate()
        server.wait()


@contextmanager
def postgres(folder):
    del folder  # The server's user cannot enter what pytest makes.
    missing = [name for name in ("initdb", "pg_ctl", "postgres") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"PostgreSQL's {', '.join(missing)} not found")
    place = Path(tempfile.mkdtemp(prefix="pg"))
    user = {}
    try:
        if os.geteuid() == 0:  # The server refuses to run as root.
            user = _other_user(place)
        data = str(place / "data")
        options = f"-k {place} -F -c listen_addresses= -c max_wal_senders=0 -c wal_level=minimal"
        run = {"check": True, "cwd": place, "stdout": subprocess.DEVNULL} | user
        subprocess.run(["initdb", "-D", data, "-U", "tests", "-A", "trust", "-N"], **run)
        subprocess.run(["pg_ctl", "-D", data, "-w", "-o", options, "-l", "log", "start"], **run)
        try:
            url = f"postgresql+psycopg2://tests@/postgres?host={place}"
            yield lambda: RDBStorage(url)
        finally:
            subprocess.run(["pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], **run)
    finally:
        shutil.rmtree(place)


def _other_user(place):
    try:
        other = pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user nobody")
    os.chown(place, other.pw_uid, other.pw_gid)
    return {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}


STORES = {each.__name__: each for each in (memory, sqlite, journal, postgres, grpc)}


def work(store, folder, pruner, ask, values):
    """One of several processes at a study: as many trials as `values` has curves, of its own."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        curve = values[trial.number % len(values)]
        for step, value in enumerate(curve, start=1):
            if ask(trial, step, float(value)):
                raise optuna.TrialPruned
        trial.set_user_attr("process", os.getpid())
        return float(curve[-1])

    with STORES[store](folder) as opened:
        study = optuna.load_study(study_name="curves", storage=opened(), pruner=pruner)
        study.optimize(objective, n_trials=len(values) // 2)

"""Which workers an engine has, and where they can be watched."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
import torch

from gentheory.study import cluster, engine
from gentheory.study.engine import Engine


def test_one_worker_a_core_or_a_device_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(engine, "cores", lambda: 8)
    assert [Engine("local").processes(threads) for threads in (1, 4, 16)] == [8, 2, 1]
    assert Engine("local", 3).processes(4) == 3
    assert Engine("tcp://it:1").processes(1) is None
    assert Engine("tcp://it:1", 3).processes(1) == 3
    assert Engine("serial", 3).processes(1) == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Engine("local").processes(1) == 2


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [(None, 2, ["0", "1"]), ("3,5", 2, ["3", "5"]), ("GPU-8a,9", 1, ["GPU-8a"]), ("", 0, [])],
)
def test_devices_by_the_names_that_a_worker_is_given(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, names: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert cluster.devices() == names


@pytest.mark.slow
def test_each_local_worker_has_one_thread_and_a_device_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # what the user says has precedence
    with cluster.local(3, threads=2, devices=["4", "GPU-7"]) as client:
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
        assert sorted(seen.values()) == ["4", "4", "GPU-7"]
        assert set(client.run(os.getenv, "OMP_NUM_THREADS").values()) == {"2"}
        assert set(client.nthreads().values()) == {1}


@contextmanager
def page(code: int, text: str) -> Iterator[str]:
    """A page on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/status"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("code", "text", "line"),
    [
        (200, "<title>Dask: Status</title>", "Dask dashboard: LINK"),
        (
            200,
            "<p>Dask needs bokeh>=3.1.0 for the dashboard.</p>",
            "Dask dashboard: needs `python -m pip install bokeh` where the scheduler runs",
        ),
        (404, "", "Dask dashboard: not to be reached from here, or not served (LINK)"),
    ],
)
def test_the_dashboard_is_named_where_there_is_one(code: int, text: str, line: str) -> None:
    with page(code, text) as link:
        told = cluster.dashboard(SimpleNamespace(dashboard_link=link))
    assert told == line.replace("LINK", link)

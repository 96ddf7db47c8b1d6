"""Faults of chosen models in processes that a test starts: nothing in the package knows of them.

Each process that finds the folder on its PYTHONPATH has the module `sitecustomize` loaded, which
lets the work of a shard go wrong if it holds one of the models.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

_SITE = """
import importlib.abc, importlib.util, json, os, signal, sys, time

FAULTS = json.loads(os.environ["FAULTY_MODELS"])


def go_wrong(how):
    if how == "hang":
        time.sleep(1e6)
    elif how == "kill":  # as the kernel does when there is no memory left
        os.kill(os.getpid(), signal.SIGKILL)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "gentheory.study.shard":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def patched(module):
            load(module)
            work = module.work

            def faulty(shard, *rest):
                for point in shard.points:
                    go_wrong(FAULTS.get(point.id))
                work(shard, *rest)

            module.work = faulty

        spec.loader.exec_module = patched
        return spec


sys.meta_path.insert(0, Finder())
"""


def environment(folder: Path, faults: Mapping[str, str]) -> dict[str, str]:
    """What a process must have in its environment: what happens, by the models' names."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SITE)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "FAULTY_MODELS": json.dumps(dict(faults))}

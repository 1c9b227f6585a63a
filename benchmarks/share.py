"""Our own share of a run: the wall time that is not a method working nor a library being imported."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time

from benchmarks.measure import BIN


def main() -> None:
    """The demonstration, once, from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(BIN / "tuneforge"), "--home", f"{folder}/home", "run", "dpo-after-sft", "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, check=True, cwd=folder, capture_output=True, text=True)
        wall = time.perf_counter() - started
        run = json.loads(done.stdout)["run"]
        with open(f"{folder}/home/runs/{run}.json", encoding="utf-8") as file:  # noqa: PTH123
            steps = json.load(file)["steps"]
    print("\nshare")
    work = imports = 0.0
    for step in steps:
        work += step["work_seconds"]
        imports += step["import_seconds"]
        print(f"  {step['name']:20} {step['seconds']:7.2f} s   work {step['work_seconds']:7.2f} s")
    ours = wall - work - imports
    print(f"  wall {wall:.2f} s, methods {work:.2f} s, imports {imports:.2f} s, ours {ours:.2f} s ({ours / wall:.1%})")

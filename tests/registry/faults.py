"""Four processes at work on one registry, each killed by itself before a change that it is about to make to the disk.

So a kill may fall between any two changes. Whenever one has died, all that is there is verified; the others go on.

python -m tests.registry.faults HOME KILLS [no-locks]

What a process has been told is committed it writes to HOME/../acknowledged, a JSON document a line. At the end the
number of kills in each operation is printed, as JSON. A new operation is a function in `OPERATIONS`.
"""

from __future__ import annotations

import contextlib
import io
import json
import mmap
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.registry.crowd import without_locks, write
from tuneforge_registry import Registry, RegistryError, exporting, gc, importing, index, locks  # noqa: F401  (before forking)

WORKERS = 4
LIFE = 300
"""How many changes a process makes at most before it dies."""
CHANGES = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.chmod", "os.utime", "os.truncate"}
Acknowledge = Callable[[dict[str, Any]], None]


def put(registry: Registry, chance: random.Random, acknowledge: Acknowledge) -> None:
    """Files that are there already among new ones; remembered, recorded and opened, but without a name."""
    digest = _made(registry, chance)
    registry.remember(f"key-{chance.getrandbits(64):x}", digest)
    run_id = f"run-{chance.getrandbits(64):x}"
    registry.write_run(run_id, {"started": run_id, "steps": [{"name": "s", "digest": digest}]})
    acknowledge({"run": run_id})
    if chance.random() < 0.5:
        registry.tree(digest)


def tag(registry: Registry, chance: random.Random, acknowledge: Acknowledge) -> None:
    """Something new, on a base or not, under a name that all others use too."""
    with registry.run_lock(f"run-{chance.getrandbits(64):x}"):
        base = _made(registry, chance) if chance.random() < 0.5 else None
        digest = _made(registry, chance, base)
        name = f"name-{chance.randint(0, 5)}"
        version = registry.tag(name, digest, alias="newest")
    acknowledge({"name": name, "version": version, "digest": digest})


def collect(registry: Registry, chance: random.Random, acknowledge: Acknowledge) -> None:
    registry.gc(dry_run=False, older_than=timedelta(0))


def take_in(registry: Registry, chance: random.Random, acknowledge: Acknowledge) -> None:
    """One of a few exports, so that the same comes again and again, under a name of its own."""
    exports = sorted((registry.home.parent / "exports").iterdir())
    name = f"imported-{chance.getrandbits(64):x}"
    with chance.choice(exports).open("rb") as stream:
        done = registry.import_from(stream, {"model": name})
    (version,) = done.contents.names[name].versions
    acknowledge({"name": name, "version": version, "digest": done.contents.names[name].versions[version]})


def remove(registry: Registry, chance: random.Random, acknowledge: Acknowledge) -> None:
    """What has a name of its own, and perhaps others' too; while somebody works with it, the artifact stays."""
    digest, name = _made(registry, chance), f"gone-{chance.getrandbits(64):x}"
    with contextlib.suppress(RegistryError):  # gc was faster
        registry.tag(name, digest, alias="newest")
        registry.describe(name, 1, ["gone"], note="soon")
        registry.remove_name(name)
        registry.remove_artifact(digest, dry_run=False)


OPERATIONS = {"put": put, "tag": tag, "gc": collect, "import": take_in, "rm": remove}


def _made(registry: Registry, chance: random.Random, base: str | None = None) -> str:
    with registry.workspace() as room:
        seed = "shared" if chance.random() < 0.3 else f"{chance.getrandbits(64):x}"
        return registry.put(write(room / "out", chance.randint(1, 6), seed), "model", base)


def prepare(folder: Path) -> None:
    """A few exports: a model on a base, by a run, with a name."""
    (folder / "exports").mkdir()
    source = Registry(folder / "source")
    for number in range(3):
        chance = random.Random(number)
        base = _made(source, chance)
        digest = _made(source, chance, base)
        source.write_run(
            f"run-{number}", {"started": "1", "steps": [{"name": "s", "digest": digest, "inputs": {"m": [base]}}]}
        )
        source.tag("model", digest)
        stream = io.BytesIO()
        source.export_to(stream, [digest])
        (folder / "exports" / f"{number}").write_bytes(stream.getvalue())


def work(home: Path, seed: int, acknowledged: int, doing: mmap.mmap, place: int) -> None:
    registry, chance = Registry(home), random.Random(seed)
    names = list(OPERATIONS)
    life = [chance.randint(1, LIFE)]

    def about_to(event: str, arguments: tuple[Any, ...]) -> None:
        """Called by Python before whatever it does to a file."""
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in CHANGES:
            life[0] -= 1
            if life[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            if life[0] % 7 == 0:
                time.sleep(0.001)  # for others to come in between

    def acknowledge(fact: dict[str, Any]) -> None:
        os.write(acknowledged, json.dumps(fact).encode() + b"\n")

    sys.addaudithook(about_to)
    while True:
        number = chance.randrange(len(names))
        doing[place] = number + 1
        OPERATIONS[names[number]](registry, chance, acknowledge)
        doing[place] = 0


def main(home: Path, kills: int) -> None:
    prepare(home.parent)
    acknowledged = os.open(home.parent / "acknowledged", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    doing = mmap.mmap(-1, WORKERS)
    seeds = iter(range(random.randrange(10**9), 10**10))
    children: dict[int, int] = {}
    killed: Counter[str] = Counter()

    def start(place: int) -> None:
        seed = next(seeds)
        child = os.fork()
        if child == 0:
            try:
                work(home, seed, acknowledged, doing, place)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        children[child] = place

    for place in range(WORKERS):
        start(place)
    for _ in range(kills):
        child, status = os.wait()
        place = children.pop(child)
        if os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit("a process failed by itself")
        killed[["between", *OPERATIONS][doing[place]]] += 1
        if damages := Registry(home).verify():
            sys.exit(f"after a kill in {killed}: {damages}")
        start(place)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    print(json.dumps(killed))


if __name__ == "__main__":
    os.fsync = lambda fd: None  # kill -9 loses no writes, and the more of them happen the better
    if "no-locks" in sys.argv:
        without_locks()
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""Kills runs of a recipe at any moment, and shows that they end as if nothing had happened.

    python -m tests.crashes [--kills 20] [--seed 1] [--recipe dpo-after-sft] [--set KEY=VALUE ...]

The recipe is carried out once undisturbed. Then, in another folder with another registry, it is killed at random
moments, `--kills` times, by kill -9 of every process that belongs to it, and each time started again by the same
command until it ends. Then three more runs, each in a folder of its own, are killed once: while they train, while they
merge, and while they publish (`--during` chooses).

After every kill the registry must be whole and no process left. At the end every step's artifact must have the digest
that it has undisturbed, its figures must be the same and so must the released files; the registry must verify; and of
what the killed runs had begun nothing may be left. The exit code is 1 if anything is otherwise.

Half of the random moments are drawn evenly from what every start takes (planning, imports, reading the model), half
from a stretch of work after it. That is as long as makes the kills fall on the whole run: what remains to be done, by
the clock of the undisturbed run, shared out among the kills that remain, and some more, as what a kill loses is done
again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crashes.place import Place, results
from tests.crashes.processes import Tree

DEMONSTRATION = "dpo-after-sft"
SHORT = (
    "steps.chats.with.limit=600",
    "steps.pairs.with.limit=200",
    "steps.sft.with.steps=60",
    "steps.sft.with.max_length=256",
    "steps.sft.with.batch_size=8",
    "steps.sft.with.save_every=5",
    "steps.sft.with.log_every=1",
    "steps.dpo.with.steps=20",
    "steps.dpo.with.max_length=256",
    "steps.dpo.with.batch_size=4",
    "steps.dpo.with.save_every=2",
    "steps.dpo.with.log_every=1",
    "steps.task.with.limit=4",
    "steps.task.with.max_new_tokens=8",
)
"""The demonstration in about a minute, with checkpoints every few seconds."""

STAGES = {"training": "train", "merging": "merge", "publishing": "publish"}
_LIMIT = 900  # seconds after which a run hangs


class BrokenError(Exception):
    """Something is not as it is without kills."""


@dataclass(frozen=True)
class Undisturbed:
    """How the recipe is carried out when nothing happens."""

    place: Place
    record: Mapping[str, Any]
    seconds: float
    start: float
    """Seconds from the start of the command to the first step of training, had the results before it been there."""

    def remaining(self, kept: set[str]) -> float:
        """Seconds of work in the steps whose results are not there."""
        return sum(float(step["work_seconds"]) for step in self.record["steps"] if step["key"] not in kept)

    def step(self, stage: str) -> Mapping[str, Any]:
        """The first step of a stage."""
        return next(step for step in self.record["steps"] if step["stage"] == stage)


@dataclass(frozen=True)
class Kill:
    after: float
    at: str
    processes: int
    kept: int
    checkpoint: str


def main() -> int:
    options = _options()
    settings = [*(SHORT if options.recipe == DEMONSTRATION else ()), *options.settings]
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="crashes-", ignore_cleanup_errors=True) as folder:
        scene = Scene(Path(folder), options.recipe, settings, random.Random(options.seed))
        kills = scene.kill_at_random(options.kills)
        for what in options.during:
            kills += scene.kill_during(what)
    wanted = options.kills + len(options.during)
    print("\nkills by step: " + ", ".join(f"{at} {count}" for at, count in Counter(kill.at for kill in kills).items()))
    print(f"{len(kills) if scene.sound else 0} of {wanted} kills survived with the very same results")
    return 0 if scene.sound and len(kills) == wanted else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.crashes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="how often one run is killed at random moments")
    parser.add_argument("--during", nargs="*", choices=STAGES, default=[*STAGES], help="runs that are killed once")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the moments")
    parser.add_argument("--recipe", default=DEMONSTRATION, help="a shipped recipe, or the path of a file")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


class Scene:
    """The undisturbed run, and those that are killed and compared with it."""

    def __init__(self, folder: Path, recipe: str, settings: list[str], chance: random.Random) -> None:
        self._folder, self._recipe, self._settings, self._chance = folder, recipe, settings, chance
        self.sound = True
        place = self._place("undisturbed")
        tree = place.start()
        self._wait(place, tree, place.trains)
        start = tree.seconds - sum(step["seconds"] for step in place.record()["steps"])
        self._wait(place, tree, lambda: False)
        self._undisturbed = Undisturbed(place, place.record(), tree.seconds, start)
        self._publish = self._undisturbed.step("publish")["name"]
        told = ", ".join(f"{step['name']} {step['seconds']:.1f}" for step in self._undisturbed.record["steps"])
        print(f"undisturbed: {tree.seconds:.0f} s ({told}); every start takes {start:.0f} s", flush=True)

    def kill_at_random(self, kills: int) -> list[Kill]:
        """One run, killed at that many moments."""
        if not kills:
            return []
        place = self._place("killed")
        given: list[Kill] = []
        for left in range(kills, 0, -1):
            due = self._moment(place, left)
            # The last step is short: with kills left for it, they fall on its beginning at the latest.
            kill = self._kill(place, lambda tree, due=due: due(tree) or place.begun(self._publish))
            if kill is None:
                break
            given.append(kill)
        self._finish(place)
        return given

    def _moment(self, place: Place, left: int) -> Callable[[Tree], bool]:
        if self._chance.random() < 0.5:
            return _when(lambda: True, self._chance.uniform(0, self._undisturbed.start))
        stretch = 3 * self._undisturbed.remaining(place.kept()) / (left + 2)
        return _when(place.works, self._chance.uniform(0, stretch))

    def kill_during(self, what: str) -> list[Kill]:
        """A run of its own, killed once while it is at a step of that stage."""
        step = self._undisturbed.step(STAGES[what])
        name, place = step["name"], self._place(what)
        share = self._chance.random()
        if what == "training":
            due = _when(lambda: place.progress(name) > 0.3 + 0.5 * share)
        elif what == "merging":
            due = _when(lambda: place.begun(name), 0.8 * share * step["seconds"])
        else:
            to = place.folder / "dist"
            instants = (lambda: place.begun(name), lambda: any(to.glob(".*draft/*")), lambda: any(to.glob("*/*SUMS")))
            due = _when(self._chance.choice(instants), 0.02 * share)
        kill = self._kill(place, due)
        if kill and kill.at != name:
            self._broken(f"it should have been killed at {name}: try another seed")
        self._finish(place)
        return [kill] if kill else []

    def _place(self, name: str) -> Place:
        return Place(self._folder / name, self._recipe, self._settings)

    def _kill(self, place: Place, due: Callable[[Tree], bool]) -> Kill | None:
        """Starts the command and kills it when that is due; None if it has ended by itself before."""
        tree = place.start()
        kept = place.kept()
        if not self._wait(place, tree, lambda: due(tree)):
            self._broken("it has ended before it was killed")
            return None
        after, at = tree.seconds, place.at() or "no step"
        kill = Kill(after, at, tree.kill(self._chance), len(place.kept()), place.checkpoint())
        shown = f", {kill.checkpoint}" if kill.checkpoint else ""
        print(
            f"{place.folder.name}: killed after {after:5.1f} s at {at} ({kill.processes} processes);"
            f" {kill.kept} steps are kept{shown}",
            flush=True,
        )
        if not kept <= place.kept():
            self._broken("the result of a finished step is gone")
        for damage in place.registry.verify():
            self._broken(f"{damage.path}: {damage.problem}")
        running = [run for run, record in place.registry.runs().items() if record["status"] == "running"]
        if running:
            self._broken(f"{running} are told as running")
        return kill

    def _finish(self, place: Place) -> None:
        """Starts the command once more, lets it end, and compares what it made."""
        tree = place.start()
        self._wait(place, tree, lambda: False)
        wanted, found = results(self._undisturbed.record), results(place.record())
        for name, (digest, figures) in wanted.items():
            other, others = found.get(name, ("", {}))
            if other != digest:
                self._broken(f"{name} is {other[:12]} instead of {digest[:12]}")
            elif others != figures:
                self._broken(f"the figures of {name} are {others} instead of {figures}")
        if place.released() != self._undisturbed.place.released():
            self._broken("the released files differ")
        for damage in place.registry.verify():
            self._broken(f"{damage.path}: {damage.problem}")
        names = {name: stands_for.versions for name, stands_for in place.registry.names().items()}
        if names != {name: one.versions for name, one in self._undisturbed.place.registry.names().items()}:
            self._broken(f"the names are {names}")
        if tree.pids():
            self._broken(f"{len(tree.pids())} processes are left")
        if place.left_over():
            self._broken(f"left behind: {', '.join(place.left_over())}")
        print(f"{place.folder.name}: ended after {tree.seconds:.0f} s, {len(found)} artifacts compared", flush=True)

    def _wait(self, place: Place, tree: Tree, due: Callable[[], bool]) -> bool:
        """Whether it is due before the command has ended, which it must have done well."""
        try:
            while not due():
                if tree.code is not None:
                    if tree.code:
                        raise BrokenError(f"exit code {tree.code}\n{place.output.read_text()}")
                    return False
                if tree.seconds > _LIMIT:
                    raise BrokenError(f"it hangs\n{place.output.read_text()}")
                time.sleep(0.005)
        except BaseException:
            tree.kill(self._chance)
            raise
        return True

    def _broken(self, problem: str) -> None:
        self.sound = False
        print(f"    BROKEN: {problem}", flush=True)


def _when(begun: Callable[[], bool], later: float = 0.0) -> Callable[[Tree], bool]:
    """Due so many seconds after something has begun."""
    since: list[float] = []

    def due(tree: Tree) -> bool:
        if not since and begun():
            since.append(tree.seconds)
        return bool(since) and tree.seconds >= since[0] + later

    return due


if __name__ == "__main__":
    sys.exit(main())

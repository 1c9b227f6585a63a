"""Methods that need nothing but Python: a text is split into words, words are counted, and steps die in many ways."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from tuneforge import (
    Align,
    Artifact,
    Evaluate,
    Facts,
    Field,
    Finding,
    Format,
    Kinds,
    Known,
    Publish,
    Release,
    Source,
    Step,
    StepError,
    Target,
    Train,
    hookimpl,
)
from tuneforge.launch.hardware import Hardware
from tuneforge.launch.options import Launch, Strategy
from tuneforge.stages import Config


class Words(Artifact):
    """A text, one word a line."""

    kind = "words"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        if not (path / "words.txt").exists():
            yield "words.txt"

    @classmethod
    def summary(cls, path: Path) -> dict[str, Any]:
        return {"words": len(read_words(path))}


class Bag(Artifact):
    """How often each word occurs."""

    kind = "bag"

    @classmethod
    def facts(cls, path: Path, base: Facts | None = None) -> Facts:
        return Facts(cls, json.loads((path / "bag.json").read_text()), base=base)


class Note(Artifact):
    """A remark on a bag, which means nothing without it."""

    kind = "note"


def read_words(folder: Path) -> list[str]:
    return (folder / "words.txt").read_text().split()


class Clean(Config):
    lower: bool = Field(False, description="Small letters only.", also=("lowercase", "do_lower"))
    drop: str = Field("", description="Letters to leave out.", also=("remove",))
    echo: bool = Field(False, description="Say each word.", keyed=False)


class Split(Format):
    """Splits a text into words."""

    name = "split"
    output = Words

    path: Source = Field(description="The text.")
    clean: Clean = Field(Clean(), description="What is done to each word.")
    limit: int = Field(0, ge=0, description="How many words at most; 0 is all.", also=("max_samples",))
    chatty: bool = Field(False, description="Say more.", keyed=False)

    def check(self, facts: Known) -> Iterable[Finding]:
        if not self.path.exists():
            yield Finding(f"there is no file {self.path}", "Name one that is there.", field="path")
        if self.clean.drop == "?":
            yield Finding("a question mark is no letter", "Name letters.", field="clean.drop", level="warning")

    def run(self, step: Step) -> None:
        words = self.path.read_text().split()[: self.limit or None]
        words = ["".join(letter for letter in word if letter not in self.clean.drop) for word in words]
        words = [word.lower() if self.clean.lower else word for word in words]
        for number, word in enumerate(words if self.clean.echo else [], 1):
            step.progress(number, len(words))
            print(word)
        if self.chatty:
            step.log(f"split {self.path.name}")
        (step.out / "words.txt").write_text("\n".join(words))
        step.metrics(words=len(words))


class Count(Train):
    """Counts words."""

    name = "count"
    output = Bag

    top: int = Field(3, ge=1, description="How many words to keep.", also=("top_k",))
    rate: float = Field(1.0, gt=0, le=1, description="What a count is multiplied with.", also=("lr",))
    unheard: int = Field(0, description="Read by nothing.")

    def run(self, data: list[Words], step: Step) -> None:
        print("to standard output")
        print("to standard error", file=sys.stderr)
        counts = Counter(word for words in data for word in read_words(words.path))
        bag = {word: count * self.rate for word, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))}
        (step.out / "bag.json").write_text(json.dumps(dict(list(bag.items())[: self.top])))
        step.metrics(kinds=len(counts))


class Remark(Align):
    """Remarks on a bag; `whole` writes the bag with its remark."""

    name = "remark"
    output = Note

    text: str = Field("fine", description="What to say.")
    whole: bool = Field(False, description="Write a bag instead of a note.", also=("merge_and_unload",))

    def writes(self, kinds: Kinds) -> type[Artifact]:
        return Bag if self.whole else Note

    def run(self, bag: Bag | Note, step: Step) -> None:
        if self.whole:
            (step.out / "bag.json").write_text(json.dumps({self.text: 1}))
            return
        (step.out / "note.txt").write_text(self.text)
        step.sits_on(bag.base or bag)


class Grade(Evaluate):
    """Scores bags by how many words they keep."""

    name = "grade"

    least: int = Field(0, description="How many words a bag must have to pass.")

    def run(self, bags: list[Bag], words: Words | None = None, *, step: Step) -> None:
        scores = {bag.digest: {"kept": len(json.loads((bag.path / "bag.json").read_text()))} for bag in bags}
        report = {
            "subjects": list(scores),
            "passed": all(score["kept"] >= self.least for score in scores.values()),
            "scores": scores,
            "of": len(read_words(words.path)) if words else None,
        }
        (step.out / "report.json").write_text(json.dumps(report, sort_keys=True))


class Share(Publish):
    """Writes what a bag's lineage says to a file."""

    name = "share"

    to: Target = Field(description="The file to write.")

    def run(self, bag: Bag, step: Step) -> None:
        self.to.write_text(json.dumps(step.lineage, indent=1))
        (step.out / "receipt.json").write_text(json.dumps({"of": bag.digest}))

    def holds(self, receipt: Release) -> bool:
        return self.to.exists()


Death = Literal[
    "kill", "segv", "raise", "refuse", "exit", "sleep", "stuck", "nothing", "half", "path", "numbers", "garbled", "mute"
]  # fmt: skip


class Doom(Train):
    """Dies, or ends with a result that cannot be taken."""

    name = "doom"
    output = Bag

    how: Death = Field(description="In which way.")
    pids: Target | None = Field(None, description="Where to write the ids of the server, the step and its child.")

    def run(self, words: Words | None = None, *, step: Step) -> None:
        if self.pids:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            beside = self.pids.with_suffix(".new")
            beside.write_text(f"{os.getppid()} {os.getpid()} {child.pid}")
            beside.replace(self.pids)
        match self.how:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "segv":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "raise":
                raise ValueError("oh no")
            case "refuse":
                raise StepError("it cannot be done", "Do something else.")
            case "exit":
                os._exit(3)
            case "nothing":
                return
            case "half":
                (step.out / "other.txt").write_text("x")
            case "path":
                (step.out / "bag.json").write_text(json.dumps({"folder": str(step.out)}))
            case "numbers":
                (step.out / "bag.json").write_text("{}")
                step.metrics(loss=1j)
            case "sleep":
                time.sleep(600)
            case "stuck":
                ctypes.PyDLL(None).sleep(600)  # in native code, and never lets go of the interpreter
            case "mute":
                os.write(int(sys.argv[2]), b'{"event": "log", "te')  # killed while it tells something
                os.kill(os.getpid(), signal.SIGKILL)
            case "garbled":
                (step.out / "bag.json").write_text("{")


class Patient(Train):
    """Works part by part, and goes on after a crash where it was."""

    name = "patient"
    output = Bag

    parts: int = Field(3, description="How many parts the work has.")
    pause: float = Field(0.0, description="Seconds a part takes.", keyed=False)
    seen: Target | None = Field(None, description="A file that tells what was worked on.", keyed=False)

    def run(self, words: Words, step: Step) -> None:
        for part in range(self.parts):
            done = step.scratch / str(part)
            if done.exists():
                continue
            time.sleep(self.pause)
            done.write_text(str(part * part))
            if self.seen:
                with self.seen.open("a") as file:
                    file.write(f"{part} {os.getpid()} {os.getppid()}\n")
            step.progress(part + 1, self.parts, loss=1 / (part + 1))
        squares = [int((step.scratch / str(part)).read_text()) for part in range(self.parts)]
        (step.out / "bag.json").write_text(json.dumps({"squares": squares, "seed": step.seed}))


class Rehearse(Train):
    """Prepares a part and plays it; slips are warned of."""

    name = "rehearse"
    output = Bag

    slips: list[int] = Field([], description="Parts of the work after which it warns of a slip.")
    fails: bool = Field(False, description="Give up at the end.", keyed=False)

    def prepare(self, words: Words, step: Step) -> None:
        with (step.scratch / "prepared").open("a") as file:
            file.write(f"{len(read_words(words.path))} ")

    def run(self, words: Words, step: Step) -> None:
        step.warn("the hall is dark")
        for done in range(1, 5):
            step.progress(done, 4, loss=1 / done)
            step.sample(done, "what?", f"part {done}")
            if done in self.slips:
                step.warn(f"a slip in part {done}", "Slow down.")
        step.warn("it was slow", "Practise.", at=1)
        if self.fails:
            raise StepError("it cannot be played", "Play something else.")
        (step.out / "bag.json").write_text(json.dumps({"prepared": (step.scratch / "prepared").read_text()}))


class Abreast(Strategy):
    """Everyone sings the whole song."""

    name = "abreast"

    loud: bool = Field(False, description="Sing loudly.", also=("volume",))


class InTurn(Strategy):
    """Each sings a part."""

    name = "in-turn"
    alone = True
    needs = ("packaging>=20",)

    part: Literal["verse", "line"] = Field("line", description="What one sings.")

    def check(self, launch: Launch, hardware: Hardware) -> Iterable[Finding]:
        if self.part == "verse" and not hardware.gpus:
            yield Finding("there is no GPU to sing a verse on", "Sing lines.", field="part")


class Choir(Train):
    """Is sung by several processes at once."""

    name = "choir"
    output = Bag
    strategies = (Abreast, InTurn)

    how: Literal["sing", "raise", "kill", "sleep", "exit", "lie"] = Field("sing", description="What `who` does.")
    who: int = Field(1, description="The rank that does so; the others sing, and wait for it.")
    seats: int = Field(64, description="How many may sing.")

    def prepare(self, words: Words, step: Step) -> None:
        (step.scratch / "notes").write_text(f"prepared by {os.getpid()}")
        step.metrics(prepared=True)

    def check_launch(self, launch: Launch, facts: Known) -> Iterable[Finding]:
        if launch.world_size > self.seats:
            yield Finding(f"{self.seats} seats for {launch.world_size} singers", "Add seats.", field="seats")

    def run(self, words: Words, step: Step) -> None:
        strategy = step.launch.strategy if step.launch else None
        me = f"{step.rank} {os.getpid()} {os.getppid()} {step.threads} {os.environ.get('OMP_NUM_THREADS')}"
        beside = step.scratch / f".{step.rank}"
        beside.write_text(me)
        beside.rename(step.scratch / f"singer-{step.rank}")
        print(f"sung by {step.rank}")
        step.log(f"rank {step.rank} of {step.world_size}")
        step.progress(1, 1, loss=float(step.rank))
        step.metrics(rank=step.rank)
        (step.out / f"by-{step.rank}").write_text("la")
        singers = [step.scratch / f"singer-{rank}" for rank in range(step.world_size)]
        while not all(path.exists() for path in singers):
            time.sleep(0.01)
        if step.rank == self.who or self.how == "sleep":
            match self.how:
                case "raise":
                    raise StepError("a false note", "Sing it right.")
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "exit":
                    os._exit(3)
                case "sleep":
                    ctypes.PyDLL(None).sleep(600)  # in native code, and never lets go of the interpreter
        while self.how in ("raise", "kill", "exit"):
            time.sleep(0.01)
        told = (step.scratch / "notes").read_text()
        song = {"world": step.world_size, "loud": isinstance(strategy, Abreast) and strategy.loud}
        (step.out / "bag.json").write_text(json.dumps(song))
        assert told.startswith("prepared")


@hookimpl
def register_format() -> list[type[Format]]:
    return [Split]


@hookimpl
def register_train() -> list[type[Train]]:
    return [Count, Doom, Patient, Rehearse, Choir]


@hookimpl
def register_align() -> list[type[Align]]:
    return [Remark]


@hookimpl
def register_evaluate() -> list[type[Evaluate]]:
    return [Grade]


@hookimpl
def register_publish() -> list[type[Publish]]:
    return [Share]

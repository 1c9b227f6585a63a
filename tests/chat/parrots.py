"""A plugin without heavy needs: parrots, which repeat what they hear, and can be asked to misbehave."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

from tuneforge import Artifact, Facts, Finding, Manner, Message, Speaker, StepError, Voice, hookimpl


class Bird(Artifact):
    """A bird, whose name is in bird.txt."""

    kind = "bird"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        if not (path / "bird.txt").exists():
            yield "bird.txt"

    @classmethod
    def facts(cls, path: Path, base: Facts | None = None) -> Facts:
        return Facts(cls, {"name": (path / "bird.txt").read_text()}, base=base)


class Perch:
    """A bird that is listening."""

    def __init__(self, name: str, context: int | None) -> None:
        self.name = name
        self.context = context

    def reply(self, messages: Sequence[Message], manner: Manner) -> Generator[str, None, str]:
        *before, last = messages
        said = last["content"]
        match said:
            case "die":
                print("what a pity", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case "fall":
                raise ValueError("fell off the perch")
            case "silence":
                return ""
            case "count":
                for number in range(10_000):
                    yield f"{number} "
                    time.sleep(0.01)
            case "messages":
                yield "|".join(f"{message['role']}:{message['content']}" for message in before)
                return ""
            case "seed":
                yield str(manner.seed)
                return ""
            case "escape":
                yield "\x1b[2J\ttab\nline\x07"
                return ""
            case "pid":
                yield f"pid {os.getpid()}"
                return ""
        words = f"{self.name}: {said}".split(" ")
        most, cut = manner.room(len(before), self.context)
        for place, word in enumerate(words[:most]):
            yield word if place == 0 else f" {word}"
        return cut if len(words) > most else ""


class Birdsong(Speaker):
    """Birds."""

    kinds = (Bird,)

    def check(self, facts: Facts) -> Iterable[Finding]:
        if facts.config["name"] == "swan":
            yield Finding("the swan is mute", "Take a parrot.")

    def open(self, artifact: Artifact, threads: int, context: int | None) -> Voice:
        name = (artifact.path / "bird.txt").read_text()
        if name == "dodo":
            raise StepError("the dodo is extinct", "Take a parrot.")
        return Perch(name, context)


@hookimpl
def register_chat() -> list[type[Speaker]]:
    return [Birdsong]

"""A plugin without heavy needs: kiosks that serve birds, and can be asked to misbehave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

from tuneforge import Artifact, Facts, Finding, Server, StepError, Terms, hookimpl


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


class Ring(Bird):
    """What a bird wears; it is served on a bird."""

    kind = "ring"


class Kiosk(Server):
    """Birds. It tells whoever asks how it was asked to serve."""

    name = "kiosk"
    kinds = (Bird, Ring)
    bases: ClassVar[Mapping[type[Artifact], tuple[type[Artifact], ...]]] = {Ring: (Bird,)}
    tells = "GET"

    def check(self, facts: Facts, terms: Terms) -> Iterable[Finding]:
        if facts.config["name"] == "swan":
            yield Finding("the swan is too large", "Take a parrot.")

    def serve(self, artifact: Artifact, base: Artifact | None, terms: Terms) -> None:
        print("opening")
        name = (artifact.path / "bird.txt").read_text()
        match name:
            case "dodo":
                raise StepError("the dodo is extinct", "Take a parrot.")
            case "hawk":
                print("what a pity", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case "owl":  # takes its time
                time.sleep(3600)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        on = (base.path / "bird.txt").read_text() if base else None
        told = {**vars(terms), "bird": name, "on": on, "by": self.name, "pids": [os.getpid(), child.pid]}

        class Window(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(told).encode())
                if self.path == "/close":
                    os._exit(3)

        HTTPServer((terms.host, terms.port), Window).serve_forever()


class Palace(Kiosk):
    """Birds, in style; only where there is a palace."""

    name = "palace"

    def preference(self) -> int:
        return 1

    def check(self, facts: Facts, terms: Terms) -> Iterable[Finding]:
        if "PALACE" not in os.environ:
            yield Finding("there is no palace here", "Build one.")


@hookimpl
def register_server() -> list[type[Server]]:
    return [Kiosk, Palace]

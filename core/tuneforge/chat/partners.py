"""The command's side of speakers: who speaks for an artifact, and the process in which that is done."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import IO, Any

from tuneforge_registry import Registry

from ..asked import asked_for
from ..child import exited_with, how_it_died, send
from ..environments import lent
from ..errors import Finding, RefusedError, TuneforgeError
from ..plugins import Plugins
from ..speakers import Manner, Message, Speaker
from ..workers import artifact_request, start


@dataclass(frozen=True)
class Partner:
    """An artifact that can be talked to, called as the person calls it."""

    label: str
    digest: str
    kind: str
    speaker: type[Speaker]
    needs: tuple[str, ...]


class GoneError(TuneforgeError):
    """The process of a speaker has ended."""


def find_partners(refs: Sequence[str], registry: Registry, plugins: Plugins) -> list[Partner]:
    """Who is meant, one a reference. Raises RefusedError with all that is wrong."""
    found: list[Partner] = []
    findings: list[Finding] = []
    for ref in refs:
        try:
            digest, result = asked_for(ref, registry, plugins.kinds)
        except RefusedError as error:
            findings += error.findings
            continue
        speaker = plugins.speaker(result.kind)
        if speaker is None:
            findings.append(_mute(ref, result.kind.kind, digest, registry, plugins))
            continue
        problems = [Finding(each.problem, each.fix, place=ref) for each in speaker().check(result.facts)]
        findings += problems
        if problems:
            continue
        try:
            needs = speaker().requires(result.facts)
        except TuneforgeError as error:
            findings.append(replace(error.finding, place=ref))
            continue
        found.append(Partner(ref, digest, result.kind.kind, speaker, needs))
    if findings:
        raise RefusedError(findings)
    return found


def _mute(ref: str, kind: str, digest: str, registry: Registry, plugins: Plugins) -> Finding:
    """What to say of an artifact that cannot be talked to: what it was made of may be meant, as of a release."""
    inputs = registry.lineage(digest).inputs.values()
    parts = {
        source.digest: f"{source.step['name'] if source.step else source.kind} {source.digest[:8]}"
        for sources in inputs
        for source in sources
        if source.kind in plugins.kinds and plugins.speaker(plugins.kinds[source.kind]) is not None
    }
    if parts:
        fix = f"Talk to what it was made of: {', '.join(parts.values())}."
    else:
        kinds = ", ".join(plugins.speakers()) or "none, as no plugin offers it"
        fix = f"What can be talked to: {kinds}. See `tuneforge registry ls`."
    return Finding(f"nothing can talk to a {kind}", fix, place=ref)


class Talk:
    """One artifact's end of a conversation: the process that speaks for it, by its pipes."""

    def __init__(
        self, partner: Partner, server: subprocess.Popen[bytes], questions: int, events: IO[str], printed: IO[bytes]
    ) -> None:
        self.partner = partner
        self._server = server
        self._questions = questions
        self._events = events
        self._printed = printed
        self._number = 0
        self._sending = self._stopping = False

    def wait(self) -> None:
        """Waits until it is loaded. Raises TuneforgeError if it cannot be."""
        self._next()

    def ask(self, messages: Sequence[Message], manner: Manner, tell: Callable[[str], None]) -> str:
        """Has a conversation answered, whose pieces are told as they come; gives why the answer was cut off, if it was.

        Raises TuneforgeError for what could not be answered; the next question still may.
        """
        self._number += 1
        self._sending, self._stopping = True, False
        self._send({"number": self._number, "messages": list(messages), "manner": asdict(manner)})
        self._sending = False
        if self._stopping:
            self._send({"stop": self._number})
        while (event := self._next())["event"] == "piece":
            tell(event["text"])
        return str(event["cut"])

    def stop(self) -> bool:
        """Has the answer that is being written end here: for a signal's handler to call while `ask` waits.

        False if it was asked to before.
        """
        before, self._stopping = self._stopping, True
        if not before and not self._sending:  # a line in the middle of another would spoil both
            self._send({"stop": self._number})
        return not before

    def _send(self, line: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # then the next event tells how it ended
            send(self._questions, line)

    def _event(self) -> dict[str, Any]:
        for line in self._events:
            with contextlib.suppress(ValueError):  # the half of a line, which a killed process leaves
                event: dict[str, Any] = json.loads(line)
                return event
        return exited_with(self._server.wait())

    def _next(self) -> dict[str, Any]:
        event = self._event()
        if event["event"] == "failed":
            error = TuneforgeError(event["problem"], event["fix"], self.partner.label)
            error.add_note(event["traceback"])
            raise error
        if event["event"] == "exited":
            problem, _ = how_it_died(event["signal"], event["status"])
            said = _last_line(self._printed)
            fix = "It may not have had enough memory: talk to fewer models at once, or to smaller ones."
            raise GoneError(problem + (f": {said}" if said else ""), fix, self.partner.label)
        return event


@contextlib.contextmanager
def talks(
    partners: Sequence[Partner],
    registry: Registry,
    plugins: Plugins,
    *,
    threads: int,
    context: int | None,
    log: Callable[[str], None],
    debug: bool = False,
) -> Iterator[list[Talk]]:
    """The partners, each in a process of its own in the environment that its speaker needs; they may still be loading.

    What the processes print is kept to themselves, unless `debug`.
    """
    environments = [
        lent(partner.needs, (partner.speaker.__module__, partner.speaker.engine), registry.home, log)
        for partner in partners
    ]
    lifeline, life = os.pipe()
    with contextlib.ExitStack() as ends:
        ends.callback(os.close, lifeline)
        printed = ends.enter_context(tempfile.TemporaryFile())
        output = sys.stderr.fileno() if debug else printed.fileno()
        servers: list[subprocess.Popen[bytes]] = []
        ends.callback(lambda: [server.wait() for server in servers])
        ends.callback(os.close, life)  # ends them
        opened: dict[int, Talk] = {}
        for environment in dict.fromkeys(environments):
            reading, writing = os.pipe()
            theirs, ours, requests = [reading, lifeline], {}, []
            for place, partner in enumerate(partners):
                if environments[place] != environment:
                    continue
                questions, to_speaker = os.pipe()
                from_speaker, events = os.pipe()
                ends.callback(os.close, to_speaker)
                ours[place] = to_speaker, ends.enter_context(os.fdopen(from_speaker, encoding="utf-8"))
                theirs += [questions, events]
                requests.append(
                    {
                        "module": partner.speaker.__module__,
                        "class": partner.speaker.__qualname__,
                        "artifact": artifact_request(registry, plugins.kinds, partner.digest),
                        "threads": threads,
                        "context": context,
                        "questions": questions,
                        "events": events,
                    }
                )
            server = start(environment, "tuneforge.chat.speaking", theirs, threads, stdout=output, stderr=output)
            servers.append(server)
            for place, pipes in ours.items():
                opened[place] = Talk(partners[place], server, *pipes, printed)
            for descriptor in theirs:
                if descriptor != lifeline:
                    os.close(descriptor)
            with os.fdopen(writing, "w", encoding="utf-8") as lines, contextlib.suppress(BrokenPipeError):
                lines.writelines(json.dumps(request) + "\n" for request in requests)
        yield [opened[place] for place in range(len(partners))]


def _last_line(printed: IO[bytes]) -> str:
    size = os.fstat(printed.fileno()).st_size
    text = os.pread(printed.fileno(), 1 << 16, max(0, size - (1 << 16))).decode(errors="replace").strip()
    return text.splitlines()[-1] if text else ""

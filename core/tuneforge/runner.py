"""Carries out a plan: each step in a worker, its result committed whole, everything written down."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import dropwhile, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneforge_registry import RegistryError

from . import __version__
from .artifacts import Artifact
from .environments import Environment, lend, make
from .errors import Finding, TuneforgeError
from .events import Ended, Logged, Observer, Progressed, Started
from .hints import options, variants
from .inputs import inputs_of
from .launch.nodes import LAUNCHED, lead, rendezvous_of
from .plan import Plan, PlannedStep, described, receipt_holds
from .provenance import checkout, machine, packages
from .redaction import redacted, redacted_text, secret_in, secrets_of
from .report.points import Recorder
from .tracking.telling import Lifecycle
from .workers import Outcome, Server, artifact_request

if TYPE_CHECKING:
    from .report.gather import RunReport

_SMALL = 1 << 20  # bytes; larger files of an artifact are weights and rows, not texts that could name a folder


class Run:
    """One carrying-out of a plan. Its record is written after every step, so that it is there whatever happens."""

    def __init__(self, plan: Plan, observer: Observer, threads: int) -> None:
        self.plan = plan
        self.registry = plan.registry
        self.observer = observer
        self.threads = threads
        self.id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        self.page: Path | None = None
        """The report, once the run is over; None if it could not be written, and `page_problem` says why."""
        self.page_problem = ""
        self.told: RunReport | None = None
        """What the report shows."""
        self._began = time.monotonic()
        self.record: dict[str, Any] = {
            "id": self.id,
            "recipe": plan.recipe.name,
            "file": plan.recipe.document.text,
            "data": plan.recipe.document.data,
            "settings": list(plan.recipe.document.settings),
            "path": str(plan.recipe.document.path.absolute()),
            "folder": str(Path.cwd()),
            "status": "running",
            "started": _now(),
            "tuneforge": __version__,
            "machine": machine(),
            "git": checkout(plan.recipe.document.path.absolute().parent),
            "environments": {},
            "threads": threads,
            "planned": [
                {"name": step.name, "stage": step.method.stage, "method": step.method.name, "wires": step.spec.inputs}
                | step.spec.marks()
                for step in plan.steps.values()
            ],
            "steps": [],
        }
        self._secrets = [*secrets_of(plan.recipe.document.data)]
        self._written = False
        self._servers: dict[str, Server] = {}
        self._done: dict[str, float] = {}
        self._warnings: dict[str, list[dict[str, Any]]] = {}
        self._rendezvous = rendezvous_of(plan)
        self._lifeline, self._life = os.pipe()
        self._lifecycle = Lifecycle(plan, self.id, observer)

    def carry_out(self) -> dict[str, Any]:
        """Carries out the plan and returns the record; `status` is done, failed or interrupted."""
        status = "done"
        held = self.registry.run_lock(self.id)  # what was found in the registry stays there while we run
        held.acquire()
        try:
            self._lifecycle.run_started()
            self.registry.tidy()
            if self._rendezvous is not None:  # other nodes look for a run that is written down
                self._write()
                lead(self.registry, self._rendezvous, self.id)
            for step in self.plan.steps.values():
                if status != "done" or step.status == "skipped":
                    self._end(step, "skipped")
                elif not self._take_step(step):
                    status = "failed"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except BaseException:
            status = "failed"
            raise
        finally:
            for server in self._servers.values():
                server.stop()
            os.close(self._life)
            os.close(self._lifeline)
            self.record |= {"status": status, "ended": _now()}
            self._keep_warnings_of_the_interrupted()
            self._write()
            held.release()
            Path(held.lock_file).unlink(missing_ok=True)  # its name was this run's alone
            self._lifecycle.run_finished(status)
            if self.plan.recipe.trackers:
                self._write()
            self._write_page()
        return self.record

    def _keep_warnings_of_the_interrupted(self) -> None:
        """A step that was interrupted has no entry of its own; what it warned of stands where it was planned."""
        ended = {entry["name"] for entry in self.record["steps"]}
        for entry in self.record["planned"]:
            if entry["name"] in self._warnings and entry["name"] not in ended:
                entry["warnings"] = self._warnings[entry["name"]]

    def _write_page(self) -> None:
        """Writes the report. If that goes wrong it is told, and the run is what it is."""
        try:
            from .report.gather import gather
            from .report.page import PAGE, write_page

            page = self.registry.run_folder(self.id) / PAGE
            self.told = gather(self.registry, self.id)
            write_page(self.told, page)
            self.page = page
        except Exception as error:  # whatever showing the values of others may raise
            self.page_problem = f"the report could not be written: {type(error).__name__}: {error}"

    def _take_step(self, step: PlannedStep) -> bool:
        started = time.monotonic()
        try:
            if step.status == "cached" and step.result and step.result.digest:
                self._name(step, step.result.digest)
                self._end(step, "cached")
                return True
            self.observer(Started(step.name))
            if not self._written:  # a run that is killed in its first step is known too
                self._write()
            step.key = self.plan.key(step)
            if step.key is None:
                raise TuneforgeError(f"an input of {step.name} is not there")
            with contextlib.ExitStack() as held:
                held.enter_context(self._holding(step))
                digest = self._already(step)
                status = "cached" if digest else "done"
                outcome = Outcome()
                if digest is None:
                    digest, outcome = self._work(step)
                self.plan.adopt(step, digest)
            self._name(step, digest)
        except (TuneforgeError, RegistryError, OSError) as error:
            trace = "".join(getattr(error, "__notes__", ()))
            self._end(step, "failed", time.monotonic() - started, error=_told(step, error), trace=trace)
            return False
        self._end(step, status, time.monotonic() - started, outcome)
        return True

    def _name(self, step: PlannedStep, digest: str) -> None:
        """Registers the result under the step's `as`, also when it was there already: the name may be new."""
        if step.spec.label:
            version = self.registry.tag(step.spec.label, digest)
            self.observer(Logged(step.name, f"registered as {step.spec.label}@v{version}"))

    @contextlib.contextmanager
    def _holding(self, step: PlannedStep) -> Iterator[None]:
        """One process holds a key; whoever else wants it waits, and then finds the result."""
        lock = self.registry.lock(f"step-{step.key}")
        try:
            lock.acquire(timeout=0)
        except TimeoutError:
            self.observer(Logged(step.name, "another process is at this very step: waiting for it"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _already(self, step: PlannedStep) -> str | None:
        if step.name in self.plan.again or step.key is None:
            return None
        digest = self.registry.result_of(step.key)
        return digest if digest and receipt_holds(self.registry, step.method, digest) else None

    def _work(self, step: PlannedStep) -> tuple[str, Outcome]:
        self._lifecycle.step_started(step)
        environment = self._environment(step)
        key = step.key or ""
        # Checkpoints of so many processes, and of such a strategy, are of no use to others.
        spread = f"-{step.launch.world_size}-{step.launch.strategy.name}" if step.launch else ""
        scratch = self.registry.scratch(f"{key}-{environment.name}{spread}")
        log = self.registry.run_folder(self.id) / f"{step.name}.log"
        with (
            self.registry.workspace() as workspace,
            tempfile.TemporaryDirectory(prefix="tuneforge-", ignore_cleanup_errors=True) as local,
        ):
            out = workspace / "out"
            out.mkdir()
            recorder = Recorder(log.parent, step.name, key, lambda text: self.observer(Logged(step.name, text)))
            try:
                outcome = self._server(environment).carry_out(
                    self._request(step, out, scratch, log, local),
                    lambda event: self._tell(step, event, log, recorder),
                )
            finally:
                recorder.close()
                self._write_curves(step, key)
            if outcome.problem:
                failure = TuneforgeError(outcome.problem, outcome.fix or f"Its log: {log}", place=f"step {step.name}")
                failure.add_note(outcome.traceback)
                raise failure
            if not self.plan.unchanged(step):
                raise TuneforgeError("a file that it reads was changed while it ran", "Run it again.")
            digest = self._commit(step, out, outcome, workspace)
            self.registry.remember(key, digest)
            with contextlib.suppress(FileNotFoundError):  # the method may have removed it
                scratch.rename(workspace / "scratch")  # in one stroke: what is killed from here on leaves none behind
        self._tell_unread(step, outcome)
        return digest, outcome

    def _write_curves(self, step: PlannedStep, key: str) -> None:
        """The curves of a step as a picture and as data. If that goes wrong it is told, and the step is what it is."""
        try:
            from .report.curves import write_curves

            written = write_curves(self.registry, self.id, step.name, key)
        except Exception as error:  # as with the page
            written = f"warning: its curves could not be written: {type(error).__name__}: {error}"
        if written:
            self.observer(Logged(step.name, written))

    def _commit(self, step: PlannedStep, out: Path, outcome: Outcome, workspace: Path) -> str:
        assert step.result is not None
        kind = step.result.kind
        flaw = _flaw(kind, out, (workspace, self.registry.home / "trees", self.registry.home / "scratch"))
        if flaw:
            fix = f"The method {step.method.name} is at fault, not the recipe."
            raise TuneforgeError(flaw, fix, f"step {step.name}")
        return self.registry.put(out, kind.kind, outcome.base)

    def _environment(self, step: PlannedStep) -> Environment:
        environment = step.environment
        assert environment is not None
        if not environment.own:
            return environment
        environment = make(environment, self.registry.home, lambda text: self.observer(Logged(step.name, text)))
        step.environment = environment
        modules = [] if self._file(step) else [type(step.method).__module__]
        packages = {name.partition(".")[0] for name in (*modules, step.method.engine) if name}
        lend(environment, sorted({"tuneforge", *packages}))
        return environment

    def _server(self, environment: Environment) -> Server:
        if environment.name not in self._servers:
            self.record["environments"][environment.name] = packages(environment)
            self._servers[environment.name] = Server(environment, self.threads, self._lifeline)
        return self._servers[environment.name]

    def _file(self, step: PlannedStep) -> Path | None:
        return self.plan.recipe.plugins.origin(step.spec.kind).file

    def _request(self, step: PlannedStep, out: Path, scratch: Path, log: Path, local: str) -> dict[str, Any]:
        return {
            "name": step.name,
            **self._class(step),
            "next": self._next(step),
            "config": step.method.model_dump(mode="json"),
            "inputs": {
                name: [self._artifact(self._digest(wire)) for wire in step.spec.inputs.get(name, [])]
                for name in inputs_of(step.spec.kind)
            },
            "out": str(out),
            "scratch": str(scratch),
            "log": str(log),
            "local": local,
            "seed": self.plan.recipe.seed,
            "threads": self.threads,
            "lineage": self.plan.lineage(step) if step.method.traced else {},
            "launch": self._launch(step) if step.launch else None,
        }

    def _class(self, step: PlannedStep) -> dict[str, str | None]:
        """What a worker imports for a step."""
        kind, file = type(step.method), self._file(step)
        return {"file": str(file) if file else None, "module": kind.__module__, "class": kind.__qualname__}

    def _next(self, step: PlannedStep) -> dict[str, str | None] | None:
        """The same of the next step that is to run, if it will run in the same environment."""
        after = dropwhile(lambda one: one is not step, self.plan.steps.values())
        coming = next((one for one in islice(after, 1, None) if one.status == "run"), None)
        here, there = step.environment, coming.environment if coming else None
        assert here is not None
        alike = there is not None and (there.own, there.folder) == (here.own, here.folder)
        return self._class(coming) if coming and alike else None

    def _launch(self, step: PlannedStep) -> dict[str, Any]:
        """How the step is spread, and what another machine must know to take its part."""
        assert step.launch is not None and step.environment is not None
        own = step.environment.own
        return {
            **step.launch.to_json(),
            "folder": str(self.registry.run_folder(self.id) / LAUNCHED),
            "python": str(step.environment.python) if own else None,
            "python_path": step.environment.python_path,
        }

    def _digest(self, wire: str) -> str:
        result = self.plan.result(wire)
        if result is None or result.digest is None:
            raise TuneforgeError(f"{wire} is not there")
        return result.digest

    def _artifact(self, digest: str) -> dict[str, Any]:
        return artifact_request(self.registry, self.plan.recipe.plugins.kinds, digest)

    def _tell(self, step: PlannedStep, event: Mapping[str, Any], log: Path, recorder: Recorder) -> None:
        if event["event"] == "progress":
            self._done[step.name] = event["done"]
            recorder(event["done"], event["total"], event["figures"])
            self._lifecycle.step_metrics(step, event["done"], event["total"], event["figures"])
            self.observer(Progressed(step.name, event["done"], event["total"], event["figures"]))
            return
        if event["event"] == "sample":
            recorder.sample(event["done"], event["prompt"], event["answer"])
            return
        if event["event"] == "warning":
            done = self._done.get(step.name, 0) if event["done"] is None else event["done"]
            told = redacted({"problem": event["problem"], "fix": event["fix"], "done": done}, self._secrets)
            self._warnings.setdefault(step.name, []).append(told)
            text = str(Finding(event["problem"], event["fix"], "warning"))
        else:
            text = event["text"]
        text = redacted_text(text, self._secrets)
        with log.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        self.observer(Logged(step.name, text))

    def _tell_unread(self, step: PlannedStep, outcome: Outcome) -> None:
        """An option that was set but never read had no effect: whoever set it should know."""
        read = {name for _, name in outcome.reads}
        known = {path for path, _ in options(step.spec.kind)}
        # The word that chooses a block is read when it is chosen, before the step.
        chosen = {(*path, "type") for path, info in options(step.spec.kind) if variants(info)}
        for path in step.spec.given:
            while path and path not in known:  # inside of a dictionary
                path = path[:-1]
            if path and path not in chosen and path[-1] not in read:
                name = ".".join(path)
                self.observer(Logged(step.name, f"warning: {name} was set, but nothing read it in this step"))

    def _end(
        self,
        step: PlannedStep,
        status: str,
        seconds: float = 0.0,
        outcome: Outcome | None = None,
        error: str = "",
        trace: str = "",
    ) -> None:
        digest = step.result.digest if step.result and status in ("cached", "done") else None
        kind = step.result.kind.kind if step.result and digest else None
        metrics = outcome.metrics if outcome and status == "done" else self.plan.known_metrics(step)
        entry: dict[str, Any] = {
            "name": step.name,
            "stage": step.method.stage,
            "method": step.method.name,
            "status": status,
            "began": round(time.monotonic() - self._began - seconds, 3),
            "seconds": round(seconds, 3),
            "digest": digest,
            "kind": kind,
            "metrics": metrics,
            "wires": step.spec.inputs,
            **step.spec.marks(),
        }
        if step.key and status != "skipped":
            entry |= {
                "key": step.key,
                **described(step, self.plan),
                **({"code": code} if (code := self.plan.code(step)) else {}),
                "inputs": {n: [self._digest(w) for w in wires] for n, wires in step.spec.inputs.items()},
            }
        if outcome and status == "done":
            environment = step.environment.name if step.environment else "this"
            entry |= {
                "environment": environment,
                "import_seconds": round(outcome.import_seconds, 3),
                "work_seconds": round(outcome.work_seconds, 3),
                "peak_memory": outcome.peak_memory,
                "reads": outcome.reads,
            }
        if step.launch and status in ("done", "failed"):
            entry["launch"] = step.launch.to_json()
        if step.name in self._warnings:
            entry["warnings"] = self._warnings[step.name]
        if error:
            entry |= {"error": error, "traceback": trace}
        entry, error = (
            redacted(entry, self._secrets),
            redacted_text(error, self._secrets),
        )  # trackers are told of it too
        self.record["steps"].append(entry)
        if status in ("done", "failed"):  # the rest is written at the end: nothing was done that could be lost
            self._write()
        self._lifecycle.step_finished(step, entry)
        self.observer(Ended(step.name, status, seconds, digest, kind, metrics, error))

    def _write(self) -> None:
        self._written = True
        if self.plan.recipe.trackers:
            self.record["trackers"] = self._lifecycle.record()
        self.registry.write_run(self.id, redacted(self.record, self._secrets))


def as_document(record: Mapping[str, Any], page: Path | None) -> dict[str, Any]:
    """What `run --json` prints; `page` is where the report lies."""
    shown = (
        *("name", "of", "each", "stage", "method", "status", "seconds", "digest", "kind", "metrics", "warnings"),
        "error",
    )
    steps = [{key: step[key] for key in shown if key in step} for step in record["steps"]]
    return {
        "run": record["id"],
        "recipe": record["recipe"],
        "status": record["status"],
        "report": str(page) if page else None,
        **({"trackers": record["trackers"]} if "trackers" in record else {}),
        "steps": steps,
    }


def warnings_of(record: Mapping[str, Any]) -> list[Finding]:
    """What the steps of a run have warned of while they worked."""
    return [
        Finding(told["problem"], told["fix"], "warning", place=f"step {step['name']}")
        for step in record["steps"]
        for told in step.get("warnings", ())
    ]


def _flaw(kind: type[Artifact], out: Path, private: Sequence[Path]) -> str:
    """Why a result cannot be taken: it is not what it should be, or it names folders of this machine."""
    lacking = list(kind.missing(out))
    if lacking:
        return f"it ended without {', '.join(lacking)}, which every {kind.kind} has"
    files = [file for file in sorted(out.rglob("*")) if file.is_file()]
    if not files:
        return "it ended and has written nothing"
    for file in files:
        content = file.read_bytes() if file.stat().st_size < _SMALL else b""
        if any(str(name).encode() in content for folder in private for name in (folder, folder.resolve())):
            return f"{file.relative_to(out)} of its result names a folder that it was made in or of"
        if secret := secret_in(content):
            return f"{file.relative_to(out)} of its result holds the value of ${secret}, which is a secret"
    try:
        kind.facts(out)
        kind.summary(out)
    except Exception as error:  # whatever reading a broken file may raise
        return f"its result cannot be read as a {kind.kind}: {type(error).__name__}: {error}"
    return ""


def _told(step: PlannedStep, error: Exception) -> str:
    place = f"step {step.name}"
    if isinstance(error, TuneforgeError):
        return str(replace(error.finding, place=error.finding.place or place))
    if isinstance(error, RegistryError):
        return str(Finding(error.problem, error.fix, place=place))
    return str(Finding(f"{type(error).__name__}: {error}", place=place))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

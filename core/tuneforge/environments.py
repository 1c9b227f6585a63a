"""Does this interpreter satisfy a method? If not: the environment of its own that does, made once and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .disk import persist
from .errors import StepError

_COMPILED = re.compile(r"DEBUG \[(\d+)/(\d+)\] ")  # as ninja counts
_PATIENCE = 3600
"""Seconds to wait for another uv that is compiling the same package: what waits would otherwise be told to fail."""

_TELLING = 10.0
"""Seconds between two words on a compilation."""

WORKER_IMPORTS = frozenset({"packaging", "pluggy", "pydantic"})


@dataclass(frozen=True)
class Environment:
    """An interpreter with the packages a method needs: this one (`folder` is None), or one under <home>/envs."""

    needs: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()
    lock: Path | None = None
    folder: Path | None = None
    build: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    """`name==version` that it must keep to, of whatever its needs bring."""

    @property
    def own(self) -> bool:
        return bool(self.unmet)

    @property
    def ready(self) -> bool:
        return not self.own or (self.folder is not None and _whole(self.folder).exists())

    @property
    def name(self) -> str:
        """What the environment is called in records, and what scratch is kept apart by."""
        return self.folder.name if self.folder else "this"

    @property
    def python(self) -> Path:
        if not self.own:
            return Path(sys.executable)
        if self.folder is None:
            raise RuntimeError("the environment is not made yet")
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def python_path(self) -> str | None:
        """The folder of links through which tuneforge and plugins are lent."""
        return str(self.folder / "lent") if self.folder else None


@cache
def unmet(needs: tuple[str, ...]) -> tuple[str, ...]:
    """Those requirements that this interpreter does not satisfy, each with what is there instead."""
    missing = []
    for need in needs:
        requirement = Requirement(need)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        installed = _installed(requirement.name)
        if installed is None:
            missing.append(f"{need} (not installed)")
        elif not requirement.specifier.contains(installed, prereleases=True):
            missing.append(f"{need} (here is {installed})")
    return tuple(missing)


def environment_for(needs: Sequence[str], home: Path, build: Sequence[str] = ()) -> Environment:
    """The environment that satisfies the needs; an own one may still have to be made, see `ready` and `make`.

    `build` says how packages without a wheel are built (`Method.build`); what is not among the needs does not count.
    """
    given = tuple(sorted(needs))
    lacking = unmet(given)
    if not lacking:
        return Environment(given)
    named = {Requirement(need).name for need in given}
    built = tuple(sorted(setting for setting in build if setting.partition(":")[0] in named))
    lock = home / "envs" / "locks" / f"{_digest(*_asked(given), _interpreter())}.txt"
    folder = _folder(lock, home, built) if lock.exists() else None
    return Environment(given, lacking, lock, folder, built)


def pinned(environment: Environment, versions: Mapping[str, str], home: Path) -> Environment:
    """The environment that satisfies the same needs with these versions of packages, as an earlier run had them."""
    pins = tuple(f"{name}=={version}" for name, version in sorted(versions.items()))
    lock = home / "envs" / "locks" / f"{_digest(*_asked(environment.needs), *pins, _interpreter())}.txt"
    folder = _folder(lock, home, environment.build) if lock.exists() else None
    return replace(environment, unmet=("versions as they were",), lock=lock, folder=folder, pins=pins)


def make(environment: Environment, home: Path, log: Callable[[str], None]) -> Environment:
    """Resolves the needs to a lock and installs it, unless that was done before. Raises StepError."""
    from filelock import FileLock  # as long an import as all the others here

    lock = environment.lock
    if lock is None:
        return environment
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock.with_suffix(".lock")):
        if not lock.exists():
            log(f"resolving {', '.join(environment.needs)}")
            _resolve(environment.needs, lock, log, environment.pins)
        folder = _folder(lock, home, environment.build)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not _whole(folder).exists():
            count = sum(1 for line in lock.read_text().splitlines() if "==" in line)
            log(f"installing {count} packages into an environment of their own ({folder.name})")
            with _busy(folder) as held:
                shutil.rmtree(folder, ignore_errors=True)  # half-made: its maker died
                _uv(["venv", "--quiet", "--python", sys.executable, str(folder)], log, held)
                python = Environment((), ("",), lock, folder).python
                install = ["pip", "install", "--python", str(python), "--no-deps", "-r", str(lock)]
                if environment.build:
                    settings = [part for each in environment.build for part in ("--config-settings-package", each)]
                    _uv([*install, *settings, "--verbose"], _compiling(log), held)
                else:
                    _uv(install, log, held)
            (folder / "lent").mkdir()
            os.sync()  # thousands of files, which one by one would take much longer
            _whole(folder).touch()
    return replace(environment, folder=folder)


def lend(environment: Environment, packages: Sequence[str]) -> None:
    """Links import packages of this interpreter into an environment, so that both run the same bytes.

    Works alike for wheels, editable installs and checkouts; a method's own needs are the only thing installed there.
    """
    if environment.folder is None:
        return
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not (spec.submodule_search_locations or spec.origin):
            raise StepError(f"the import package {package} cannot be lent to an environment: it is not on disk")
        found = Path(next(iter(spec.submodule_search_locations or [spec.origin or ""])))
        link = environment.folder / "lent" / found.name
        if link.is_symlink() and link.readlink() == found:
            continue
        beside = link.with_name(f".{link.name}.{os.getpid()}")
        beside.symlink_to(found)
        beside.replace(link)


def lent(needs: Sequence[str], modules: Sequence[str], home: Path, log: Callable[[str], None]) -> Environment:
    """The environment that satisfies the needs, made if need be; tuneforge and the modules' packages are lent to it."""
    environment = make(environment_for(needs, home), home, log)
    lend(environment, sorted({"tuneforge", *(name.partition(".")[0] for name in modules if name)}))
    return environment


def core_needs() -> Iterator[str]:
    """What a worker imports beside a method's own needs, as the core declares it."""
    for line in requires("tuneforge") or ():
        if Requirement(line).name in WORKER_IMPORTS:
            yield line


def closure(needs: Sequence[str]) -> set[str]:
    """The names, as they are installed here, of all that the needs of a method bring, and of what a worker imports."""
    found: dict[str, set[str]] = {}
    names: set[str] = set()
    todo = [Requirement(need) for need in _asked(tuple(needs))]
    while todo:
        wanted = todo.pop()
        extras, known = {"", *wanted.extras}, found.setdefault(canonicalize_name(wanted.name), set())
        if extras <= known:
            continue
        known |= extras
        try:
            installed = distribution(wanted.name)
        except PackageNotFoundError:
            continue
        names.add(installed.name)
        for requirement in map(Requirement, installed.requires or ()):
            if not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(requirement)
    return names


def _asked(needs: tuple[str, ...]) -> list[str]:
    return sorted({*needs, *core_needs()})


def _interpreter() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()} {sysconfig.get_platform()}"
    return f"{python} torch {_installed('torch')}"


@cache
def _installed(name: str) -> str | None:
    try:
        return version_of(distribution(name))
    except PackageNotFoundError:
        return None


def version_of(installed: Distribution) -> str:
    """Its version, without having all of its METADATA parsed: with a long README in it that takes milliseconds."""
    line = re.search(r"^Version:(.*)", installed.read_text("METADATA") or "", re.MULTILINE)
    return line[1].strip() if line else installed.version


def _resolve(needs: tuple[str, ...], lock: Path, log: Callable[[str], None], pins: Sequence[str] = ()) -> None:
    asked = lock.with_suffix(f".in.{os.getpid()}")
    constraint = lock.with_suffix(f".constraint.{os.getpid()}")
    beside = lock.with_suffix(f".new.{os.getpid()}")
    asked.write_text("\n".join(_asked(needs)) + "\n")
    arguments = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", sys.executable]
    arguments += [str(asked), "-o", str(beside)]
    # This interpreter's torch build fits the machine's accelerator: try to keep it before taking another one.
    torch = _installed("torch")
    try:
        if pins:
            constraint.write_text("\n".join(pins) + "\n")
            _uv([*arguments, "-c", str(constraint)], log)
        elif torch is not None:
            constraint.write_text(f"torch=={torch.partition('+')[0]}\n")
            try:
                _uv([*arguments, "-c", str(constraint)], log)
            except _UnsolvableError:
                log(f"torch {torch} does not fit them: resolving without it")
                _uv(arguments, log)
        else:
            _uv(arguments, log)
        persist(beside)
        beside.replace(lock)
    finally:
        for path in (asked, constraint, beside):
            path.unlink(missing_ok=True)


@contextmanager
def _busy(folder: Path) -> Iterator[int]:
    """Waits for an installer that is still at work there though its starter has died, as ours would be.

    Gives a descriptor that installers inherit: as long as one of them lives, the file stays locked.
    """
    import fcntl

    with folder.with_name(f"{folder.name}.busy").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


class _UnsolvableError(StepError):
    """No versions satisfy all that is asked for together; all else that goes wrong may go right the next time."""


def _uv(arguments: list[str], log: Callable[[str], None], *held: int) -> None:
    from uv import find_uv_bin

    process = subprocess.Popen(
        [find_uv_bin(), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_uv_settings(),
        pass_fds=held,
    )
    lines = []
    for line in process.stdout or ():
        lines.append(line.rstrip())
        log(line.rstrip())
    if code := process.wait():
        said = [line for line in lines if not line.startswith(("DEBUG", "TRACE"))]
        said += [f"uv was ended by signal {-code}"] if code < 0 else []
        unsolvable = any("No solution found" in line for line in said)
        raise (_UnsolvableError if unsolvable else StepError)(
            "the environment could not be made: " + " ".join(said[-4:]),
            f"See whether `uv {' '.join(arguments[:2])}` can reach the package index, and whether the needs agree.",
        )


def _compiling(log: Callable[[str], None]) -> Callable[[str], None]:
    """Of all that uv tells when it is asked to: what it always tells, and how far a compilation is, now and then."""
    told = 0.0

    def hear(line: str) -> None:
        nonlocal told
        at = _COMPILED.match(line)
        if at is None:
            if not line.startswith(("DEBUG", "TRACE")):
                log(line)
        elif time.monotonic() - told >= _TELLING or at[1] == at[2]:
            told = time.monotonic()
            log(f"compiling: {at[1]} of {at[2]}")

    return hear


def _uv_settings() -> dict[str, str]:
    settings = dict(os.environ)
    if "UV_FIND_LINKS" not in settings and "PIP_FIND_LINKS" in settings:
        settings["UV_FIND_LINKS"] = ",".join(settings["PIP_FIND_LINKS"].split())
    settings.setdefault("UV_LOCK_TIMEOUT", str(_PATIENCE))
    return settings


def _folder(lock: Path, home: Path, build: tuple[str, ...] = ()) -> Path:
    # Where it really lies: an environment knows its own path, and outlives a home that only borrows it.
    return (home / "envs").resolve() / _digest(lock.read_text(), _interpreter(), *build)


def _whole(folder: Path) -> Path:
    return folder / ".whole"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

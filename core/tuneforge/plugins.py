"""Finding plugins, and looking a method up by its name."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from functools import partial
from importlib.machinery import FileFinder, SourceFileLoader
from importlib.metadata import entry_points
from inspect import signature
from pathlib import Path
from types import CodeType, ModuleType
from typing import cast

import pluggy
from packaging.requirements import InvalidRequirement, Requirement

from . import artifacts, hookspecs
from .artifacts import Artifact
from .environments import version_of
from .errors import Finding, PluginError
from .extensions import Extension
from .inputs import inputs_of
from .offered import NAME, Offered, Origin, broken_options
from .servers import Server
from .speakers import Speaker
from .stages import STAGES, Method
from .trackers import Tracker

GROUP = "tuneforge"


class Plugins:
    """The methods at hand: those of installed plugins, and those of the local ones that a recipe names."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self._methods: dict[tuple[str, str], type[Method]] = {}
        self._origins: dict[type[Method], Origin] = {}
        self._speakers: dict[str, tuple[type[Speaker], Origin]] = {}
        self.servers = Offered(Server, "server", "serve", "")
        self.trackers = Offered(Tracker, "tracker", "open", "tensorboard: {folder: logs}")
        self.extensions = Offered(Extension, "extension", "extend", "parity: false")
        self.kinds: dict[str, type[Artifact]] = {
            kind.kind: kind
            for kind in vars(artifacts).values()
            if isinstance(kind, type) and issubclass(kind, Artifact) and "kind" in vars(kind)
        }
        """Every kind of artifact that the methods at hand take or give, by name."""
        for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
            version = version_of(entry.dist) if entry.dist else ""
            try:
                module = entry.load()
            except Exception as error:
                distribution = entry.dist.name if entry.dist else "an unknown package"
                raise PluginError(
                    f"plugin {entry.name} of {distribution} cannot be imported: {type(error).__name__}: {error}",
                    f"Mend or uninstall it: `pip uninstall {distribution}`.",
                ) from error
            self._add(module, Origin(entry.name, version))

    def load_local(self, reference: str, folder: Path, place: str = "") -> None:
        """Adds a plugin that a recipe names: a file or package folder relative to `folder`, or an importable module."""
        path = (folder / reference).absolute()
        file: Path | None
        try:
            if path.exists():
                module, source, file = import_file(path), path, path
            else:
                file = None
                module = importlib.import_module(reference)
                if getattr(module, "__file__", None) is None:  # built in, or a folder without __init__.py
                    raise ImportError(f"{reference} is no Python file")
                source = Path(str(module.__file__))
                if "." in reference:  # a part of a package may use all of it
                    source = Path(next(iter(importlib.import_module(reference.partition(".")[0]).__path__)))
                elif source.name == "__init__.py":
                    source = source.parent
        except ModuleNotFoundError as error:
            if error.name and (reference == error.name or reference.startswith(f"{error.name}.")):
                raise PluginError(
                    f"plugin {reference!r} is neither a file beside the recipe nor an installed module",
                    f"Looked for {path}; or install the package that provides it.",
                    place,
                ) from error
            raise PluginError(f"plugin {reference!r} cannot be imported: {error}", place=place) from error
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"plugin {reference!r} cannot be imported: {type(error).__name__}: {error}", place=place
            ) from error
        if not self.manager.is_registered(module):
            self._add(module, Origin(reference, source=source, file=file), place)

    def _add(self, module: ModuleType, origin: Origin, place: str = "") -> None:
        offered: dict[str, list[type[Method]]] = {}
        at = "its hooks"
        try:
            self.manager.register(module, name=origin.plugin)
            self.manager.check_pending()
            for stage in STAGES:
                at = f"register_{stage}"
                offered[stage] = list(getattr(module, at, list)())
            at = "register_chat"
            speakers = list(getattr(module, at, list)())
            at = "register_server"
            servers = list(getattr(module, at, list)())
            at = "register_tracker"
            trackers = list(getattr(module, at, list)())
            at = "register_extension"
            extensions = list(getattr(module, at, list)())
        except Exception as error:  # whatever a plugin's own code may raise
            raise PluginError(f"plugin {origin}: {at}: {told(error)}", place=place) from error
        for stage, methods in offered.items():
            for method in methods:
                problem = _broken(method, STAGES[stage])
                taken = None if problem else self._methods.get((stage, method.name))
                if taken is not None:
                    problem = f"{stage}: {method.name} is already offered by {self._origins[taken]}"
                if problem:
                    raise PluginError(f"plugin {origin}: {problem}", place=place)
                for kind in (method.output, *(kind for wanted in inputs_of(method).values() for kind in wanted.kinds)):
                    self.take_kind(kind, place)
                self._methods[stage, method.name] = method
                self._origins[method] = origin
        for speaker in speakers:
            self._add_speaker(speaker, origin, place)
        self.servers.add(servers, origin, place)
        for server in servers:
            if not server.kinds:
                problem = f"{server.__name__} does not say what it serves: set `kinds` to kinds of artifact"
                raise PluginError(f"plugin {origin}: {problem}", place=place)
            for kind in (*server.kinds, *(base for bases in server.bases.values() for base in bases)):
                self.take_kind(kind, place)
        self.trackers.add(trackers, origin, place)
        self.extensions.add(extensions, origin, place)

    def _add_speaker(self, speaker: type[Speaker], origin: Origin, place: str) -> None:
        problem = _broken_speaker(speaker)
        if problem:
            raise PluginError(f"plugin {origin}: {problem}", place=place)
        for kind in speaker.kinds:
            self.take_kind(kind, place)
            taken = self._speakers.setdefault(kind.kind, (speaker, origin))
            if taken[0] is not speaker:
                problem = f"a speaker for the kind of artifact {kind.kind} is already offered by {taken[1]}"
                raise PluginError(f"plugin {origin}: {problem}", "Leave one of the plugins out.", place)

    def take_kind(self, kind: type[Artifact], place: str = "") -> None:
        """Takes up a kind of artifact that a method takes or gives; two of one name are an error."""
        for above in kind.__mro__:
            if issubclass(above, Artifact) and "kind" in vars(above):
                other = self.kinds.setdefault(above.kind, above)
                if other is not above:
                    problem = f"{above.__module__} and {other.__module__} both define the kind of artifact {above.kind}"
                    raise PluginError(problem, "Leave one of the plugins out, or rename the kind in one.", place)

    def __iter__(self) -> Iterator[type[Method]]:
        order = list(STAGES)
        return iter(sorted(self._methods.values(), key=lambda method: (order.index(method.stage), method.name)))

    def origin(self, method: type[Method]) -> Origin:
        return self._origins[method]

    def speakers(self) -> dict[str, type[Speaker]]:
        """Who speaks for each kind of artifact, by its name."""
        return {kind: speaker for kind, (speaker, _) in sorted(self._speakers.items())}

    def speaker(self, kind: type[Artifact]) -> type[Speaker] | None:
        """Who speaks for a kind: its own speaker, or that of the nearest kind above it."""
        above = (vars(cls).get("kind") for cls in kind.__mro__)
        return next((self._speakers[name][0] for name in above if name in self._speakers), None)

    def speaker_origin(self, kind: str) -> Origin:
        return self._speakers[kind][1]

    def find(self, stage: str, name: str) -> type[Method] | Finding:
        """The method of that name; else what to tell the person who wrote it."""
        found = self._methods.get((stage, name))
        if found is not None:
            return found
        elsewhere = [other for other, known in self._methods if known == name]
        names = sorted(known for other, known in self._methods if other == stage)
        near = get_close_matches(name, names, 1, 0.6)
        if near:
            fix = f"Did you mean {near[0]}?"
        elif elsewhere:
            fix = f"{name} is a method of {' and '.join(elsewhere)}: write `{elsewhere[0]}: {name}`."
        else:
            offered = ", ".join(names) or "none"
            fix = (
                f"Installed methods of {stage}: {offered}. "
                f"Install the package that offers {name}, or name its file under plugins:."
            )
        return Finding(f"no installed plugin offers {stage}: {name}", fix)

    def listeners(self, hook: str) -> list[tuple[str, Callable[[object], object]]]:
        """The plugins that want to be told of a moment of a run, in the order in which they were found."""
        found: list[pluggy.HookImpl] = list(reversed(getattr(self.manager.hook, hook).get_hookimpls()))
        return [(each.plugin_name, partial(_call, each)) for each in found]

    def extend_plan(self, steps: Iterable[object]) -> list[Finding]:
        found: list[Finding] = []
        for hook in self.manager.hook.extend_plan.get_hookimpls():
            try:
                found.extend(cast("list[Finding]", hook.function(steps)))
            except Exception as error:
                raise PluginError(f"plugin {hook.plugin_name}: extend_plan failed: {told(error)}") from error
        return found


def _call(listener: pluggy.HookImpl, event: object) -> object:
    return listener.function(event) if listener.argnames else listener.function()


def told(error: BaseException) -> str:
    """An unexpected exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def import_file(path: Path) -> ModuleType:
    """Imports a file or package folder under a name of its own, so that two files called alike are two modules."""
    name = f"tuneforge_local_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    file = path / "__init__.py" if path.is_dir() else path
    folders = [str(path)] if path.is_dir() else None
    if file.suffix != ".py":
        raise ImportError(f"{path} is not a Python file")
    for folder in [path, *path.rglob("*/")] if path.is_dir() else []:
        sys.path_importer_cache[str(folder)] = FileFinder(str(folder), (_SourceLoader, [".py"]))
    loader = _SourceLoader(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _SourceLoader(SourceFileLoader):
    """Imports what the file says now: kept bytecode is told from new only by whole seconds and the size."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _broken_speaker(speaker: object) -> str:
    """How an offered class breaks the contract; empty when it does not."""
    if not (inspect.isclass(speaker) and issubclass(speaker, Speaker)):
        return f"register_chat offers {speaker!r}, which is no subclass of Speaker"
    if "<locals>" in speaker.__qualname__:
        return f"{speaker.__name__} is made inside a function, where another process cannot find it"
    kinds = getattr(speaker, "kinds", ())
    if not (kinds and all(inspect.isclass(kind) and issubclass(kind, Artifact) for kind in kinds)):
        return f"{speaker.__name__} does not say for what it speaks: set `kinds` to kinds of artifact"
    if speaker.open is Speaker.open:
        return f"{speaker.__name__} has no open"
    try:
        for need in speaker.needs:
            Requirement(need)
    except InvalidRequirement as error:
        return f"{speaker.__name__}: {error}"
    return ""


def _broken(method: object, stage: type[Method]) -> str:
    """How an offered class breaks the contract; empty when it does not."""
    if not (inspect.isclass(method) and issubclass(method, stage)):
        return f"register_{stage.stage} offers {method!r}, which is no subclass of {stage.__name__}"
    name = getattr(method, "name", "")
    if not NAME.fullmatch(name):
        return f"{method.__name__}.name is {name!r}; use small letters, digits, - and _"
    if not method.__dict__.get("__doc__"):
        return f"{method.__name__} has no docstring, which is its documentation"
    if "<locals>" in method.__qualname__:
        return f"{method.__name__} is made inside a function, where a step's process cannot find it"
    if not hasattr(method, "output"):
        return f"{method.__name__} does not say what it writes: set `output` to an artifact kind"
    if not callable(getattr(method, "run", None)):
        return f"{method.__name__} has no run"
    if method.prepare is not None and signature(method.prepare) != signature(method.run):
        return f"{method.__name__}.prepare does not take what its run takes"
    try:
        inputs_of(method)
        for need in method.needs:
            Requirement(need)
    except (TypeError, NameError, InvalidRequirement) as error:
        return f"{method.__name__}: {error}"
    return broken_options(method, Method)

"""Which server serves an artifact, and on what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tuneforge_registry import Registry
from tuneforge_registry.lineage import Lineage

from ..artifacts import Artifact, Facts
from ..asked import asked_for
from ..errors import Finding, RefusedError
from ..plan import Result
from ..plugins import Plugins
from ..servers import Server, Terms


@dataclass(frozen=True)
class Served:
    """An artifact, what it is served on if that is another one, and by what."""

    digest: str
    facts: Facts
    base: str | None
    server: Server
    notes: tuple[str, ...]
    """For the person: why not by a server that would come before, and warnings."""


def choose(
    ref: str, base: str | None, engine: str | None, terms: Terms, registry: Registry, plugins: Plugins
) -> Served:
    """The artifact that is meant, and the server that is asked for, else the best that can. Raises RefusedError."""
    digest, result = asked_for(ref, registry, plugins.kinds)
    able = sorted(
        (server() for _, server in plugins.servers if issubclass(result.kind, server.kinds)),
        key=lambda server: (-server.preference(), server.name),
    )
    if engine is not None:
        named = plugins.servers.find(engine)
        if isinstance(named, Finding):
            raise RefusedError([replace(named, place="--engine")])
        able = [server for server in able if type(server) is named]
        if not able:
            kinds = ", ".join(kind.kind for kind in named.kinds)
            raise RefusedError(f"{engine} serves no {result.kind.kind}", f"It serves: {kinds}.", ref)
    if not able:
        kinds = ", ".join(sorted({kind.kind for _, server in plugins.servers for kind in server.kinds}))
        fix = f"What can be served: {kinds}. See `tuneforge registry ls`."
        raise RefusedError(f"nothing can serve a {result.kind.kind}", fix, ref)
    refused: list[Finding] = []
    for server in able:
        found = [Finding(each.problem, each.fix, each.level, place=ref) for each in server.check(result.facts, terms)]
        errors = [finding for finding in found if finding.level == "error"]
        if not errors:
            on = _base(ref, digest, result, base, server, registry, plugins.kinds)
            return Served(digest, result.facts, on, server, tuple(_notes(server, refused, found)))
        refused += [replace(finding, problem=f"not by {server.name}: {finding.problem}") for finding in errors]
    raise RefusedError(refused)


def _notes(server: Server, refused: list[Finding], found: list[Finding]) -> Iterator[str]:
    yield from (finding.problem for finding in refused)
    yield from (str(replace(finding, place="")) for finding in found)


def _base(
    ref: str,
    digest: str,
    result: Result,
    base: str | None,
    server: Server,
    registry: Registry,
    kinds: Mapping[str, type[Artifact]],
) -> str | None:
    """The artifact that this one is served on, if it is one that is."""
    wanted = next((found for kind, found in server.bases.items() if issubclass(result.kind, kind)), ())
    if not wanted:
        if base is not None:
            raise RefusedError(f"a {result.kind.kind} is served on no other artifact", "Leave --base out.", ref)
        return None
    names = " or ".join(kind.kind for kind in wanted)
    under = registry.manifest(digest).base
    if base is None:
        made = [
            stored.digest[:12]
            for stored in registry.artifacts()
            if kinds.get(stored.kind) in wanted and _made_of(registry.lineage(stored.digest), under)
        ]
        fix = (
            f"There is {', '.join(made)}." if made else f"Export {(under or 'its base')[:12]}, which it sits on, first."
        )
        raise RefusedError(f"a {result.kind.kind} is served on a {names}: name it with --base", fix, ref)
    on, found = asked_for(base, registry, kinds)
    if not issubclass(found.kind, wanted):
        raise RefusedError(f"--base is a {found.kind.kind}; it must be a {names}", place=base)
    if under is not None and not _made_of(registry.lineage(on), under):
        raise RefusedError(
            f"it was not made of {under[:12]}, which {ref} sits on", "Give the one that was exported from that.", base
        )
    return on


def _made_of(origin: Lineage, digest: str | None) -> bool:
    """Whether an artifact is another form of the one of that digest: directly, or of a form of it."""
    sources = [source for sources in origin.inputs.values() for source in sources]
    return any(
        source.digest == digest or (source.kind == origin.kind and _made_of(source, digest)) for source in sources
    )

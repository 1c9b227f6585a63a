"""How a step is spread over processes and machines: `launch:` of a recipe, read, checked, and as a method sees it.

The core knows processes, ranks and where they meet. What a strategy means is its method's business: a method declares
the strategies that it can be launched with, each a block of settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal

import pydantic

from ..configure import Say, configured
from ..errors import Finding, RefusedError
from ..fields import Field
from ..stages import Config, Known, Method
from .hardware import Hardware

_RENDEZVOUS = re.compile(r"[A-Za-z0-9._-]+:(\d+)|\[[0-9A-Fa-f:]+\]:(\d+)")


class Strategy(Config):
    """One way to spread a method over processes. Its fields are its settings, its docstring their documentation."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Requirements beside the method's own, of those steps only that are launched so."""
    alone: ClassVar[bool] = False
    """Whether it does something for a single process too; otherwise that is an ordinary step."""

    def check(self, launch: Launch, hardware: Hardware) -> Iterable[Finding]:
        """What of this strategy cannot work on such machines; `field` names a setting."""
        return ()


class LaunchOptions(Config):
    """The keys of `launch:` that every method shares; a block named like a strategy holds its settings."""

    processes: Annotated[int, pydantic.Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        also=("nproc_per_node", "num_processes", "n_gpus", "gpus", "num_gpus"),
        description="Processes on each machine; auto: one for each GPU, or one.",
    )
    nodes: int = Field(1, ge=1, also=("nnodes", "num_machines", "num_nodes"), description="Machines.")
    rendezvous: str | None = Field(
        None,
        also=("rdzv_endpoint", "master_addr", "main_process_ip", "master_port"),
        description="host:port of the first machine, where the others find it; needed with several.",
    )
    strategy: str | None = Field(
        None,
        also=("distributed_type", "distributed", "parallelism"),
        description="How the work is spread; where it is not set, the one with settings, else the method's first.",
    )


def spread(processes: int, nodes: int, strategy: str) -> str:
    """How a step is spread, in words."""
    on = f" on each of {nodes} nodes" if nodes > 1 else ""
    return f"{processes} process{'es' * (processes > 1)}{on}, {strategy}"


@dataclass(frozen=True)
class Launch:
    """How a step is spread: `processes` on each of `nodes` machines, which meet at `rendezvous`."""

    processes: int
    nodes: int
    strategy: Strategy
    rendezvous: str | None = None

    @property
    def world_size(self) -> int:
        """All processes of all machines."""
        return self.processes * self.nodes

    def __str__(self) -> str:
        return spread(self.processes, self.nodes, self.strategy.name)

    def to_json(self) -> dict[str, Any]:
        """As another process and the run record are told; `of_json` makes it a launch again."""
        return {
            "processes": self.processes,
            "nodes": self.nodes,
            "rendezvous": self.rendezvous,
            "strategy": self.strategy.name,
            "settings": self.strategy.model_dump(mode="json"),
        }

    @classmethod
    def of_json(cls, method: type[Method], given: Mapping[str, Any]) -> Launch:
        kind = next(kind for kind in method.strategies if kind.name == given["strategy"])
        return cls(given["processes"], given["nodes"], kind(**given["settings"]), given["rendezvous"])


@dataclass(frozen=True)
class Asked:
    """`launch:` as it is written, before it is known on which machine."""

    options: LaunchOptions
    strategy: Strategy


def read_launch(method: type[Method], block: Any, say: Say) -> Asked | None:
    """The block as written under a step; None when something is wrong with it, which is then said."""
    called = f"{method.stage}: {method.name}"
    kinds = {kind.name: kind for kind in method.strategies}
    if not kinds:
        say((), f"{called} works in one process and cannot be launched on several", "Take launch: out.")
        return None
    if not isinstance(block, dict):
        say((), "launch: is a block", "launch: {processes: 2}")
        return None
    blocks = {name: block[name] for name in block if name in kinds}
    meant = {name: near[0] for name in block if name not in kinds and (near := get_close_matches(name, kinds, 1, 0.6))}
    for name, kind in meant.items():
        say((name,), f"launch has no option {name}", f"Did you mean {kind}?")
    shared = {name: block[name] for name in block if name not in (*kinds, *meant)}
    options = configured(LaunchOptions, shared, "launch", "launch", say)
    if len(blocks) > 1:
        say((), f"{' and '.join(blocks)} are different strategies", "Keep the settings of one.")
    if options is None or len(blocks) > 1 or meant:
        return None
    name = options.strategy or next(iter(blocks), next(iter(kinds)))
    if name not in kinds:
        near = get_close_matches(name, kinds, 1, 0.6)
        fix = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(kinds)}."
        say(("strategy",), f"{called} cannot be launched with {name}", fix)
        return None
    if blocks and name not in blocks:
        (other,) = blocks
        say((other,), f"the strategy is {name}, and these are settings of {other}", "Keep one of the two.")
        return None
    settings = {} if blocks.get(name) is None else blocks[name]
    strategy = configured(kinds[name], settings, f"launch: {name}", name, lambda at, *said: say((name, *at), *said))
    return Asked(options, strategy) if strategy else None


def launch_settings(text: str | None) -> list[str]:
    """`key=value,...` of the command line as its parts; commas inside of brackets part nothing. Raises RefusedError."""
    parts = [part.strip() for part in re.split(r",(?![^\[{]*[\]}])", text or "")]
    for part in parts:
        if part and not re.match(r"[^=\s]+=", part):
            fix = "For example --launch processes=2,strategy=ddp."
            raise RefusedError(f"{part!r} is not of the form key=value", fix, place="--launch")
    return [part for part in parts if part]


def settle(asked: Asked, method: Method, facts: Known, hardware: Hardware) -> tuple[Launch | None, list[Finding]]:
    """The launch on such machines, None if that is an ordinary step; and what of it cannot work.

    The `field` of a finding is a key of `launch:`, dotted, or where it begins with `with.` an option of the method.
    """
    options = asked.options
    processes = max(1, hardware.gpus) if options.processes == "auto" else options.processes
    launch = Launch(processes, options.nodes, asked.strategy, options.rendezvous)
    found = list(_check(launch, hardware))
    if launch.world_size == 1 and not launch.strategy.alone:
        return None, found
    for finding in launch.strategy.check(launch, hardware):
        field = f"{launch.strategy.name}.{finding.field}" if finding.field else "strategy"
        found.append(Finding(finding.problem, finding.fix, finding.level, field))
    for finding in method.check_launch(launch, facts):
        field = f"with.{finding.field}" if finding.field else ""
        found.append(Finding(finding.problem, finding.fix, finding.level, field))
    return launch, found


def _check(launch: Launch, hardware: Hardware) -> Iterator[Finding]:
    room, of = (hardware.gpus, "GPUs") if hardware.gpus else (hardware.cores, "processors, and no GPU")
    if launch.processes > room:
        yield Finding(
            f"{launch.processes} processes on a machine with {room} {of}",
            f"Set processes to {room} or less, or to auto.",
            field="processes",
        )
    if launch.nodes > 1 and launch.rendezvous is None:
        yield Finding(
            f"{launch.nodes} nodes do not know where to meet",
            "Set rendezvous to host:port of node 0, such as node-0:29500.",
            field="rendezvous",
        )
    elif launch.rendezvous is not None:
        named = _RENDEZVOUS.fullmatch(launch.rendezvous)
        if not named or not 0 < int(named[1] or named[2]) < 2**16:
            yield Finding(
                f"{launch.rendezvous!r} is not of the form host:port", "For example node-0:29500.", field="rendezvous"
            )

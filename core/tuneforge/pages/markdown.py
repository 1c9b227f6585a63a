"""The page of documentation that tells of every method, and once of the options that several share."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from ..plugins import Plugins
from ..stages import STAGES, Method
from .methods import describe, signature
from .options import described_blocks, described_options, tables
from .others import others_markdown

Block = type[BaseModel]

_FEW = 4
"""From so many options on, those that several methods have from one class get a section of their own."""


def methods_markdown(plugins: Plugins) -> str:
    """Every method with its inputs, options and needs: a page of documentation."""
    shared = _shared(plugins)
    lines = ["# Methods", "", "Written by `tuneforge plugins --markdown`: to change this page, change the methods."]
    for stage in STAGES:
        methods = [method for method in plugins if method.stage == stage]
        lines += ["", f"## {stage}"] if methods else []
        for method in methods:
            page = describe(plugins, method)
            declaring = _declaring(method)
            elsewhere = [block for block in declaring if block in shared]
            own = {name for block, names in declaring.items() if block not in shared for name in names}
            lines += ["", f"### {stage}: {method.name}", "", page["doc"], ""]
            lines += ["```python", signature(method), "```"]
            lines += tables(_only(page, own))
            lines += _links(elsewhere, own, shared)
            if method.strategies:
                names = ", ".join(f"`{name}`" for name in page["strategies"])
                lines += ["", f"Can be launched on several processes by {names}: see [launch.md](launch.md)."]
            if method.needs:
                lines += ["", f"Needs {', '.join(f'`{need}`' for need in method.needs)}."]
    lines += others_markdown(plugins)
    lines += ["", "## Shared options"] if shared else []
    for block, shared_names in shared.items():
        page = {"options": described_options(block), "blocks": described_blocks(block)}
        lines += ["", f"### {_heading(block)}", "", inspect.cleandoc(block.__doc__ or "")]
        lines += tables(_only(page, shared_names))
    return "\n".join(lines) + "\n"


def _shared(methods: Iterable[type[Method]]) -> dict[Block, set[str]]:
    """The classes that declare more than a few options for several methods, with the names of these."""
    users: dict[Block, int] = defaultdict(int)
    found: dict[Block, set[str]] = defaultdict(set)
    for method in methods:
        for block, names in _declaring(method).items():
            users[block] += block is not method
            found[block] |= names
    return {block: names for block, names in found.items() if users[block] > 1 and len(names) >= _FEW}


def _declaring(method: type[Method]) -> dict[Block, set[str]]:
    """The options of a method by the class that declares them, the method itself first, as Python looks them up."""
    found: dict[Block, set[str]] = {}
    left = set(method.model_fields)
    for kind in method.__mro__:
        if names := left & inspect.get_annotations(kind).keys():
            found[kind] = names
            left -= names
    return found


def _only(page: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A page with these options alone, and the blocks that can stand in their place."""
    return {
        **page,
        "options": [option for option in page["options"] if option["name"].partition(".")[0] in names],
        "blocks": [block for block in page["blocks"] if block["option"].partition(".")[0] in names],
    }


def _links(blocks: Collection[Block], own: Collection[str], shared: Mapping[Block, set[str]]) -> list[str]:
    """Where the options are that other methods have, too."""
    if not blocks:
        return []
    # As GitHub names the headings of a page.
    anchors = (re.sub(r"[^\w\- ]", "", _heading(block).lower()).replace(" ", "-") for block in blocks)
    links = [f"[{block.__name__}](#{anchor})" for block, anchor in zip(blocks, anchors, strict=True)]
    told = " and ".join([", ".join(links[:-1]), links[-1]] if links[:-1] else links)
    names = [*own, *(name for block in blocks for name in shared[block])]
    first = "" if len(names) == len({*names}) else " Of an option that is told twice, the first holds."
    return ["", f"{'Further options' if own else 'Options'}: those of {told}.{first}"]


def _heading(block: Block) -> str:
    return f"{block.__module__.partition('.')[0]}: {block.__name__}"

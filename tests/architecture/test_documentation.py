"""Every hook and every method is documented as it is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from benchmarks import gguf
from benchmarks.adapters import declared
from tuneforge import hookspecs
from tuneforge.pages.markdown import methods_markdown
from tuneforge.pages.methods import signature
from tuneforge.pages.options import described_blocks, described_options, tables
from tuneforge.plugins import Plugins
from tuneforge_gguf import types
from tuneforge_trl.adapters import TYPES

DOCS = Path(__file__).parents[2] / "docs"


def test_every_hook_is_documented_with_its_signature() -> None:
    hooks = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "tuneforge_spec")}
    rows = [
        f"| `{name}{str(inspect.signature(hook)).replace(chr(39), '')}` | {' '.join((hook.__doc__ or '').split())} |"
        for name, hook in hooks.items()
    ]
    table = re.findall(r"^\| `\w+\(.*\) -> .*$", (DOCS / "plugins.md").read_text(encoding="utf-8"), re.M)
    assert table == rows


def test_every_method_is_documented_as_it_is() -> None:
    page = (DOCS / "methods.md").read_text(encoding="utf-8")
    assert page == methods_markdown(Plugins()), "write it anew: tuneforge plugins --markdown > docs/methods.md"
    assert all(f"\n{signature(method)}\n" in page for method in Plugins())


def test_every_option_is_told_with_its_method_or_behind_a_link() -> None:
    sections = dict(re.findall(r"^### (.+)\n((?:(?!^##).*\n)*)", methods_markdown(Plugins()), re.M))
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"): heading for heading in sections}
    for method in Plugins():
        section = sections[f"{method.stage}: {method.name}"]
        linked = [sections[anchors[anchor]] for anchor in re.findall(r"\]\(#([\w-]+)\)", section)]
        told: dict[str, set[str]] = {}
        for text in (section, *linked):
            found: dict[str, set[str]] = {}
            for row in re.findall(r"^\| `.*$", text, re.M):
                found.setdefault(row.split("`")[1], set()).add(row)
            told = found | told  # what is told first holds
        wanted: dict[str, set[str]] = {}
        for row in tables({"options": list(described_options(method)), "blocks": described_blocks(method)}):
            if row.startswith("| `"):
                wanted.setdefault(row.split("`")[1], set()).add(row)
        assert told == wanted, method.name


def test_every_type_of_adapter_is_documented_as_it_declares() -> None:
    page = (DOCS / "adapters.md").read_text(encoding="utf-8")
    assert page.startswith(declared()), "write it anew: python -m benchmarks adapters"
    assert all(f"| `{kind}` |" in page.partition("## What each costs")[2] for kind in TYPES)


def test_every_type_of_gguf_file_is_documented_as_it_is_declared() -> None:
    page = (DOCS / "gguf.md").read_text(encoding="utf-8")
    assert page.startswith(gguf.declared()), "write it anew: python -m benchmarks gguf"
    assert all(f"\n| `{kind}` |" in page.partition("## What each type keeps")[2] for kind in types.TYPES)

"""The lineage of an artifact as a picture of its own: an SVG file for a page, a paper or a slide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from .charts import wire_path
from .graph import Box, fitting
from .texts import cut, shown

if TYPE_CHECKING:
    from tuneforge_registry.lineage import Lineage

_ROOM = 1000.0  # pixels
_MARGIN = 16
_STYLE = """
:root { color-scheme: light dark; --paper: #faf9f6; --card: #fff; --ink: #1e2429; --quiet: #59636d; --line: #cfc9bd;
  --wire: #9aa1a7; --accent: #1d5c86; --wash: #eaf1f6; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --card: #1c2024; --ink: #e7e4dd; --quiet: #9fa9b2;
  --line: #3a4148; --wire: #6d757c; --accent: #84bde3; --wash: #1d2a34; } }
text { font: 11px Inter, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; fill: var(--quiet); }
.name { font-size: 13px; font-weight: 600; fill: var(--ink); }
.called { fill: var(--accent); }
.box { fill: var(--card); stroke: var(--line); stroke-width: 1.5; }
.wanted .box { fill: var(--wash); stroke: var(--accent); }
.unknown .box { fill: none; stroke-dasharray: 4 4; }
.wire { fill: none; stroke: var(--wire); stroke-width: 1.3; stroke-linecap: round; }
"""


def ancestry_picture(wanted: Lineage, named: Mapping[str, Sequence[str]], title: str) -> str:
    """An SVG document: every artifact that went into `wanted`, once; `named` is what each digest is called.

    A box has the step that made the artifact, its method, the kind and the beginning of the digest, and a name.
    """
    found: dict[str, Lineage] = {}
    wires: dict[str, list[str]] = {}

    def gather(at: Lineage) -> None:
        if at.digest in found:
            return
        found[at.digest] = at
        given = [source for sources in at.inputs.values() for source in sources] + ([at.base] if at.base else [])
        for source in given:
            gather(source)
        wires[at.digest] = list(dict.fromkeys(source.digest for source in given))

    gather(wanted)
    picture = fitting(wires, _ROOM)
    parts = [wire_path(wire.points, picture.down) for wire in picture.wires]
    parts += [_box(box, found[box.name], named.get(box.name, ()), box.name == wanted.digest) for box in picture.boxes]
    width, height = math.ceil(picture.width) + 2 * _MARGIN, math.ceil(picture.height) + 2 * _MARGIN
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="{2} {2} {0} {1}" role="img">\n'
        "<title>{3}</title>\n<style>{4}</style>\n"
        '<rect x="{2}" y="{2}" width="{0}" height="{1}" fill="var(--paper)"/>\n{5}\n</svg>\n'
    ).format(width, height, -_MARGIN, f"The lineage of {shown(title)}", Markup(_STYLE), Markup("\n").join(parts))


def _box(box: Box, at: Lineage, names: Sequence[str], wanted: bool) -> Markup:
    room = int((box.width - 18) / 6.4)  # letters
    step = at.step or {}
    title = str(step.get("name") or at.kind or "unknown")
    method = f"{step.get('stage')}: {step.get('method')}" if step else "made by no recorded run"
    last = names[0] if names else f"{at.kind or 'unknown'} {at.digest[:8]}"
    look = "wanted" if wanted else "made" if step else "unknown"
    lines = [("name", 20, title, room), ("method", 36, method, int(room * 1.1))]
    lines.append(("called" if names else "kind", 52, last, room + 1))
    text = Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>')
    inside = [text.format(kind, box.x + 10, box.y + y, cut(shown(said), most)) for kind, y, said, most in lines]
    told = ", ".join([title, method, f"{at.kind or 'unknown'} {at.digest}", *names])
    return Markup(
        '<g class="{}"><title>{}</title>'
        '<rect class="box" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="7"/>{}</g>'
    ).format(look, shown(told), box.x, box.y, box.width, box.height, Markup("").join(inside))

"""Go's own text/template, by the package go-template."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tuneforge_publish.templates import CONVERSATIONS


def in_go(templates: list[str], folder: Path) -> list[list[str]]:
    """What Go's own text/template makes of each template over CONVERSATIONS, with Ollama's names.

    In a process of its own: a Go runtime takes over signals.
    """
    script = """
import json, sys
from pathlib import Path
from go_template import render_template
folder, (templates, conversations) = Path(sys.argv[1]), json.load(sys.stdin)
template, values, out = (folder / name for name in ("template.go", "values.go", "out.go"))
told = []
for text in templates:
    template.write_text(text)
    told.append([])
    for messages in conversations:
        values.write_text(json.dumps({"Messages": [{"Role": m["role"], "Content": m["content"]} for m in messages]}))
        out.unlink(missing_ok=True)
        render_template(str(template), str(values), str(out))
        told[-1].append(out.read_text())
json.dump(told, (folder / "told.go").open("w"))
"""
    given = json.dumps([templates, [list(messages) for messages in CONVERSATIONS]])
    subprocess.run([sys.executable, "-c", script, str(folder)], input=given, text=True, check=True)
    told: list[list[str]] = json.loads((folder / "told.go").read_text())
    return told

"""An extra installs what one plugin needs, so that nothing of it needs an environment of its own."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path

from tuneforge.plugins import Plugins

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name not in ("all", "dev")}


def test_extras_are_what_plugins_need() -> None:
    needs: dict[str, set[str]] = defaultdict(set)
    plugins = Plugins()
    for offered in (*plugins, *plugins.speakers().values(), *plugins.trackers().values()):
        if offered.needs:
            needs[offered.__module__.partition(".")[0].removeprefix("tuneforge_")].update(offered.needs)
    assert {name: sorted(wanted) for name, wanted in EXTRAS.items()} == {
        name: sorted(wanted) for name, wanted in needs.items()
    }


def test_all_is_every_extra() -> None:
    assert PROJECT["optional-dependencies"]["all"] == [f"tuneforge[{','.join(sorted(EXTRAS))}]"]

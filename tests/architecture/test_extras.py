"""An extra installs what one plugin needs, so that nothing of it needs an environment of its own."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path

from tuneforge.plugins import Plugins
from tuneforge_trl.adapters.qlora import QLora
from tuneforge_trl.sft import Sft

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = {"qlora": list(QLora.needs)}
"""What one option alone needs."""
SERVER = ("lz4>=4.3", "pyyaml>=6.0", "starlette>=1.8", "uvicorn>=0.30")
"""What one command of the core needs: to serve the registry."""
ASIDE = {"bitsandbytes", "gptqmodel", "llmcompressor", "ppo"}
"""Plugins whose needs would make every start slower, or pin what others need newer: their extra is not in `all`."""
EXTRAS = {
    name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name not in ("all", "dev", *OPTIONAL)
}


def test_extras_are_what_plugins_need() -> None:
    needs: dict[str, set[str]] = defaultdict(set)
    plugins = Plugins()
    for offered in (
        *plugins,
        *plugins.speakers().values(),
        *dict(plugins.servers).values(),
        *dict(plugins.trackers).values(),
    ):
        if offered.needs:
            needs[offered.__module__.partition(".")[0].removeprefix("tuneforge_")].update(offered.needs)
    assert needs.keys() >= ASIDE
    assert {name: sorted(wanted) for name, wanted in EXTRAS.items()} == {
        name: sorted(wanted) for name, wanted in (needs | strategies() | {"server": set(SERVER)}).items()
    }


def strategies() -> dict[str, set[str]]:
    """What ways of launching a step need beside its method, by their names."""
    return {kind.name: set(kind.needs) for method in Plugins() for kind in method.strategies if kind.needs}


def test_what_one_option_alone_needs_is_not_installed_for_all() -> None:
    assert {name: PROJECT["optional-dependencies"][name] for name in OPTIONAL} == OPTIONAL
    assert Sft().requires({}) == Sft.needs
    assert set(Sft(adapter={"type": "qlora"}).requires({})) == {*Sft.needs, *QLora.needs}


def test_all_is_every_extra_of_a_plugin() -> None:
    wanted = sorted(EXTRAS.keys() - strategies().keys() - ASIDE)
    assert PROJECT["optional-dependencies"]["all"] == [f"tuneforge[{','.join(wanted)}]"]

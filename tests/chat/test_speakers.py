"""The contract with plugins."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chat.parrots import Bird, Birdsong
from tuneforge import Artifact, Manner, Model, StepError, hookimpl
from tuneforge.errors import PluginError
from tuneforge.offered import Origin
from tuneforge.plugins import Plugins

PLUGIN = """from tests.chat.parrots import Bird, Birdsong
from tuneforge import Artifact, Speaker, Voice, hookimpl

class Own(Speaker):
    kinds = (Bird,)
    def open(self, artifact, threads, context):
        raise NotImplementedError

class Mute(Speaker):
    kinds = (Bird,)

class Kindless(Speaker):
    def open(self, artifact, threads, context):
        raise NotImplementedError

class Needy(Own):
    needs = ("torch >",)

def inside():
    class Hidden(Own): ...
    return Hidden

class Thing: ...

@hookimpl
def register_chat():
    return [OFFERED]
"""


class Duck(Bird):
    kind = "duck"


class Drake(Duck):
    kind = "drake"


class Quack(Birdsong):
    kinds = (Duck,)


def load(tmp_path: Path, offered: str, plugins: Plugins | None = None) -> Plugins:
    name = f"{offered.partition('(')[0].lower()}.py"
    (tmp_path / name).write_text(PLUGIN.replace("OFFERED", offered))
    plugins = plugins or Plugins()
    plugins.load_local(name, tmp_path)
    return plugins


def test_a_kind_has_the_speaker_nearest_to_it() -> None:
    plugins = Plugins()
    module: Any = SimpleNamespace(register_chat=hookimpl(lambda: [Birdsong, Quack]))
    plugins._add(module, Origin("birds"))
    assert [plugins.speaker(kind) for kind in (Bird, Duck, Drake)] == [Birdsong, Quack, Quack]
    assert plugins.speaker(Artifact) is None
    assert {"bird", "duck", "model", "adapter", "quantized-model", "gguf"} == set(plugins.speakers())
    assert plugins.kinds["duck"] is Duck


def test_two_speakers_for_a_kind_are_an_error_that_names_both(tmp_path: Path) -> None:
    plugins = load(tmp_path, "Birdsong")
    with pytest.raises(
        PluginError, match=r"plugin own.py: a speaker for the kind of artifact bird is already offered by birdsong.py"
    ):
        load(tmp_path, "Own", plugins)


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        ("Mute", "Mute has no open"),
        ("Kindless", "Kindless does not say for what it speaks: set `kinds` to kinds of artifact"),
        ("Needy", "Needy: Expected semicolon"),
        ("inside()", "Hidden is made inside a function"),
        ("Thing", "offers <class .*Thing'>, which is no subclass of Speaker"),
    ],
)
def test_a_speaker_that_breaks_the_contract_is_an_error(tmp_path: Path, offered: str, told: str) -> None:
    with pytest.raises(PluginError, match=told):
        load(tmp_path, offered)


def test_the_room_for_an_answer() -> None:
    manner = Manner(10)
    assert manner.room(5, None) == (10, "cut off after 10 tokens, as --max-tokens says")
    assert manner.room(5, 15)[0] == 10
    assert manner.room(6, 15) == (9, "cut off: the context of 15 tokens is full")
    assert manner.room(14, 15)[0] == 1
    for prompt in (15, 16):
        with pytest.raises(StepError, match=f"has {prompt} tokens, which fills the context of 15"):
            manner.room(prompt, 15)


def test_built_in_kinds_can_be_talked_to() -> None:
    speaker = Plugins().speaker(Model)
    assert speaker is not None
    assert speaker.engine == "tuneforge_chat.engine"

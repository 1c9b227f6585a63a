"""The demonstration as it is shipped: its GGUF file answers in llama.cpp as its merged model does in transformers."""

from __future__ import annotations

import pytest

from tests.journeys.conftest import Person
from tests.journeys.runtimes import agreement
from tuneforge_registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.whole]


def test_llama_cpp_gives_the_answers_of_the_merged_model(person: Person) -> None:
    made = person.tuneforge("run", "dpo-after-sft", "--json", "--until", "gguf")
    assert made.code == 0, made.err
    digests = made.digests()
    registry = Registry(person.folder / ".tuneforge")
    found = agreement(registry, digests["merged"], digests["gguf"], digests["chats"], 100)
    assert (found.prompts, found.same_tokens) == (100, 100)
    assert found.same_answers >= 95, found.different

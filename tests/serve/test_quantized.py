"""Quantized models, by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from tests.chat.test_transformers import QUESTION, TINY, generated, reply, say
from tuneforge import Facts, QuantizedModel, Terms
from tuneforge_chat import Transformers, TransformersServer
from tuneforge_chat.engine import Loaded

TERMS = Terms("127.0.0.1", 8000, "bot")


def facts(method: str) -> Facts:
    return Facts(QuantizedModel, {"quantization_config": {"quant_method": method}}, template="{{ messages }}")


def test_what_loads_the_weights_is_asked_for() -> None:
    server = TransformersServer()
    assert not list(server.check(facts("gptq"), TERMS))
    needs = server.requires(facts("gptq"))
    assert set(TransformersServer.needs) < set(needs)
    assert any(need.startswith("gptqmodel") for need in needs)
    (finding,) = server.check(facts("fbgemm_fp8"), TERMS)
    assert finding.problem == "nothing here loads a model quantized by fbgemm_fp8"
    assert list(Transformers().check(facts("fbgemm_fp8"))) == [finding], "nor can it be talked to"


@pytest.mark.slow
def test_a_quantized_model_answers_as_transformers_does(tmp_path: Path) -> None:
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model: Any = AutoModelForCausalLM.from_pretrained(TINY, quantization_config=config, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.save_pretrained(tmp_path)
    assert not list(QuantizedModel.missing(tmp_path))
    voice = Loaded(QuantizedModel(tmp_path, "nf4"), 1, None)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert "".join(reply(voice, say(QUESTION))[0]) == generated(again, tokenizer, say(QUESTION))

"""The method `publish: ollama`: a Modelfile in Ollama's grammar, with a template that is proved.

Cited below are Ollama's docs/modelfile.mdx and docs/template.mdx, and what its parser/parser.go makes of them (0.33).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.publish.commands import commands
from tests.publish.golang import in_go
from tests.publish.test_templates import TRIMMING
from tuneforge import Facts, Gguf, GgufAdapter, StepError
from tuneforge.kit.models import load_tokenizer
from tuneforge_publish import Ollama
from tuneforge_publish.gguf_file import GgufFile
from tuneforge_publish.modelfile import quoted, unsayable
from tuneforge_publish.templates import CONVERSATIONS


def parsed(text: str) -> list[tuple[str, str]]:
    """Instructions and arguments as ParseFile of parser.go reads them.

    An argument goes on over lines until its quotation marks close; what Go does not hold for printable is dropped but
    for spaces, tabs and line breaks within marks.
    """
    found: list[tuple[str, str]] = []
    rest = text
    while rest.strip():
        instruction, _, rest = rest.lstrip().partition(" ")
        argument, closed = "", False
        while not closed:
            line, newline, rest = rest.partition("\n")
            argument += "".join(each for each in line if each.isprintable() or each == "\t")
            whole = argument.strip()
            marks = '"""' if whole.startswith('"""') else '"' if whole.startswith('"') else ""
            closed = not marks or (len(whole) >= 2 * len(marks) and whole.endswith(marks))
            assert closed or newline, f"{instruction} is never closed"
            argument += newline
        found.append((instruction, whole[len(marks) : len(whole) - len(marks)]))
    return found


@pytest.mark.slow  # exports a model
def test_the_modelfile_is_what_ollama_reads(exported: Any, tmp_path: Path) -> None:
    """FROM is "relative to the Modelfile location"; "multiple stop patterns may be set by ... separate `stop`
    parameters"; SYSTEM "specifies the system message"; num_ctx "the size of the context window" (modelfile.mdx)."""
    to, system = tmp_path / "out", 'Be "brief".\nAlways.'
    exported.publish(
        tmp_path / "receipt", [exported.gguf], method=Ollama, to=to, title="Order Taker 2", context=96, system=system
    )
    instructions = parsed((to / "Modelfile").read_text(encoding="utf-8"))
    assert [name for name, _ in instructions] == ["FROM", "TEMPLATE", "SYSTEM", "PARAMETER", "PARAMETER"]
    told = dict(instructions)
    assert told["FROM"] == "./model-q8_0.gguf" and (to / told["FROM"]).is_file()
    assert told["SYSTEM"] == system
    assert [argument for name, argument in instructions if name == "PARAMETER"] == ['stop "<|im_end|>"', "num_ctx 96"]
    create, run, question, _ = commands(to)
    assert create == ["ollama", "create", "order-taker-2", "-f", "Modelfile"] and (to / create[-1]).is_file()
    assert run == ["ollama", "run", "order-taker-2"]
    assert question[1] == "http://localhost:11434/v1/chat/completions" and '"model": "order-taker-2"' in question[-1]
    # `.Messages` with `.Role` and `.Content` (template.mdx), in Go's own language, against the model's own tokenizer.
    tokenizer = load_tokenizer(exported.base)
    (texts,) = in_go([told["TEMPLATE"]], tmp_path)
    for messages, text in zip(CONVERSATIONS, texts, strict=True):
        assert text == tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)


@pytest.mark.slow
def test_an_adapter_names_its_model_and_says_which_ollama_it_needs(exported: Any, tmp_path: Path) -> None:
    """ADAPTER is "an absolute path or a path relative to the Modelfile", on the model of FROM (modelfile.mdx). From
    0.34.1 on `ollama create` refuses it: ollama/ollama#14969."""
    to = tmp_path / "out"
    exported.publish(tmp_path / "receipt", [exported.gguf, exported.gguf_adapter], method=Ollama, to=to)
    told = dict(parsed((to / "light" / "Modelfile").read_text()))
    assert (told["FROM"], told["ADAPTER"]) == ("../whole/model-q8_0.gguf", "./adapter-f16.gguf")
    assert all((to / "light" / told[name]).is_file() for name in ("FROM", "ADAPTER"))
    assert "ADAPTER" not in dict(parsed((to / "whole" / "Modelfile").read_text()))
    assert [command[2] for command in commands(to) if command[:2] == ["ollama", "create"]] == [
        "orders-whole",
        "orders-light",
    ]
    assert "up to version 0.34.0" in (to / "README.md").read_text()
    (finding,) = Ollama(to=tmp_path / "x").check({"artifacts": [Facts(Gguf), Facts(GgufAdapter)]})
    assert finding.level == "warning" and "0.34.1" in finding.problem


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"template": TRIMMING}, "does more than put text around each message"),
        ({"template": "{{ messages }}"}, "more than fixed text around each message"),
        ({"adds_bos": True}, "a BOS token put ahead, which the template does not write"),
    ],
)
def test_what_ollama_would_render_otherwise_is_refused(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], problem: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(GgufFile, name, value)
    with pytest.raises(StepError, match=problem):
        exported.publish(tmp_path / "receipt", [exported.gguf], method=Ollama, to=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_template_without_a_like_is_found_before_anything_runs(tmp_path: Path) -> None:
    method = Ollama(to=tmp_path / "out", system='say """ this')
    findings = list(method.check({"artifacts": [Facts(Gguf, template=TRIMMING)]}))
    assert [finding.field for finding in findings] == ["system", ""]
    assert "publish: llama_cpp" in findings[1].fix


@pytest.mark.parametrize(
    "text", ["a", "two\nlines\n", 'say "this"', " spaces ", "\t\uff5c\u2581<|x|>\n", "{{ .Role }}"]
)
def test_an_argument_is_read_as_it_was_written(text: str) -> None:
    assert parsed(f"FROM ./x\nSYSTEM {quoted(text)}\nFROM y\n")[1:] == [("SYSTEM", text), ("FROM", "y")]


@pytest.mark.parametrize("text", ['"""', "no\u00a0break", "zero\u200bwidth", "bell\a"])
def test_what_the_parser_would_lose_is_refused(text: str) -> None:
    assert unsayable(text)
    with pytest.raises(StepError, match="cannot be written into a Modelfile"):
        quoted(text)

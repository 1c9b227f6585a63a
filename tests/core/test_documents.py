"""A recipe's text: what YAML means here, where each value is written, overrides and variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneforge.documents import Document
from tuneforge.fields import Text


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, *settings: str, path: str = "r.yaml") -> Document:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    document = Document(Path(path))
    for setting in settings:
        document.override(setting)
    document.substitute()
    return document


def problems(document: Document) -> list[str]:
    return [f"{finding.place}: {finding.problem}" for finding in document.problems]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-4", 1e-4),
        ("2E5", 2e5),
        (".5", 0.5),
        ("-1.", -1.0),
        ("+3", 3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-11-22", "2026-11-22"),
        (".inf", ".inf"),
        ("1.2.3", "1.2.3"),
        ("'1'", "1"),
        ("!!str 1", "1"),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(written: str, meant: Any) -> None:
    value = read(f"a: {written}\n").data["a"]
    assert value == meant
    assert type(value) is type(meant) or (type(value), type(meant)) == (Text, str)


@pytest.mark.parametrize("written", ["!!int foo", "!!float foo", "1" * 5000])
def test_a_number_that_is_none_is_a_finding(written: str) -> None:
    (problem,) = problems(read(f"a:\n  b: {written}\n"))
    assert problem.startswith("r.yaml:2:6: ")
    assert problem.endswith(" is not a number")


def test_every_value_knows_its_line_and_column() -> None:
    document = read("steps:\n  a:\n    with: {x: 1, y: [2,\n      3]}\n")
    assert document.place(("steps",)) == "r.yaml:1:1"
    assert document.place(("steps", "a", "with", "y")) == "r.yaml:3:18"
    assert document.place(("steps", "a", "with", "y", 1)) == "r.yaml:4:7"
    assert document.place(("steps", "a", "with", "y", 1, "deeper")) == "r.yaml:4:7", "the nearest one around it"
    assert document.place(("elsewhere",)) == "r.yaml:1:1"


def test_columns_count_letters_not_bytes() -> None:
    assert read("é: {ü: 1, z: 2}\n").place(("é", "z")) == "r.yaml:1:11"


def test_a_byte_order_mark_is_no_letter() -> None:
    assert read("\ufeffname: x\n").data == {"name": "x"}


def test_a_key_written_twice_is_told_at_its_second_place() -> None:
    document = read("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert problems(document) == [
        "r.yaml:2:11: c is written twice in one block",
        "r.yaml:3:1: a is written twice in one block",
    ]


def test_a_key_must_be_a_word() -> None:
    assert problems(read("? [a]\n: 1\n{b: c}: 2\n")) == [
        "r.yaml:1:3: a key must be a plain word",
        "r.yaml:3:1: a key must be a plain word",
    ]


def test_an_anchor_is_a_copy() -> None:
    document = read("a: &x {b: 1}\nc: *x\n", "a.b=2")
    assert document.data == {"a": {"b": 2}, "c": {"b": 1}}


def test_an_anchor_within_itself_is_refused() -> None:
    assert problems(read("a: &x\n  b: *x\n")) == ["r.yaml:1:4: an anchor that contains itself"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1,\nb: 2\n", "r.yaml:3:1: not valid YAML: did not find expected ',' or ']'"),
        ("a:\n\tb: 2\n", "r.yaml:2:1: not valid YAML: found character that cannot start any token"),
        ("a: *b\n", "r.yaml:1:4: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2:1: not valid YAML: but found another document"),
        ("a: b\x07c\n", "r.yaml: not valid YAML: "),
        ("a: " + "[" * 900 + "]" * 900, "r.yaml: blocks are nested too deeply"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(text: str, problem: str) -> None:
    (found,) = problems(read(text))
    assert found.startswith(problem)


def test_an_override_is_yaml_too() -> None:
    document = read(
        "steps: {a: {with: {r: 1, l: [1, 2]}}}\nplugins: [x]\n",
        "steps.a.with.r=1e-4",
        "steps.a.with.l.1=no",
        "steps.a.with.new.inner={x: [1]}",
        "plugins.0=y",
        "seed=7",
    )
    assert not document.problems
    assert document.data["steps"]["a"]["with"] == {"r": 1e-4, "l": [1, "no"], "new": {"inner": {"x": [1]}}}
    assert document.data["plugins"] == ["y"]
    assert document.data["seed"] == 7
    assert document.place(("steps", "a", "with", "r")) == "--set steps.a.with.r"
    assert document.place(("steps", "a", "with", "new", "inner", "x", 0)) == "--set steps.a.with.new.inner"


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("steps.a", "--set steps.a: not of the form key.key=value"),
        ("=1", "--set =1: not of the form key.key=value"),
        ("steps.b.with.x=1", "--set steps.b.with.x: the recipe has no steps b"),
        ("steps=1", "--set steps: the recipe has no steps"),
        ("vars.x=1", "--set vars.x: the recipe has no vars x"),
        ("steps.a.with.r.s=1", "--set steps.a.with.r.s: steps.a.with.r is a plain value and has nothing inside it"),
        ("steps.a.with.l.2=1", "--set steps.a.with.l.2: steps.a.with.l has no item 2"),
        ("steps.a.with.l.²=1", "--set steps.a.with.l.²: steps.a.with.l has no item ²"),
        ("steps.a.with.r=[", "--set steps.a.with.r: not valid YAML: did not find expected node content"),
        ("steps.a.with.r={x: 1, x: 2}", "--set steps.a.with.r:1:8: x is written twice in one block"),
        ("seed=\udc80", "--set seed: not valid YAML: "),
    ],
)
def test_a_wrong_override_is_told_and_changes_nothing(setting: str, problem: str) -> None:
    document = read("steps: {a: {with: {r: 1, l: [1, 2]}}}\n", setting)
    (found,) = problems(document)
    assert found.startswith(problem)
    assert document.data == {"steps": {"a": {"with": {"r": 1, "l": [1, 2]}}}}


@pytest.mark.parametrize("text", ["", "steps:", "steps: 3", "steps: [1]", "3", "vars: x"])
@pytest.mark.parametrize("setting", ["steps.a.with.r=1", "vars.x=1", "steps=1"])
def test_an_override_of_a_broken_recipe_is_a_finding(text: str, setting: str) -> None:
    document = read(text, setting)
    assert document.problems or not isinstance(document.data, dict)


def test_a_variable_keeps_its_type_and_may_be_part_of_a_text() -> None:
    document = read(
        "vars: {n: 3, x: 1e-4, l: [1], s: a, t: '${s}${n}'}\n"
        "with: {n: '${n}', x: '${x}', l: '${l}', t: 'r-${n}-${t}'}\n"
    )
    assert not document.problems
    assert document.data["with"] == {"n": 3, "x": 1e-4, "l": [1], "t": "r-3-a3"}


def test_an_override_of_a_variable_counts_everywhere() -> None:
    assert read("vars: {n: 3}\na: '${n}'\nb: ['${n}']\n", "vars.n=4").data["b"] == [4]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("vars: {rank: 1}\na: [x, '${rnk}']\n", "r.yaml:2:8: ${rnk} is not defined"),
        ("a: '${x}'\n", "r.yaml:1:1: ${x} is not defined"),
        ("vars: {a: '${b}', b: 1}\n", "r.yaml:1:8: ${b} is not defined"),
        ("vars: [1]\n", "r.yaml:1:1: vars must map names to values"),
    ],
)
def test_an_undefined_variable_is_told_where_it_is_used(text: str, problem: str) -> None:
    assert problems(read(text)) == [problem]


def test_an_undefined_variable_has_a_near_miss() -> None:
    assert read("vars: {rank: 1}\na: '${rnk}'\n").problems[0].fix == "Did you mean rank?"


def test_a_path_starts_where_it_is_written(tmp_path: Path) -> None:
    document = read(
        "vars: {d: data, e: data}\na: x\nb: y\nc: '${d}/z'\nd: '${e}/z'\n", "b=y", "vars.e=data", path="below/r.yaml"
    )
    folders = {key: document.data[key].mark.folder for key in "abcd"}
    assert folders == {"a": tmp_path / "below", "b": tmp_path, "c": tmp_path / "below", "d": tmp_path}


@given(st.text() | st.text(alphabet="abc:,[]{}&*!?|>-'\"\n \t#$%@~0.1e\\"))
def test_no_text_is_a_crash(text: str) -> None:
    document = read(text, "a.b=1")
    assert all(finding.place for finding in document.problems)


@given(st.text().filter(lambda text: "\0" not in text))
def test_no_override_is_a_crash(setting: str) -> None:
    read(
        "steps: {a: {with: {x: [1, {y: 2}]}}}\nvars: {v: 1}\n",
        setting,
        f"steps.a.with.{setting}",
        f"steps.a.with.x={setting}",
    )

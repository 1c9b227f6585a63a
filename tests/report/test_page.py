"""The page: one whole document that needs nothing but itself, whatever its texts hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import pytest

from tests.report.conftest import RECIPE, Finished, Reporter
from tuneforge.report import page
from tuneforge.report.gather import gather

SECTIONS = ["steps", "curves", "samples", "scores", "answers", "left-out", "artifacts", "details", "recipe"]
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "rect", "circle", "line"}
HOSTILE = """</title></script><script>alert(1)</script><img src=x onerror=alert(2)>'"`&amp;{{ 7 * 7 }}{% raw %}"""
RIGHT_TO_LEFT = "\u202e\u0645\u0631\u062d\u0628\u0627 \U0001f600"


@dataclass
class Read(HTMLParser):
    """A page as a parser sees it. Every element must be closed in its turn."""

    open: list[str] = field(default_factory=list)
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute twice in {tag}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes what is not open"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]

    @property
    def said(self) -> str:
        """What a person reads."""
        return " ".join(" ".join(text for at, text in self.texts if at not in ("style", "script")).split())


def read(html: str) -> Read:
    """The page, checked for what every page must be."""
    found = Read()
    found.feed(html)
    found.close()
    assert not found.open
    assert len(found.ids) == len(set(found.ids)), "an id twice"
    for _, attributes in found.elements:
        assert not attributes.keys() & {"src", "srcset", "action", "formaction", "xlink:href"}
        assert not [name for name in attributes if name.startswith("on")]
        target = attributes.get("href")
        assert target is None or (target[0] == "#" and target[1:] in found.ids), target
        for name in ("aria-labelledby", "aria-controls"):
            assert name not in attributes or attributes[name] in found.ids
    assert not found.all("link") and not found.all("iframe") and len(found.all("script")) == 1
    assert not re.search(r"@import|url\(", html)
    (policy,) = [meta["content"] for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy.startswith("default-src 'none'") and "'unsafe-inline'; script-src 'sha256-" in policy
    return found


def test_a_page_is_whole_and_has_every_section(finished: Finished) -> None:
    html = finished.page.read_text(encoding="utf-8")
    found = read(html)
    assert [name for name in found.ids if name in SECTIONS] == SECTIONS
    linked = {str(attributes.get("href"))[1:] for attributes in found.all("a")}
    assert {*SECTIONS, "step-1", "step-4"} <= linked
    for text in (
        "quizzed",
        "rows left out",
        "pupil@v1",
        "became right",
        "--set",
        "steps.base.with.steps=2",
        "too long",
    ):
        assert text in found.said
    assert "left out 17 % of its rows: 17 of 100" in found.said, "loudly"
    assert len([svg for svg in found.all("svg") if svg.get("class") == "chart"]) == 4
    assert all(svg.get("aria-label") for svg in found.all("svg") if svg.get("role"))


def test_the_page_of_a_run_is_what_its_record_gives(finished: Finished) -> None:
    assert finished.page.read_text(encoding="utf-8") == page.render(finished.run)


def test_what_was_warned_of_stands_on_top_and_what_was_sampled_below_the_curves(finished: Finished) -> None:
    found = read(finished.page.read_text(encoding="utf-8"))
    assert "1 warning tuned leaps What to do Away with leaps." in found.said
    assert found.said.index("Away with leaps.") < found.said.index("Started")
    table = found.said.partition("Answers on the way")[2].partition("Rows: the same prompts")[0]
    assert "prompt at 10 at 20 at 30 at 40 Is it? (nothing) (nothing) (nothing) (nothing)" in found.said
    assert "Is what? Is what? 10 Is what? 20 Is what? 30 Is what? 40" in found.said, table


def test_what_failed_stands_on_top(bench: Reporter) -> None:
    found = read(page.render(bench.report(RECIPE, "steps.tuned.with.ends_at=5")))
    said = found.said
    assert said.index("it cannot be learnt") < said.index("Started")
    assert "What to do Learn something else." in said
    assert "Traceback (most recent call last)" in said
    assert [name for name in found.ids if name in SECTIONS] == ["steps", "curves", *SECTIONS[5:]]


def test_a_run_of_one_plain_step_has_only_what_there_is_to_tell(bench: Reporter) -> None:
    found = read(page.render(bench.report("steps: {rows: {format: collect, with: {path: text.txt}}}")))
    assert [name for name in found.ids if name in SECTIONS] == ["steps", *SECTIONS[5:]]
    assert "Every row was used in rows (100)." in found.said


def test_how_a_step_was_spread_who_added_it_and_what_tracked_it(bench: Reporter) -> None:
    run_id = bench.report("steps: {rows: {format: collect, with: {path: text.txt}}}").id
    record = bench.registry.run(run_id)
    (step,) = record["steps"]
    step |= {"launch": {"processes": 2, "nodes": 3, "strategy": "ddp"}, "added_by": "parity"}
    record["trackers"] = {"wandb": {"status": "done", "place": "https://example.org/runs/7", "problem": ""}}
    bench.registry.write_run(run_id, record)
    said = read(page.render(gather(bench.registry, run_id))).said
    assert "spread over 2 processes on each of 3 nodes, ddp added by parity" in said
    assert "wandb done, https://example.org/runs/7" in said


def test_hostile_texts_are_shown_and_nothing_else(bench: Reporter) -> None:
    long = "long" * 5000
    text = f"name: quizzed # {HOSTILE}\nsteps:\n" + RECIPE.partition("steps:\n")[2]
    run = bench.report(
        text.replace("too short", "reason").replace("[base, tuned]", "[tuned, base]"),
        f"steps.rows.with.left_out={{{quoted(HOSTILE)}: 4, {quoted(RIGHT_TO_LEFT)}: 9}}",
        f"steps.base.with.answers=[{quoted(HOSTILE)}, {quoted(RIGHT_TO_LEFT)}, {quoted(long)}]",
        f"steps.tuned.with.answers=[{quoted(HOSTILE)}, x, '']",
        f"steps.tuned.with.figure={quoted(HOSTILE)}",
        f"steps.tuned.with.asked=[{quoted(HOSTILE)}, {quoted(RIGHT_TO_LEFT)}, {quoted(long)}]",
        f"steps.tuned.with.worry={quoted(HOSTILE)}",
        f"steps.quiz.with.prompts=[{quoted(HOSTILE)}, {quoted(RIGHT_TO_LEFT)}, {quoted(long)}]",
        f"steps.quiz.with.expected=[{quoted(HOSTILE)}, y, z]",
        f"steps.quiz.with.metric={quoted(HOSTILE)}",
        "steps.quiz.with.garbled=true",
    )
    html = page.render(run)
    found = read(html)
    html.encode("utf-8")
    assert not found.all("img")
    assert found.said.count(HOSTILE) >= 11, (
        "in the recipe, settings, answers, metrics, reasons, curves, options, samples, warnings"
    )
    assert "49" not in re.findall(r"\b49\b", found.said)
    assert RIGHT_TO_LEFT in found.said
    assert "\N{REPLACEMENT CHARACTER}" in found.said, "a lone surrogate is no text"
    assert len(html) < 600_000
    failed = bench.report(RECIPE, f"steps.tuned.with={{ends_at: 2, problem: {quoted(HOSTILE)}}}")
    assert HOSTILE in read(page.render(failed)).said


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def test_control_characters_are_shown_as_pictures(bench: Reporter) -> None:
    run = bench.report(RECIPE, 'steps.tuned.with={ends_at: 2, problem: "a\\e[31mb\\0c\\x7f"}')
    html = page.render(run)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", html)
    assert "a␛[31mb␀c␡" in read(html).said


def test_every_text_can_be_read() -> None:
    style = (Path(page.__file__).with_name("page.css")).read_text()
    schemes = re.findall(r":root \{(.*?)\}", style, re.S)
    light, dark, paper = (dict(re.findall(r"--([\w-]+): (#\w+)", scheme)) for scheme in schemes)
    for colours in (light, light | dark, light | paper):
        pairs = list(product(("ink", "quiet", "accent", "good", "bad"), ("paper", "card")))
        pairs += [
            ("ink", "wash"),
            ("quiet", "wash"),
            ("ink", "good-wash"),
            ("quiet", "good-wash"),
            ("good", "good-wash"),
        ]
        pairs += [("ink", "bad-wash"), ("bad", "bad-wash"), ("quiet", "bad-wash"), ("mark-ink", "mark")]
        for ink, ground in pairs:
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground, colours)


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_a_page_appears_in_one_stroke(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(Path, "replace", fail)
        page.write_page(finished.run, path)
    assert path.read_text() == "before"
    page.write_page(finished.run, path)
    assert path.read_text(encoding="utf-8") == page.render(finished.run)
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]

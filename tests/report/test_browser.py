"""The page as a browser shows it: on a desk and on a phone, by day and by night."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.report.conftest import RECIPE, Finished, new
from tests.report.test_page import HOSTILE, RIGHT_TO_LEFT, SECTIONS, quoted

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to look at the page with"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run that failed in a step with long and hostile texts, with 25 steps."""
    bench = new(tmp_path_factory.mktemp("hostile"))
    more = "".join(
        f"  more{place}: {{train: learn, base: {'tuned' if place < 3 else f'more{place - 3}'}}}\n"
        for place in range(20)
    )
    run = bench.report(
        RECIPE + more + "  last-with-a-rather-long-name: {train: learn, base: more19, with: {steps: 7, ends_at: 2}}\n",
        f"steps.rows.with.left_out={{{quoted(HOSTILE)}: 40, {quoted('x' * 300)}: 9}}",
        f"steps.tuned.with.answers=[{quoted(HOSTILE)}, {quoted(RIGHT_TO_LEFT)}, {quoted('long' * 500)}]",
        f"steps.tuned.with.figure={quoted(HOSTILE)}",
        f"steps.tuned.with.asked=[{quoted(HOSTILE)}, {quoted(RIGHT_TO_LEFT)}, {quoted('long' * 500)}]",
        f"steps.tuned.with.worry={quoted('worry' * 100)}",
        f"steps.quiz.with.metric={quoted('m' * 200)}",
        f"steps.last-with-a-rather-long-name.with.problem={quoted('problem' * 100)}",
    )
    assert run.status == "failed" and len(run.steps) == 25
    return bench.home / "runs" / run.id / "report.html"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with a sweep of two options, and one of names."""
    bench = new(tmp_path_factory.mktemp("swept"))
    odd = f"[[a, b, c], [{quoted('long ' * 30)}, {quoted(HOSTILE)}, c]]"
    run = bench.report(
        RECIPE.replace(
            "    as: pupil\n",
            "    each: {steps: [2, 10, 50], answers: [[right, a, no], [right, a, yes], [no, a, b]]}\n",
        )
        + f"  other: {{train: learn, data: rows, each: {{answers: {odd}}}}}\n"
        + "  rest: {evaluate: quiz, models: other, with: {prompts: [a, b, c], expected: [a, x, y]}}\n"
    )
    assert run.status == "done" and len(run.sweeps) == 2
    return bench.home / "runs" / run.id / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_repeats_are_seen_side_by_side(browser: Browser, swept: Path, width: int, scheme: str) -> None:
    page, wrongs = opened(browser, swept, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("nav a", has_text="Repeats").click()
    assert page.locator("#sweeps table").count() == 2
    chart = page.locator("#sweeps figure", has_text="quiz: accuracy").first
    assert chart.is_visible()
    strokes = chart.locator("path.line").evaluate_all("lines => lines.map(line => getComputedStyle(line).stroke)")
    assert len(set(strokes)) == 3, "lines look different"
    keys = page.locator("#sweeps .line-key .swatch")
    swatches = keys.evaluate_all("all => all.map(one => getComputedStyle(one).backgroundColor)")
    assert swatches[:3] == strokes, "and the legend has their colours"
    chart.scroll_into_view_if_needed()
    point = chart.locator("circle[class]").nth(4)
    box = point.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert chart.locator(".readout").inner_text().startswith("0.6667 at steps 10, answers")
    assert not wrongs
    page.context.close()


def opened(browser: Browser, path: Path, width: int, scheme: Any, **options: Any) -> tuple[Page, list[str]]:
    """The page in a window, and what it did that it should not: errors, requests."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
    page = context.new_page()
    wrongs: list[str] = []
    page.on("console", lambda message: wrongs.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrongs.append(f"error: {error}"))
    page.on("request", lambda request: wrongs.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    return page, wrongs


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", ["finished", "hostile"])
def test_it_fits_and_asks_for_nothing(
    browser: Browser, finished: Finished, hostile: Path, which: str, width: int, scheme: str
) -> None:
    path = finished.page if which == "finished" else hostile
    page, wrongs = opened(browser, path, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "with everything folded out"
    for name in SECTIONS if which == "finished" else ["failure", *SECTIONS]:
        assert page.locator(f"#{name}").is_visible(), name
    picture = page.locator(f".scroll.{'wide' if width > 700 else 'narrow'} svg.graph")
    assert picture.is_visible()
    assert page.locator("svg.graph >> visible=true").count() == 1
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(ground) > 600) == (scheme == "light")
    assert not wrongs
    page.context.close()


def test_a_curve_is_read_with_pointer_and_keys(browser: Browser, finished: Finished) -> None:
    page, wrongs = opened(browser, finished.page, 1280, "light")
    panel = page.locator("figure", has_text="loss").last
    chart, readout = panel.locator("svg"), panel.locator(".readout")
    assert readout.inner_text() == "0.1"
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 44 / 312, box["y"] + 50)
    assert readout.inner_text().startswith("5 at 1, after ")
    page.mouse.move(0, 0)
    assert readout.inner_text() == "0.1"
    page.locator("figure svg").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".readout").first.inner_text().startswith("5 at 1, after ")
    assert not wrongs
    page.context.close()


def test_a_link_to_a_step_opens_it(browser: Browser, finished: Finished) -> None:
    page, _ = opened(browser, finished.page, 1280, "light")
    assert not page.locator("#step-3 .columns").is_visible()
    page.locator(".scroll.wide svg.graph a").filter(has_text="tuned").first.click()
    assert page.locator("#step-3 .columns").is_visible()
    page.context.close()


def test_without_scripts_nothing_is_missing(browser: Browser, finished: Finished) -> None:
    page, wrongs = opened(browser, finished.page, 390, "light", java_script_enabled=False)
    for name in SECTIONS:
        assert page.locator(f"#{name}").is_visible()
    assert page.locator("figure svg path.line").count() == 4
    assert page.locator("figure .readout").last.inner_text()
    assert not wrongs
    page.context.close()


def test_it_can_be_printed(browser: Browser, finished: Finished, tmp_path: Path) -> None:
    page, _ = opened(browser, finished.page, 1280, "dark")
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.context.close()

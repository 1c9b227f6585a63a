"""Planning: what a key depends on and what it does not, what is there already, and what stands in the way."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import PathDistribution, distributions
from pathlib import Path

import pytest

from tests.core.bench import TOYS, Bench, new, told
from tuneforge.environments import version_of
from tuneforge.errors import RefusedError
from tuneforge.plan import Plan, make_plan
from tuneforge.recipe import read_recipe
from tuneforge_registry import Registry

RECIPE = """steps:
  words: {format: split, with: {path: text.txt}}
  bag: {train: count, data: [words]}
  note: {align: remark, bag: bag}
"""
SHARE = "  share: {publish: share, bag: bag, with: {to: out.json}}\n"


def statuses(plan: Plan) -> dict[str, str]:
    return {step.name: step.status for step in plan.steps.values()}


def to_run(plan: Plan) -> list[str]:
    assert not plan.errors, told(plan.findings)
    return [step.name for step in plan.steps.values() if step.status == "run"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a run of the recipe."""
    made = new(tmp_path_factory.mktemp("finished"))
    made.run(RECIPE)
    return made.home


@pytest.fixture
def done(bench: Bench, finished: Path) -> Bench:
    """A bench where the recipe has been run."""
    shutil.copytree(finished, bench.home)
    return bench


def test_a_finished_recipe_is_cached_with_its_results(done: Bench) -> None:
    plan = done.plan(RECIPE)
    assert set(statuses(plan).values()) == {"cached"}
    assert all(step.key and step.result and step.result.digest in plan.registry for step in plan.steps.values())
    assert all(step.result and step.result.facts.digest == step.result.digest for step in plan.steps.values())


def test_before_the_first_run_what_waits_has_no_key(bench: Bench) -> None:
    plan = bench.plan(RECIPE)
    assert statuses(plan) == dict.fromkeys(["words", "bag", "note"], "run")
    assert plan.steps["words"].key
    assert plan.steps["words"].reason == "new, or something it depends on changed"
    assert plan.steps["note"].key is None
    assert plan.steps["note"].reason == "waits for bag"
    assert plan.steps["note"].result and plan.steps["note"].result.kind.kind == "note", "its kind is known all the same"


def test_planning_writes_nothing(bench: Bench) -> None:
    bench.plan(RECIPE)
    assert not bench.home.exists()


@pytest.mark.parametrize(
    ("settings", "again"),
    [
        (["steps.words.with.limit=4"], ["words", "bag", "note"]),
        (["steps.words.with.clean.lower=true"], ["words", "bag", "note"]),
        (["steps.bag.with.top=2"], ["bag", "note"]),
        (["steps.bag.with.rate=5e-1"], ["bag", "note"]),
        (["steps.note.with.text=hm"], ["note"]),
        (["seed=1"], ["words", "bag", "note"]),
    ],
)
def test_what_counts_runs_exactly_what_depends_on_it(done: Bench, settings: list[str], again: list[str]) -> None:
    assert to_run(done.plan(RECIPE, *settings)) == again


@pytest.mark.parametrize(
    "settings",
    [
        ["steps.words.with.chatty=true"],
        ["steps.words.with.clean.echo=true"],
        ["steps.words.with.limit=0", "steps.bag.with.top=3", "steps.bag.with.rate=1"],
        ["steps.words.with.clean={}"],
        ["steps.words.with.clean={echo: true, lower: false}", "steps.words.with.chatty=true"],
        ["steps.words.with.clean={lower: false, drop: ''}"],
        ["steps.words.with.clean={lower: off}"],
        ["steps.bag.data=words"],
        ["steps.note.as=note"],
        ["seed=0"],
        ["description=anything"],
    ],
)
def test_what_does_not_count_runs_nothing(done: Bench, settings: list[str]) -> None:
    assert to_run(done.plan(RECIPE, *settings)) == []


def test_a_nested_option_that_does_not_count_does_not_count_beside_one_that_does(bench: Bench) -> None:
    keys = {
        bench.plan(RECIPE, f"steps.words.with.clean={{lower: true, echo: {echo}}}").steps["words"].key
        for echo in ("true", "false")
    }
    assert len(keys) == 1


def test_one_changed_row_runs_again_and_the_same_rows_do_not(done: Bench) -> None:
    text = done.folder / "text.txt"
    before = text.read_text()
    text.write_text(before + " b")
    assert to_run(done.plan(RECIPE)) == ["words", "bag", "note"]
    text.write_text(before)
    os.utime(text, ns=(1, 1))
    assert to_run(done.plan(RECIPE)) == []
    text.rename(done.folder / "copy")
    shutil.copyfile(done.folder / "copy", text)
    assert to_run(done.plan(RECIPE)) == []


def test_the_name_of_a_source_does_not_count(done: Bench) -> None:
    (done.folder / "text.txt").rename(done.folder / "other.txt")
    plan = done.plan(RECIPE, "steps.words.with.path=other.txt")
    assert to_run(plan) == []


def test_a_folder_counts_by_the_names_and_contents_of_its_files(bench: Bench) -> None:
    folder = bench.folder / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/a.txt").write_text("a")

    def key() -> str | None:
        return bench.plan(RECIPE, "steps.words.with.path=texts").steps["words"].key

    first = key()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/a.pyc").write_text("noise")
    assert key() == first
    (folder / "deep/a.txt").rename(folder / "deep/b.txt")
    assert key() != first
    (folder / "deep/b.txt").rename(folder / "deep/a.txt")
    assert key() == first
    (folder / "deep/a.txt").write_text("b")
    assert key() != first


def test_the_layout_of_the_recipe_does_not_count(done: Bench) -> None:
    plan = done.plan("""# another layout
steps:
  bag:
    data:
      - words
    train: "count"
  words:

    with:
      path: "text.txt"
    format: split
  note: {align: remark, bag: bag}
""")
    assert to_run(plan) == []


def test_names_of_steps_count_only_for_what_reads_the_lineage(done: Bench) -> None:
    done.run(RECIPE + SHARE)
    renamed = (RECIPE + SHARE).replace("  bag:", "  sack:").replace("bag: bag", "bag: sack")
    assert to_run(done.plan(renamed)) == ["share"]
    assert to_run(done.plan(RECIPE + SHARE, "name=other")) == ["share"]
    assert to_run(done.plan(RECIPE + SHARE)) == []


def test_a_lineage_tells_how_all_was_made_and_no_place_of_this_machine(done: Bench) -> None:
    done.run(RECIPE + SHARE)
    lineage = json.loads((done.folder / "out.json").read_text())
    assert lineage["recipe"] == "recipe"
    words, bag = lineage["steps"]
    assert words["config"] == {"path": words["config"]["path"], "clean": {"lower": False, "drop": ""}, "limit": 0}
    assert words["config"]["path"].startswith("text.txt@")
    assert words["summary"] == {"words": 8}
    assert bag["inputs"] == {"data": ["words"]}
    assert (bag["name"], bag["stage"], bag["method"], bag["kind"]) == ("bag", "train", "count", "bag")
    assert str(done.folder) not in json.dumps(lineage)
    assert str(TOYS.parent) not in json.dumps(lineage)


def test_one_changed_line_of_a_local_plugin_runs_its_steps_again(bench: Bench) -> None:
    # A process imports a plugin once, so each plan has a process of its own.
    (bench.folder / "mine.py").write_text(TOYS.read_text())
    (bench.folder / "r.yaml").write_text(f"plugins: [mine.py]\n{RECIPE}")
    assert bench.finish("run", "r.yaml").code == 0

    def to_run() -> list[str]:
        return [
            step["name"] for step in bench.finish("plan", "r.yaml", "--json").json["steps"] if step["status"] == "run"
        ]

    os.utime(bench.folder / "mine.py")
    assert to_run() == []
    with (bench.folder / "mine.py").open("a") as file:
        file.write("# another line\n")
    assert to_run() == ["words", "bag", "note"]


def test_a_raised_version_runs_again(done: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = done.read(RECIPE)
    monkeypatch.setattr(recipe.steps["bag"].kind, "version", 2)
    assert to_run(done.plan(RECIPE)) == ["bag", "note"]


def test_the_order_of_a_list_of_inputs_counts(bench: Bench) -> None:
    recipe = """steps:
  a: {format: split, with: {path: text.txt}}
  b: {format: split, with: {path: text.txt, limit: 2}}
  bag: {train: count, data: [a, b]}
"""
    bench.run(recipe)
    assert to_run(bench.plan(recipe)) == []
    assert to_run(bench.plan(recipe, "steps.bag.data=[b, a]")) == ["bag"]


def test_two_steps_with_one_key_are_done_once(bench: Bench) -> None:
    record = bench.run("""steps:
  a: {format: split, with: {path: text.txt}}
  b: {format: split, with: {path: text.txt}}
""")
    assert [step["status"] for step in record["steps"]] == ["done", "cached"]


def test_from_and_until_and_again(done: Bench) -> None:
    recipe = RECIPE + "  grade: {evaluate: grade, bags: [bag]}\n"
    assert statuses(done.plan(recipe, until="bag")) == {
        "words": "cached",
        "bag": "cached",
        "note": "skipped",
        "grade": "skipped",
    }
    assert statuses(done.plan(recipe, start="note")) == {
        "words": "cached",
        "bag": "cached",
        "note": "cached",
        "grade": "skipped",
    }
    assert to_run(done.plan(recipe, start="bag")) == ["grade"]
    assert to_run(done.plan(recipe, again=["bag"])) == ["bag", "note", "grade"]
    assert done.plan(recipe, again=["bag"]).steps["bag"].reason == "asked for with --again"
    assert to_run(done.plan(recipe, start="bag", until="note", again=["bag"])) == ["bag", "note"]


def test_from_needs_the_side_branches_of_later_steps_too(bench: Bench) -> None:
    side = "  other: {format: split, with: {path: text.txt, clean: {lower: true}}}\n"
    recipe = RECIPE + side + "  both: {train: count, data: [words, other]}\n  last: {align: remark, bag: both}\n"
    bench.run(recipe, until="bag")
    plan = bench.plan(recipe, start="words")
    assert [finding.problem for finding in plan.errors] == ["words needs other, whose result is not there"]


def test_steps_in_a_ladder_are_ordered_in_no_time(bench: Bench) -> None:
    rungs = "".join(f"  s{number}: {{train: count, data: [s{number - 1}, s{number - 2}]}}\n" for number in range(2, 60))
    recipe = "steps:\n  s0: {format: split, with: {path: text.txt}}\n  s1: {format: split, with: {path: text.txt}}\n"
    assert list(bench.read(recipe + rungs).steps) == [f"s{number}" for number in range(60)]


def test_from_needs_what_comes_before(bench: Bench) -> None:
    plan = bench.plan(RECIPE, start="note")
    assert statuses(plan) == {"words": "blocked", "bag": "blocked", "note": "run"}
    assert [finding.problem for finding in plan.errors] == [
        "note needs words, whose result is not there",
        "note needs bag, whose result is not there",
    ]


def test_until_is_not_stopped_by_what_comes_after(bench: Bench) -> None:
    recipe = RECIPE + "  later: {format: split, with: {path: gone.txt}}\n"
    assert [finding.problem for finding in bench.plan(recipe).errors] == [f"there is no file {bench.folder}/gone.txt"]
    assert to_run(bench.plan(recipe, until="bag")) == ["words", "bag"]
    assert bench.plan(recipe, until="bag").steps["later"].status == "skipped"


@pytest.mark.parametrize("option", ["start", "until", "again"])
def test_an_option_that_names_no_step_is_refused(bench: Bench, option: str) -> None:
    name = {"start": "--from", "until": "--until", "again": "--again"}[option]
    value = ["bga"] if option == "again" else "bga"
    with pytest.raises(RefusedError, match=f"^{name}: there is no step bga\n    Did you mean bag"):
        bench.plan(RECIPE, **{option: value})
    for broken in ("steps:", "steps: 3", "steps: [x]"):
        assert bench.plan(broken, **{option: value}).errors, "the recipe's own problem is told instead"


def test_wires_of_the_wrong_kind_are_told_all_at_once(bench: Bench) -> None:
    plan = bench.plan("""steps:
  words: {format: split, with: {path: text.txt}}
  bag: {train: count, data: [words, bag0]}
  bag0: {train: count, data: [words]}
  note: {align: remark, bag: words}
  grade: {evaluate: grade, bags: [bag0, note0], words: bag1}
  note0: {align: remark, bag: bag0}
  bag1: {train: count, data: [words], with: {tpo: 1}}
""")
    place = f"{bench.folder}/recipe.yaml"
    assert sorted((finding.place, finding.problem, finding.fix) for finding in plan.errors) == [
        (f"{place}:4:23", "data takes list of words, but bag0 gives bag", "Steps that do: words."),
        (f"{place}:6:25", "bag takes bag or note, but words gives words", "Steps that do: bag0."),
        (f"{place}:7:28", "bags takes list of bag, but note0 gives note", "Steps that do: bag0."),
        (f"{place}:7:49", "words takes words, but bag1 gives bag", "Steps that do: words."),
        (f"{place}:9:46", "train: count has no option tpo", "Did you mean top?"),
    ]


def test_the_kind_of_a_result_may_depend_on_the_configuration(bench: Bench) -> None:
    recipe = RECIPE + "  again: {train: count, data: [words]}\n  graded: {evaluate: grade, bags: [note]}\n"
    assert len(bench.plan(recipe).errors) == 1
    assert not bench.plan(recipe, "steps.note.with.whole=true").errors


def test_nothing_is_said_of_a_kind_that_hangs_on_a_wrong_configuration(bench: Bench) -> None:
    recipe = RECIPE + "  again: {train: count, data: [words]}\n  graded: {evaluate: grade, bags: [note]}\n"
    (problem,) = bench.plan(recipe, "steps.note.with.whole=true", "steps.note.with.text=[]").errors
    assert problem.problem.startswith("text: ")


def test_findings_point_at_the_option_that_is_wrong(bench: Bench) -> None:
    plan = bench.plan("""steps:
  gone: {format: split, with: {path: gone.txt}}
  odd:
    format: split
    with:
      path: text.txt
      clean:
        drop: "?"
""")
    assert told(plan.findings) == [
        f"{bench.folder}/recipe.yaml:3:32: there is no file {bench.folder}/gone.txt\n    Name one that is there.",
        f"{bench.folder}/recipe.yaml:9:9: warning: a question mark is no letter\n    Name letters.",
    ]
    assert [finding.level for finding in plan.errors] == ["error"]


def test_a_source_that_cannot_be_read_is_a_finding(bench: Bench) -> None:
    (bench.folder / "loop").symlink_to("loop")
    for path in ("loop", "x" * 300, "text.txt/below"):
        (finding,) = bench.plan(RECIPE, f"steps.words.with.path={path}").errors
        assert finding.place.startswith("--set steps.words.with.path") or finding.place.endswith("recipe.yaml:3:3")


def test_a_step_may_take_an_artifact_of_the_registry(done: Bench) -> None:
    done.run(RECIPE, "steps.bag.as=roses")
    recipe = "steps:\n  note: {align: remark, bag: 'registry:roses', with: {text: hm}}\n"
    plan = done.plan(recipe)
    assert to_run(plan) == ["note"]
    assert plan.steps["note"].key, "its inputs are there"
    assert done.run(recipe)["steps"][0]["status"] == "done"
    digest = plan.references["registry:roses"].digest
    for reference in ("roses@v1", digest):
        assert to_run(done.plan(recipe.replace("roses", str(reference)))) == []
    done.run(RECIPE, "steps.bag.as=roses", "steps.bag.with.top=1", until="bag")
    assert to_run(done.plan(recipe)) == ["note"], "the name means another artifact now"


def test_a_reference_to_nothing_is_told_with_its_place(done: Bench) -> None:
    done.run(RECIPE, "steps.bag.as=roses")
    plan = done.plan(
        "steps:\n  a: {align: remark, bag: 'registry:rose'}\n  b: {align: remark, bag: 'registry:roses@gone'}\n"
        "  c: {train: count, data: ['registry:roses']}\n"
    )
    places = [finding.place.removeprefix(f"{done.folder}/recipe.yaml:") for finding in plan.errors]
    assert places == ["3:22", "4:22", "5:21"]
    assert plan.errors[2].problem == "data takes list of words, but registry:roses gives bag"


def test_what_was_published_and_is_gone_is_published_again(done: Bench) -> None:
    done.run(RECIPE + SHARE)
    assert to_run(done.plan(RECIPE + SHARE)) == []
    assert to_run(done.plan(RECIPE + SHARE, "steps.share.with.to=elsewhere.json")) == ["share"]
    (done.folder / "out.json").unlink()
    plan = done.plan(RECIPE + SHARE)
    assert to_run(plan) == ["share"]
    assert plan.steps["share"].reason == "what was published is gone or changed"


def test_a_result_that_was_lost_is_made_again(done: Bench) -> None:
    bag = done.plan(RECIPE).steps["bag"].result
    assert bag
    (done.home / "manifests" / f"{bag.digest}.json").unlink()
    assert to_run(done.plan(RECIPE)) == ["bag", "note"]


def test_a_damaged_cache_of_digests_is_no_trouble(done: Bench) -> None:
    for content in ("", "[]", "{", '{"a": 3}', "\udc80"):
        (done.home / "sources.json").write_bytes(content.encode(errors="surrogateescape"))
        assert to_run(done.plan(RECIPE)) == []
    (done.home / "sources.json").unlink()
    (done.home / "sources.json").mkdir()
    assert to_run(done.plan(RECIPE)) == []


def test_keys_are_the_same_everywhere(new_bench: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for name in ("here", "there"):
        made = new_bench(name)
        monkeypatch.chdir(made.folder)
        keys.append(make_plan(read_recipe(made.write(RECIPE)), Registry(made.home)).steps["words"].key)
    assert keys[0] == keys[1]


def test_a_folder_that_cannot_be_written_is_told_by_plan(bench: Bench) -> None:
    (bench.folder / "file").write_text("")
    ended = bench.command("plan", str(bench.write(RECIPE)), TUNEFORGE_HOME=str(bench.folder / "file" / "home"))
    assert ended.code == 2
    assert f"the registry cannot be written: {bench.folder}/file" in ended.err
    assert "Traceback" not in ended.err


def test_versions_are_those_that_importlib_tells(tmp_path: Path) -> None:
    for kind, name in (("egg-info", "PKG-INFO"), ("dist-info", "METADATA")):
        folder = tmp_path / f"old-1.0.{kind}"
        folder.mkdir()
        (folder / name).write_text("Metadata-Version: 2.1\nName: old\nVersion: 1.0.post1\n\nVersion: 2 is to come.\n")
        assert version_of(PathDistribution(folder)) == "1.0.post1"
    for installed in distributions():
        assert version_of(installed) == installed.version

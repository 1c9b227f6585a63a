"""Carrying out a plan: results and records, the ways a step can die, and what is left when everything is killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.core.bench import Bench, new, statuses, step_of
from tuneforge import __version__
from tuneforge.events import Event, Progressed, Started
from tuneforge.runner import Run
from tuneforge_registry import Registry

RECIPE = """steps:
  words: {format: split, with: {path: text.txt}}
  bag: {train: count, data: [words], with: {top: 2}}
  note: {align: remark, bag: bag}
"""
DOOMED = """steps:
  words: {format: split, with: {path: text.txt}}
  bag: {train: doom, words: words, with: {how: WAY}}
  note: {align: remark, bag: bag}
"""
PATIENT = """steps:
  words: {format: split, with: {path: text.txt}}
  bag: {train: patient, words: words, with: {parts: 4, pause: 0.2, seen: seen.txt}}
  note: {align: remark, bag: bag}
"""


@dataclass(frozen=True)
class Finished:
    """A run of the recipe, for tests that only look."""

    bench: Bench
    record: dict[str, Any]
    events: list[Event]

    @property
    def registry(self) -> Registry:
        return Registry(self.bench.home)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    made = new(tmp_path_factory.mktemp("finished"))
    record = made.run(RECIPE)
    return Finished(made, record, list(made.events))


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def alive(*pids: int) -> list[int]:
    """Those that still run; who is dead but not buried does not."""
    found = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(pid, 0)
            status = Path(f"/proc/{pid}/stat")
            if not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
    return found


@pytest.fixture
def started(bench: Bench) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command line, and ends it should the test not."""
    processes = []

    def start(*arguments: str, **settings: str) -> subprocess.Popen[str]:
        processes.append(bench.start(*arguments, **settings))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_run_makes_every_step_and_tells_of_it(finished: Finished) -> None:
    record = finished.record
    assert (record["status"], statuses(record)) == ("done", dict.fromkeys(["words", "bag", "note"], "done"))
    bag = step_of(record, "bag")
    content = (finished.registry.tree(bag["digest"]) / "bag.json").read_text()
    assert json.loads(content) == {"a": 3.0, "rose": 3.0}
    assert bag["metrics"] == {"kinds": 3}
    events = [type(event).__name__ for event in finished.events if event.step == "bag"]
    assert (events[0], events[-1]) == ("Started", "Ended")


def test_the_same_again_does_nothing_and_knows_the_figures(finished: Finished) -> None:
    second = finished.bench.run(RECIPE, f"steps.words.with.path={finished.bench.folder}/text.txt")
    assert set(statuses(second).values()) == {"cached"}
    assert not [event for event in finished.bench.events if isinstance(event, Started)]
    for name in statuses(second):
        before, after = step_of(finished.record, name), step_of(second, name)
        for key in ("digest", "kind", "metrics", "key"):
            assert before[key] == after[key]


def test_a_record_tells_how_everything_was_made(bench: Bench) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(bench.folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    bench.write(RECIPE)
    (bench.folder / ".gitignore").write_text("home\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()

    record = bench.run(RECIPE)
    assert bench.plan(RECIPE).registry.run(record["id"]) == json.loads(json.dumps(record))
    assert record["git"] == {"commit": commit, "dirty": False}
    assert record["environments"]["this"]["tuneforge"] == __version__
    assert record["machine"]["processors"] == os.cpu_count()
    assert record["started"] < record["ended"]
    assert record["file"] == (bench.folder / "recipe.yaml").read_text()
    bag = step_of(record, "bag")
    assert bag["config"] == {"top": 2, "rate": 1.0, "unheard": 0}
    assert bag["inputs"] == {"data": [step_of(record, "words")["digest"]]}
    assert (bag["environment"], bag["version"], bag["seed"]) == ("this", 1, 0)
    assert 1e6 < bag["peak_memory"] < 1e9
    assert 0 < bag["seconds"] < 60

    (bench.folder / "text.txt").write_text("changed")
    record = bench.run(RECIPE, "steps.bag.with.top=1")
    assert record["git"] == {"commit": commit, "dirty": True}
    assert record["data"]["steps"]["bag"]["with"] == {"top": 1}


def test_the_registry_knows_where_a_result_comes_from(finished: Finished) -> None:
    record, registry = finished.record, finished.registry
    lineage = registry.lineage(step_of(record, "note")["digest"])
    assert lineage.step and lineage.step["name"] == "note"
    assert registry.manifest(lineage.digest).base == step_of(record, "bag")["digest"], "a note sits on its bag"
    (bag,) = lineage.inputs["bag"]
    (words,) = bag.inputs["data"]
    assert words.digest == step_of(record, "words")["digest"]


def test_two_folders_and_two_homes_give_the_same_digests(
    new_bench: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for name in ("here", "far-away"):
        made = new_bench(name)
        monkeypatch.chdir(made.folder)
        (made.folder / "copy.py").write_text("raise SystemExit('a file called like a library was taken for it')")
        record = made.run(RECIPE + "  out: {publish: share, bag: bag, with: {to: out.json}}\n")
        digests.append({step["name"]: step["digest"] for step in record["steps"]})
    assert digests[0] == digests[1]
    assert all(digests[0].values())


def test_inputs_come_as_what_the_method_calls_them(bench: Bench) -> None:
    recipe = (
        RECIPE + "  second: {align: remark, bag: note, with: {text: hm}}\n  grade: {evaluate: grade, bags: [bag]}\n"
    )
    record = bench.run(recipe)
    bag, second = step_of(record, "bag")["digest"], step_of(record, "second")["digest"]
    registry = bench.plan(recipe).registry
    assert registry.manifest(second).base == bag, "the base of a base is the bag"
    report = json.loads((registry.tree(step_of(record, "grade")["digest"]) / "report.json").read_text())
    assert report["scores"] == {bag: {"kept": 2}}
    assert report["of"] is None, "an input with a default may be left out"


def test_a_result_may_be_named_at_once_or_later(bench: Bench) -> None:
    registry = bench.plan(RECIPE).registry
    digest = step_of(bench.run(RECIPE), "bag")["digest"]
    bench.run(RECIPE, "steps.bag.as=roses")
    assert "registered as roses@v1" in bench.said(), "though it was cached"
    bench.run(RECIPE, "steps.bag.as=roses")
    other = step_of(bench.run(RECIPE, "steps.bag.as=roses", "steps.bag.with.top=1"), "bag")["digest"]
    assert registry.names()["roses"].versions == {1: digest, 2: other}


def test_what_a_step_prints_goes_to_its_log(finished: Finished) -> None:
    log = (finished.bench.home / "runs" / finished.record["id"] / "bag.log").read_text()
    assert "to standard output\n" in log
    assert "to standard error\n" in log


def test_what_a_step_says_is_told_and_logged(bench: Bench) -> None:
    record = bench.run(RECIPE, "steps.words.with={path: text.txt, chatty: true, clean: {echo: true}}")
    assert bench.said() == ["split text.txt"]
    assert "split text.txt\n" in (bench.home / "runs" / record["id"] / "words.log").read_text()
    progress = [(event.done, event.total) for event in bench.events if isinstance(event, Progressed)]
    assert progress == [(done, 8) for done in range(1, 9)]


def test_an_option_that_nothing_read_is_told(bench: Bench) -> None:
    bench.run(RECIPE, "steps.bag.with={unheard: 3, top: 1}", "steps.words.with.clean={drop: a, lower: true}")
    assert bench.said() == ["warning: unheard was set, but nothing read it in this step"]


@pytest.mark.parametrize(
    ("way", "error"),
    [
        ("kill", "step bag: its process was killed (SIGKILL)\n    Most often the system ran out of memory"),
        ("mute", "step bag: its process was killed (SIGKILL)\n    Most often the system ran out of memory"),
        ("segv", "step bag: its process crashed in native code (SIGSEGV)\n    The step's log shows where."),
        ("raise", "step bag: ValueError: oh no\n    Its log: "),
        ("refuse", "step bag: it cannot be done\n    Do something else."),
        ("exit", "step bag: its process ended with exit code 3 and no word\n    See the step's log."),
        ("numbers", "step bag: TypeError: Object of type complex is not JSON serializable"),
        ("nothing", "step bag: it ended and has written nothing\n    The method doom is at fault, not the recipe."),
        ("half", "step bag: its result cannot be read as a bag: FileNotFoundError: "),
        ("garbled", "step bag: its result cannot be read as a bag: JSONDecodeError: "),
        ("path", "step bag: bag.json of its result names a folder that it was made in or of"),
    ],
)
def test_a_step_that_dies_is_a_failed_step(bench: Bench, way: str, error: str) -> None:
    recipe = DOOMED.replace("WAY", way)
    record = bench.run(recipe)
    assert record["status"] == "failed"
    assert statuses(record) == {"words": "done", "bag": "failed", "note": "skipped"}
    assert step_of(record, "bag")["error"].startswith(error)
    assert bench.plan(recipe).steps["bag"].status == "run", "nothing of it is kept"
    assert not list((bench.home / "tmp").iterdir())
    log = (bench.home / "runs" / record["id"] / "bag.log").read_text()
    assert {"raise": "in run\n", "segv": "Fatal Python error: Segmentation fault"}.get(way, "") in log


def test_a_result_that_lacks_files_of_its_kind_is_refused(bench: Bench) -> None:
    recipe = """steps:
  base: {load_model: builtin}
  bad: {train: hollow, model: base}
"""
    (bench.folder / "hollow.py").write_text("""from tuneforge import Field, Model, Step, Train, hookimpl
class Hollow(Train):
    "A model without weights."
    name = "hollow"
    def run(self, model: Model, step: Step) -> None:
        (step.out / "config.json").write_text("{}")
@hookimpl
def register_train(): return [Hollow]
""")
    record = bench.run(recipe, "plugins=[hollow.py]")
    assert step_of(record, "bad")["error"] == (
        "step bad: it ended without *.safetensors, tokenizer.json, which every model has\n"
        "    The method hollow is at fault, not the recipe."
    )


def test_a_result_that_names_the_folder_of_its_input_is_refused(bench: Bench) -> None:
    (bench.folder / "nosy.py").write_text("""import contextlib
import json
from tuneforge import Field, Model, Report, Step, Evaluate, hookimpl
class Nosy(Evaluate):
    "Tells where the model lies."
    name = "nosy"
    def run(self, model: Model, step: Step) -> None:
        (step.out / "report.json").write_text(json.dumps({"model": str(model.path)}))
@hookimpl
def register_evaluate(): return [Nosy]
""")
    record = bench.run(
        "steps:\n  base: {load_model: builtin}\n  bad: {evaluate: nosy, model: base}\n", "plugins=[nosy.py]"
    )
    assert step_of(record, "bad")["error"].startswith("step bad: report.json of its result names a folder")


def test_a_crash_leaves_no_child_of_the_step(bench: Bench) -> None:
    bench.run(DOOMED.replace("WAY", "kill"), "steps.bag.with.pids=pids")
    pids = [int(pid) for pid in Path("pids").read_text().split()]
    wait_for(lambda: not alive(*pids), 10)


def test_the_command_ends_with_1_and_json_when_a_step_fails(bench: Bench) -> None:
    path = str(bench.write(DOOMED.replace("WAY", "raise")))
    ended = bench.command("--debug", "run", path, "--json")
    assert ended.code == 1
    assert ended.json["status"] == "failed"
    assert statuses(ended.json) == {"words": "done", "bag": "failed", "note": "skipped"}
    assert step_of(ended.json, "bag")["error"].startswith("step bag: ValueError: oh no")
    assert "step bag: ValueError: oh no" in ended.err
    assert "in run\n    raise ValueError" in ended.err


def test_json_is_one_document_with_all_of_a_run(bench: Bench) -> None:
    path = str(bench.write(RECIPE))
    plan = bench.command("plan", path, "--json")
    assert plan.code == 0
    assert [(step["name"], step["status"]) for step in plan.json["steps"]] == [
        ("words", "run"),
        ("bag", "run"),
        ("note", "run"),
    ]
    run = bench.command("run", path, "--json").json
    assert set(run) == {"run", "recipe", "status", "report", "steps"}
    for step in run["steps"]:
        assert set(step) == {"name", "stage", "method", "status", "seconds", "digest", "kind", "metrics"}
    assert [step["kind"] for step in run["steps"]] == ["words", "bag", "note"]
    assert statuses(bench.command("run", path, "--json").json) == dict.fromkeys(["words", "bag", "note"], "cached")


@pytest.mark.parametrize("command", ["plan", "run"])
def test_json_tells_findings_when_a_recipe_is_refused(bench: Bench, command: str) -> None:
    ended = bench.command(command, str(bench.write(RECIPE)), "--json", "--set", "steps.bag.with.tpo=1")
    assert ended.code == 2
    (finding,) = ended.json["findings"]
    assert (finding["level"], finding["place"]) == ("error", "--set steps.bag.with.tpo")
    assert not bench.home.exists()
    ended = bench.command(command, str(bench.folder / "recipe.yaml"), "--json", "--until", "nowhere")
    assert ended.code == 2
    assert [finding["problem"] for finding in ended.json["findings"]] == ["there is no step nowhere"]


@pytest.mark.parametrize("way", ["sleep", "stuck"])
def test_the_death_of_the_run_ends_the_step_and_all_it_started(
    bench: Bench, started: Callable[..., subprocess.Popen[str]], way: str
) -> None:
    bench.write(DOOMED.replace("how: WAY", f"how: {way}, pids: pids"))
    run = started("run", "recipe.yaml")
    pids = [int(pid) for pid in wait_for(lambda: Path("pids").exists() and Path("pids").read_text()).split()]
    assert alive(*pids) == pids, "the worker's server, the step, and what it started"
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_for(lambda: not alive(*pids), 10)


@pytest.mark.parametrize("way", ["sleep", "stuck"])
def test_the_death_of_the_server_ends_the_step_and_is_told(
    bench: Bench, started: Callable[..., subprocess.Popen[str]], way: str
) -> None:
    bench.write(DOOMED.replace("how: WAY", f"how: {way}, pids: pids"))
    run = started("run", "recipe.yaml")
    pids = [int(pid) for pid in wait_for(lambda: Path("pids").exists() and Path("pids").read_text()).split()]
    os.kill(pids[0], signal.SIGKILL)
    _, err = run.communicate(timeout=20)
    assert run.returncode == 1
    assert "step bag: its process was killed (SIGKILL)" in err
    assert "Traceback" not in err
    wait_for(lambda: not alive(*pids), 10)
    assert not list((bench.home / "tmp").iterdir())


def test_a_run_that_cannot_go_on_ends_its_step_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or an interrupt, must not leave a step at work in a folder that is being removed."""
    plan = bench.plan(PATIENT)
    pids: list[list[int]] = []

    def watch(event: Event) -> None:
        if isinstance(event, Progressed):
            pids.append([int(word) for word in Path("seen.txt").read_text().splitlines()[0].split()[1:]])
            raise OSError(28, "No space left on device")

    remove = shutil.rmtree

    def checked_remove(path: Path, *arguments: Any, **options: Any) -> None:
        assert not pids or not alive(*pids[0])
        remove(path, *arguments, **options)

    monkeypatch.setattr(shutil, "rmtree", checked_remove)
    record = Run(plan, watch, threads=1).carry_out()
    assert pids
    assert statuses(record) == {"words": "done", "bag": "failed", "note": "skipped"}
    assert "No space left on device" in step_of(record, "bag")["error"]


def test_a_full_disk_is_told_as_what_it_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Registry, "write_run", full)
    ended = bench.command("run", str(bench.write(RECIPE)))
    assert ended.code == 1
    assert "the disk is full, or your share of it\n    Free space; the same command then goes on.\n" in ended.err
    monkeypatch.undo()
    monkeypatch.chdir(bench.folder)
    assert bench.command("run", "recipe.yaml").code == 0


def test_a_run_that_is_killed_in_its_first_step_is_known_as_interrupted(
    bench: Bench, started: Callable[..., subprocess.Popen[str]]
) -> None:
    bench.write("steps:\n  bag: {train: doom, with: {how: sleep, pids: pids}}\n")
    run = started("run", "recipe.yaml")
    wait_for(lambda: Path("pids").exists())
    (running,) = bench.plan(RECIPE).registry.runs().values()
    assert running["status"] == "running"
    run.kill()
    run.wait()
    (killed,) = bench.plan(RECIPE).registry.runs().values()
    assert (killed["id"], killed["status"]) == (running["id"], "interrupted")


def test_a_run_clears_away_what_killed_ones_left(bench: Bench, started: Callable[..., subprocess.Popen[str]]) -> None:
    bench.write(DOOMED.replace("how: WAY", "how: sleep, pids: pids"))
    run = started("run", "recipe.yaml")
    wait_for(lambda: Path("pids").exists())
    run.kill()
    run.wait()
    assert list((bench.home / "tmp").iterdir())
    assert list((bench.home / "locks").glob("run-*"))
    bench.run(RECIPE)
    assert not list((bench.home / "tmp").iterdir())
    assert not list((bench.home / "locks").glob("run-*"))


def test_ctrl_c_ends_with_130_and_leaves_nothing(bench: Bench, started: Callable[..., subprocess.Popen[str]]) -> None:
    bench.write(DOOMED.replace("how: WAY", "how: sleep, pids: pids"))
    run = started("run", "recipe.yaml")
    pids = [int(pid) for pid in wait_for(lambda: Path("pids").exists() and Path("pids").read_text()).split()]
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "interrupted: finished steps are kept" in err
    assert "Traceback" not in err
    wait_for(lambda: not alive(*pids), 10)
    assert not list((bench.home / "tmp").iterdir())
    (record,) = bench.plan(RECIPE).registry.runs().values()
    assert record["status"] == "interrupted"
    assert statuses(record) == {"words": "done"}
    assert bench.plan(RECIPE).steps["words"].status == "cached"


def test_killed_in_the_middle_and_started_again_it_goes_on_and_gives_the_same(
    bench: Bench, new_bench: Callable[[str], Bench], started: Callable[..., subprocess.Popen[str]]
) -> None:
    bench.write(PATIENT)
    run = started("run", "recipe.yaml")
    seen = bench.folder / "seen.txt"
    wait_for(lambda: seen.exists() and seen.read_text().count("\n") >= 2)
    _, step, server = (int(word) for word in seen.read_text().splitlines()[0].split())
    for pid in (server, run.pid, step):
        with contextlib.suppress(ProcessLookupError):  # each dies with the others
            os.kill(pid, signal.SIGKILL)
    run.wait()
    record = bench.run(PATIENT)
    assert statuses(record) == {"words": "cached", "bag": "done", "note": "done"}
    assert sorted(line[0] for line in seen.read_text().splitlines()) == ["0", "1", "2", "3"], "none was worked on twice"
    undisturbed = new_bench("undisturbed").run(
        PATIENT, "steps.bag.with.pause=0", f"steps.words.with.path={bench.folder}/text.txt"
    )
    assert [step["digest"] for step in undisturbed["steps"]] == [step["digest"] for step in record["steps"]]
    assert not list((bench.home / "scratch").iterdir()), "checkpoints of finished steps are gone"


def test_two_runs_at_once_do_a_step_once(bench: Bench, started: Callable[..., subprocess.Popen[str]]) -> None:
    bench.write(PATIENT)
    runs = [started("run", "recipe.yaml", "--json") for _ in range(2)]
    told = [json.loads(run.communicate(timeout=60)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    for name in ("words", "bag", "note"):
        assert sorted(step_of(record, name)["status"] for record in told) == ["cached", "done"]
        assert len({step_of(record, name)["digest"] for record in told}) == 1
    assert (bench.folder / "seen.txt").read_text().count("\n") == 4


def test_no_step_inherits_what_another_did(bench: Bench) -> None:
    (bench.folder / "stateful.py").write_text("""import os
from tuneforge import Field, Format, Report, Step, hookimpl
seen = []
class Stateful(Format):
    "Remembers."
    name = "stateful"
    output = Report
    number: int = Field(description="Makes another key.")
    def run(self, step: Step) -> None:
        seen.append(self.number)
        os.environ["REMEMBERED"] = os.environ.get("REMEMBERED", "") + "x"
        (step.out / "report.json").write_text('{"scores": {}}')
        step.metrics(seen=seen, remembered=os.environ["REMEMBERED"])
@hookimpl
def register_format(): return [Stateful]
""")
    recipe = "steps:\n  a: {format: stateful, with: {number: 1}}\n  b: {format: stateful, with: {number: 2}}\n"
    record = bench.run(recipe, "plugins=[stateful.py]")
    assert step_of(record, "a")["metrics"] == {"seen": [1], "remembered": "x"}
    assert step_of(record, "b")["metrics"] == {"seen": [2], "remembered": "x"}


def test_figures_are_told_as_json_can(bench: Bench) -> None:
    (bench.folder / "lost.py").write_text("""from tuneforge import Format, Report, Step, hookimpl
class Lost(Format):
    "Diverges."
    name = "lost"
    output = Report
    def run(self, step: Step) -> None:
        class Scalar:
            def item(self): return 2.5
        (step.out / "report.json").write_text("{}")
        step.progress(1, 2, loss=Scalar())
        step.metrics(loss=float("nan"), by={"x": float("inf"), "y": Scalar()})
@hookimpl
def register_format(): return [Lost]
""")
    (bench.folder / "r.yaml").write_text("plugins: [lost.py]\nsteps: {lost: {format: lost}}\n")
    assert bench.command("run", "r.yaml", "--json").json["steps"][0]["metrics"] == {
        "loss": None,
        "by": {"x": None, "y": 2.5},
    }


CHANGING = '''\
from pathlib import Path
from tuneforge import *

class Note(Artifact):
    """A note."""
    kind = "note-of-changes"

class Slow(Format):
    """Reads a file, which somebody changes meanwhile."""
    name = "slow"
    output = Note
    path: Source = Field(description="What to read.")
    change: str = Field("", description="Which file to change.")
    def run(self, step: Step) -> None:
        text = Path(self.path).read_text()
        if self.change:
            Path(self.change).write_text(Path(self.change).read_text() + "\\n# more\\n")
        (step.out / "note.txt").write_text(text + "FACTOR 1")

@hookimpl
def register_format(): return [Slow]
'''


@pytest.mark.parametrize("changed", ["text.txt", "mine.py"])
def test_what_was_changed_while_it_was_read_is_not_taken(bench: Bench, changed: str) -> None:
    (bench.folder / "mine.py").write_text(CHANGING)
    path = bench.folder / "r.yaml"
    path.write_text(
        "plugins: [mine.py]\nsteps:\n"
        f"  slow: {{format: slow, with: {{path: text.txt, change: {bench.folder / changed}}}}}\n"
    )
    failed = bench.command("run", "r.yaml", "--json")
    assert failed.code == 1
    assert "a file that it reads was changed while it ran" in failed.json["steps"][0]["error"]
    assert bench.command("plan", "r.yaml", "--json").json["steps"][0]["status"] == "run"


def test_a_local_plugin_is_run_as_it_is_written_now(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")
    mine = bench.folder / "mine.py"
    (bench.folder / "r.yaml").write_text("plugins: [mine.py]\nsteps: {slow: {format: slow, with: {path: text.txt}}}\n")
    digests = []
    for factor in ("1", "2"):
        mine.write_text(CHANGING.replace("FACTOR 1", f"FACTOR {factor}"))
        os.utime(mine, (1_700_000_000, 1_700_000_000))  # same second, same size: kept bytecode would pass for it
        digests.append(bench.command("run", "r.yaml", "--json").json["steps"][0]["digest"])
    assert digests[0] != digests[1]


def test_a_kind_that_only_a_configuration_tells_can_be_stored(bench: Bench) -> None:
    (bench.folder / "mine.py").write_text(
        CHANGING.replace(
            "    def run(self",
            "    def writes(self, kinds): return Other\n    def run(self",
        ).replace("class Slow", 'class Other(Note):\n    """Another."""\n    kind = "other-note"\n\nclass Slow')
    )
    (bench.folder / "r.yaml").write_text("plugins: [mine.py]\nsteps: {slow: {format: slow, with: {path: text.txt}}}\n")
    assert bench.command("run", "r.yaml", "--json").json["steps"][0]["kind"] == "other-note"
    assert bench.command("plan", "r.yaml", "--json").json["steps"][0]["status"] == "cached"

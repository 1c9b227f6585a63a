"""Steps on several processes: what a recipe may ask for, and that the processes are there, are heard, and all end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.core.bench import Bench, step_of, told
from tests.core.test_runner import alive, wait_for
from tuneforge import plan
from tuneforge.errors import StepError
from tuneforge.launch import nodes
from tuneforge.launch.hardware import Hardware, hardware
from tuneforge.launch.options import Launch, launch_settings
from tuneforge.plan import Plan
from tuneforge.recipe import read_recipe

RECIPE = """steps:
  words: {format: split, with: {path: text.txt}}
  song: {train: choir, words: words, launch: LAUNCH, with: {how: HOW}}
"""


def recipe(launch: str, how: str = "sing") -> str:
    return RECIPE.replace("LAUNCH", launch).replace("HOW", how)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    def be(gpus: int, cores: int) -> None:
        monkeypatch.setattr(plan, "hardware", lambda: Hardware(gpus, cores))

    return be


@pytest.mark.parametrize(
    ("launch", "wanted"),
    [
        ("{processes: 2}", "2 processes, abreast"),
        ("{processes: 2, in-turn: {part: line}}", "2 processes, in-turn"),
        ("{processes: auto, strategy: in-turn}", "4 processes, in-turn"),
        ("{}", "4 processes, abreast"),
        ("{processes: 2, nodes: 3, rendezvous: 'node-0:29500'}", "2 processes on each of 3 nodes, abreast"),
        ("{processes: 1}", "None"),
        ("{processes: 1, strategy: in-turn}", "1 process, in-turn"),
    ],
)
def test_what_is_asked_for(launch: str, wanted: str, bench: Bench, machine: Any) -> None:
    machine(4, 8)
    made = bench.plan(recipe(launch))
    assert not made.errors, told(made.findings)
    assert str(made.steps["song"].launch) == wanted


@pytest.mark.parametrize(
    ("launch", "problem", "fix"),
    [
        ("2", "launch: is a block", "launch: {processes: 2}"),
        ("{processes: 0}", "processes: input should be greater than or equal to 1, not 0", "processes takes "),
        ("{processes: many}", "processes: input should be a valid integer", "processes takes "),
        ("{proceses: 2}", "launch has no option proceses", "Did you mean processes?"),
        ("{nproc_per_node: 2}", "launch has no option nproc_per_node", "It is called processes here."),
        ("{abreat: {loud: true}}", "launch has no option abreat", "Did you mean abreast?"),
        ("{strategy: in_turn}", "train: choir cannot be launched with in_turn", "Did you mean in-turn?"),
        ("{abreast: {volume: 1}}", "launch: abreast has no option volume", "It is called loud here."),
        ("{abreast: {}, in-turn: {}}", "abreast and in-turn are different strategies", "Keep the settings of one."),
        ("{strategy: abreast, in-turn: {}}", "the strategy is abreast, and these are settings of in-turn", "Keep one"),
        ("{processes: 9}", "9 processes on a machine with 8 processors, and no GPU", "Set processes to 8 or less"),
        ("{in-turn: {part: verse}}", "there is no GPU to sing a verse on", "Sing lines."),
        ("{processes: 2, nodes: 2}", "2 nodes do not know where to meet", "Set rendezvous to host:port of node 0"),
        ("{processes: 2, rendezvous: here}", "'here' is not of the form host:port", "For example node-0:29500."),
        ("{processes: 8, nodes: 9, rendezvous: 'a:1'}", "64 seats for 72 singers", "Add seats."),
    ],
)
def test_what_cannot_be_is_told_with_its_place(launch: str, problem: str, fix: str, bench: Bench, machine: Any) -> None:
    machine(0, 8)
    (found,) = bench.plan(recipe(launch)).errors
    assert found.problem.startswith(problem)
    assert found.fix.startswith(fix)
    assert ":4:" in found.place


def test_more_processes_than_gpus(bench: Bench, machine: Any) -> None:
    machine(2, 64)
    (found,) = bench.plan(recipe("{processes: 3}")).errors
    assert str(found.problem) == "3 processes on a machine with 2 GPUs"


def test_a_method_that_works_alone_is_not_launched(bench: Bench) -> None:
    text = "steps:\n  words: {format: split, launch: {processes: 2}, with: {path: text.txt}}\n"
    (found,) = bench.plan(text).errors
    assert found.problem == "format: split works in one process and cannot be launched on several"


def test_the_command_line_launches_what_can_be(bench: Bench, machine: Any) -> None:
    machine(0, 8)
    text = recipe("{processes: 3, abreast: {loud: true}}")
    read = read_recipe(bench.write(text), launch=["processes=2", "abreast.loud=false"])
    made = plan.make_plan(read, bench.plan(text).registry)
    launch = made.steps["song"].launch
    assert launch is not None
    assert launch.to_json() == {
        "processes": 2,
        "nodes": 1,
        "rendezvous": None,
        "strategy": "abreast",
        "settings": {"loud": False},
    }
    assert Launch.of_json(type(made.steps["song"].method), launch.to_json()) == launch
    assert made.steps["words"].launch is None
    alone = read_recipe(bench.write("steps: {words: {format: split, with: {path: text.txt}}}"), launch=["processes=2"])
    assert told(alone.problems) == [
        "--launch: no step of this recipe can be launched on several processes\n    Leave --launch out."
    ]


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (None, []),
        ("processes=2,", ["processes=2"]),
        (" processes=2, strategy=ddp", ["processes=2", "strategy=ddp"]),
        ("fsdp.wrap=[A, B],nodes=2", ["fsdp.wrap=[A, B]", "nodes=2"]),
        ("in-turn={part: line, of: 2},nodes=2", ["in-turn={part: line, of: 2}", "nodes=2"]),
    ],
)
def test_the_parts_of_a_launch_on_the_command_line(given: str | None, parts: list[str]) -> None:
    assert launch_settings(given) == parts


def test_a_launch_without_values_is_refused_by_its_own_name(bench: Bench) -> None:
    ended = bench.command("plan", str(bench.write(recipe("{}"))), "--launch", "processes")
    assert ended.code == 2
    told = "--launch: 'processes' is not of the form key=value\n    For example --launch processes=2,strategy=ddp.\n"
    assert ended.err == told


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        ("def requires(self, facts): raise ValueError('what?')", "ValueError: what?"),
        ("def requires(self, facts): return ('no requirement',)", "InvalidRequirement: "),
        ("def check_launch(self, launch, facts): raise ValueError('what?')", "ValueError: what?"),
    ],
)
def test_a_method_that_breaks_while_it_is_spread_is_told_with_its_plugin(
    member: str, problem: str, bench: Bench
) -> None:
    (bench.folder / "solo.py").write_text(f"""from tuneforge import Step, Train, hookimpl
from tuneforge import Strategy
class Side(Strategy):
    "Side by side."
    name = "side"
class Solo(Train):
    "Sings."
    name = "solo"
    strategies = (Side,)
    {member}
    def run(self, step: Step) -> None: ...
@hookimpl
def register_train(): return [Solo]
""")
    text = "plugins: [solo.py]\nsteps: {song: {train: solo, launch: {processes: 2}}}\n"
    (bench.folder / "recipe.yaml").write_text(text)
    ended = bench.command("plan", "recipe.yaml")
    assert ended.code == 2
    assert f"plugin solo.py: Solo failed while it was planned: {problem}" in ended.err


def test_steps_that_meet_at_two_places_are_refused(bench: Bench, machine: Any) -> None:
    machine(0, 8)
    text = recipe("{processes: 1, nodes: 2, rendezvous: 'a:1'}")
    text += "  more: {train: choir, words: words, launch: {processes: 1, nodes: 2, rendezvous: 'b:1'}}\n"
    assert told(bench.plan(text).errors) == [
        f"{bench.folder}/recipe.yaml:5:71: song meets at a:1, and more at b:1\n"
        "    Give all steps of a recipe one rendezvous."
    ]
    assert not bench.plan(text.replace("b:1", "a:1")).errors


def test_a_launch_counts_for_no_key_and_a_cached_step_needs_no_hardware(bench: Bench, machine: Any) -> None:
    machine(0, 8)
    keys = {bench.plan(recipe(launch)).steps["song"].key for launch in ("{processes: 2}", "{strategy: in-turn}")}
    keys.add(bench.plan(recipe("{}").replace("launch: {}, ", "")).steps["song"].key)
    assert len(keys) == 1
    bench.run(recipe("{processes: 1}"))
    machine(0, 1)
    assert not bench.plan(recipe("{processes: 2}")).findings


def test_needs_of_a_strategy_are_those_of_its_steps(bench: Bench, machine: Any) -> None:
    machine(0, 8)

    def needs(launch: str) -> tuple[str, ...]:
        environment = bench.plan(recipe(launch)).steps["song"].environment
        assert environment
        return environment.needs

    assert needs("{processes: 2}") == ()
    assert needs("{strategy: in-turn}") == ("packaging>=20",)


def test_gpus_are_counted_as_they_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneforge.launch.hardware._nvidia_gpus", lambda: 4)
    for visible, count in ((None, 4), ("0,2", 2), ("", 0), ("-1", 0), ("0,1,2,3,4,5", 4)):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert hardware().gpus == count


# What follows starts torchrun, which imports torch.


def singers(home: Path) -> dict[int, list[str]]:
    """By rank: pid, pid of the parent, threads of the step, and of OpenMP."""
    return {int(path.name[7:]): path.read_text().split()[1:] for path in home.glob("scratch/*/singer-*")}


@pytest.mark.slow
def test_ranks_carry_a_step_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "torch.py").write_text("raise SystemExit('a file called like a library was taken for it')")
    record = bench.run(recipe("{processes: 2, abreast: {loud: true}}"))
    song = step_of(record, "song")
    assert song["status"] == "done", song["error"]
    folder = bench.plan(recipe("{}")).registry.tree(song["digest"])
    assert json.loads((folder / "bag.json").read_text()) == {"world": 2, "loud": True}
    assert not (folder / "by-1").exists(), "what another rank has written"
    assert bench.said() == ["rank 0 of 2"], "the others are silent"
    assert song["metrics"] == {"prepared": True, "rank": 0}
    assert song["launch"]["processes"] == 2
    log = (bench.home / "runs" / record["id"] / "song.log").read_text()
    assert {"[rank 0] sung by 0", "[rank 1] sung by 1", "rank 0 of 2"} <= set(log.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("raise", "step song: rank 1: a false note\n    Sing it right."),
        ("kill", "step song: rank 1: its process was killed (SIGKILL)"),
    ],
)
def test_a_rank_that_fails_says_why(how: str, problem: str, bench: Bench) -> None:
    record = bench.run(recipe("{processes: 2}", how))
    assert step_of(record, "song")["error"].startswith(problem)
    assert step_of(record, "song")["launch"]["processes"] == 2
    ranks = singers(bench.home)
    assert sorted(ranks) == [0, 1]
    assert {tuple(rank[2:]) for rank in ranks.values()} == {("1", "1")}
    assert not alive(*(int(rank[0]) for rank in ranks.values())), "the other one sang on"


@pytest.fixture
def started(bench: Bench) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        processes.append(bench.start(*arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ranks_of(bench: Bench, count: int) -> list[int]:
    """The ids of ranks, and of those that have started them, once all sing."""
    found = wait_for(lambda: singers(bench.home) if len(singers(bench.home)) == count else None)
    return [int(pid) for rank in found.values() for pid in rank[:2]]


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["run", pytest.param("torchrun", marks=pytest.mark.whole)])
def test_all_ranks_die_with_the_run(whom: str, bench: Bench, started: Any) -> None:
    """Though they never come back from native code."""
    command = started("run", str(bench.write(recipe("{processes: 2}", "sleep"))))
    pids = ranks_of(bench, 2)
    assert alive(*pids) == pids
    os.kill(command.pid if whom == "run" else pids[1], signal.SIGKILL)
    wait_for(lambda: not alive(*pids))
    _, err = command.communicate(timeout=60)
    if whom == "torchrun":
        assert "torchrun: its process was killed (SIGKILL)" in err


@pytest.mark.slow
def test_an_interrupted_launch_leaves_nothing_in_the_folder_for_temporary_files(
    bench: Bench, started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    command = started("run", str(bench.write(recipe("{processes: 2}", "sleep"))))
    ranks_of(bench, 2)
    assert [path.name for path in folder.glob("tuneforge-*/*") if path.is_fifo()]
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=60)
    assert not list(folder.glob("tuneforge-*"))


def test_what_went_wrong_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that is killed is to blame, unless torchrun did it because another one had failed."""
    from tuneforge.launch import torchrun

    monkeypatch.setattr(torchrun, "_GRACE", 0.2)
    launch = {"nodes": 2}
    order = tmp_path / f"song{torchrun.ORDER}"

    def why(failed: dict[int, float], *ended: dict[int, tuple[int, float]]) -> str:
        for path in tmp_path.iterdir():
            path.unlink()
        for rank, when in failed.items():
            failure = {"rank": rank, "time": when, "problem": f"problem {rank}", "fix": "", "traceback": ""}
            torchrun.write_whole(torchrun.beside(order, f"failed-{rank}"), failure)
        for node, exits in enumerate(ended):
            torchrun.write_whole(torchrun.beside(order, f"ended-{node}"), exits)
        return str(torchrun._why(order, launch, 1)["problem"])

    assert why({1: 10.0, 0: 10.5}, {0: (1, 11), 1: (1, 11)}) == "rank 1: problem 1"
    assert why({0: 10.5}, {0: (1, 10), 1: (-9, 10)}) == "rank 1: its process was killed (SIGKILL)"
    assert why({0: 10.5}, {0: (1, 10)}, {2: (-11, 10)}).startswith("rank 2: its process crashed in native code")
    assert why({0: 10.5}, {0: (1, 11), 1: (-15, 11), 2: (-9, 42)}) == "rank 0: problem 0"
    assert why({}, {}) == "torchrun: its process ended with exit code 1 and no word"


# Several nodes


@pytest.mark.slow
def test_two_nodes_share_a_home(bench: Bench, started: Any) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    path = str(bench.write(recipe("{processes: 1}")))
    asked = ("run", path, "--launch", f"nodes=2,rendezvous={meeting}", "--node")
    second, first = started(*asked, "1"), started(*asked, "0")
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert "song: done" in out
    _, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert "song: 1 of its ranks run here" in said
    assert "node 0 has ended: done" in said
    (record,) = bench.plan(recipe("{}")).registry.runs().values()
    assert json.loads(
        (bench.plan(recipe("{}")).registry.tree(step_of(record, "song")["digest"]) / "bag.json").read_text()
    ) == {
        "world": 2,
        "loud": False,
    }
    assert "[rank 1] sung by 1" in (bench.home / "runs" / record["id"] / "song.node-1.log").read_text()
    assert len([step for step in record["steps"] if step["status"] == "done"]) == 2


@pytest.mark.whole
def test_the_others_end_when_node_0_dies(bench: Bench, started: Any) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    path = str(bench.write(recipe("{processes: 1}", "sleep")))
    asked = ("run", path, "--launch", f"nodes=2,rendezvous={meeting}", "--node")
    second, first = started(*asked, "1"), started(*asked, "0")
    pids = ranks_of(bench, 2)
    first.kill()
    _, said = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "node 0 has ended: interrupted" in said
    wait_for(lambda: not alive(*pids))


def follower(bench: Bench) -> Plan:
    return bench.plan(recipe("{processes: 1, nodes: 2, rendezvous: 'a:29500'}"))


def test_a_node_that_comes_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_WAIT", 0.5)
    with pytest.raises(StepError, match="node 0 has not begun within"):
        nodes.follow(follower(bench), 1, 1, lambda text: None)
    ended = bench.run(recipe("{processes: 1}"))["id"]
    made = follower(bench)
    assert nodes.rendezvous_of(made) is None, "it is all there already"
    made.steps["song"].status = "run"
    nodes.lead(made.registry, "a:29500", ended)
    with pytest.raises(StepError, match="node 0 has not begun within"):  # what ended before we came is another run
        nodes.follow(made, 1, 1, lambda text: None)


def test_nodes_that_have_nothing_to_do(bench: Bench) -> None:
    said: list[str] = []
    assert nodes.follow(bench.plan(recipe("{processes: 1}")), 1, 1, said.append) == 0
    assert said == ["nothing is to be done on several nodes"]


# Slurm


def job(bench: Bench, *arguments: str) -> str:
    ended = bench.command("sbatch", str(bench.write(recipe("{processes: 2}"))), *arguments)
    assert ended.code == 0, ended.err
    (bench.folder / "job.sh").write_text(ended.out)
    subprocess.run(["bash", "-n", str(bench.folder / "job.sh")], check=True)
    return ended.out


def play(bench: Bench, node: str) -> list[str]:
    """What the job's command line is on a node, with Slurm's programs played."""
    programs = bench.folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "scontrol").write_text("#!/bin/sh\nprintf 'tall-1\\ntall-2\\n'\n")
    (programs / "srun").write_text('#!/bin/sh\n[ "$1" = --kill-on-bad-exit=1 ] && shift\nexec "$@"\n')
    (programs / "tuneforge").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    script = bench.folder / "job.sh"
    tuneforge = str(Path(sys.executable).with_name("tuneforge"))
    assert tuneforge in script.read_text()
    script.write_text(script.read_text().replace(tuneforge, str(programs / "tuneforge")))
    slurm = {"SLURM_JOB_NODELIST": "tall-[1-2]", "SLURM_JOB_ID": "50123", "SLURM_NODEID": node}
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", str(script)], env=os.environ | slurm | path, capture_output=True, text=True, check=True
    )
    return ended.stdout.splitlines()


def test_a_job_for_slurm(bench: Bench) -> None:
    script = job(
        bench, "--nodes", "2", "--gpus", "8", "--set", "steps.song.with.seats=99 ", "--launch", "strategy=in-turn",
        "--option", "time=24:00:00",
    )  # fmt: skip
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    wanted = {"nodes=2", "ntasks-per-node=1", "gpus-per-node=8", "time=24:00:00", "job-name=recipe", "requeue"}
    assert wanted <= {line.removeprefix("#SBATCH --") for line in lines}
    assert play(bench, "1") == [
        *("--home", str(bench.home), "run", str(bench.folder / "recipe.yaml"), "--set", "steps.song.with.seats=99 "),
        *("--launch", "nodes=2,processes=8,strategy=in-turn,rendezvous=tall-1:30123", "--node", "1"),
    ]


def test_a_job_for_one_node(bench: Bench) -> None:
    assert "rendezvous" not in job(bench, "--gpus", "0")
    assert play(bench, "0")[-2:] == ["--launch", "nodes=1,processes=1"]


def test_a_job_is_named_so_that_slurm_can_read_it(bench: Bench) -> None:
    lines = job(bench, "--set", "name=my songs/new").splitlines()
    assert {"#SBATCH --job-name=my-songs-new", "#SBATCH --output=my-songs-new-%j.log"} <= set(lines)


def test_a_job_is_checked_for_the_machines_it_is_for(bench: Bench) -> None:
    path = str(bench.write(recipe("{in-turn: {part: verse}}")))
    assert bench.command("sbatch", path, "--gpus", "4").code == 0, "this machine has no GPU, and need not have"
    ended = bench.command("sbatch", path, "--nodes", "9", "--gpus", "8")
    assert (ended.code, ended.out) == (2, "")
    assert "64 seats for 72 singers" in ended.err

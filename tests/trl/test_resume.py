"""A training that is killed, or carried out elsewhere, ends with the same bytes."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crashes.power import watched
from tuneforge import Adapter, ChatData, Model, PreferenceData
from tuneforge.stages import Method
from tuneforge_trl import checkpoints
from tuneforge_trl.checkpoints import FINISHED, newest
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.preferences.kto import Kto
from tuneforge_trl.sft import Sft
from tuneforge_trl.watching import callback as watch

pytestmark = pytest.mark.slow

SHORT = {"batch_size": 2, "learning_rate": 1e-2, "log_every": 1, "save_every": 4}
LORA = {"type": "lora", "r": 8, "dropout": 0.2}
PACKED_LORA = Sft(**SHORT, steps=11, packing=True, max_length=32, adapter=LORA)
WHOLE = Sft(**SHORT, steps=7)
MUON = Sft(**SHORT, steps=7, optimizer="muon")
PREFERENCES = Dpo(**SHORT, steps=7, adapter={"r": 8})
JUDGED = Kto(**SHORT, steps=7, adapter={"r": 8})


def killed_at(step: int, folder: Path, method: Method, model: Model | Adapter, data: Any, carry_out: Any) -> None:
    """Carries a method out in a process of its own, which dies by kill -9 after a step."""

    def send(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["done"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(
        target=carry_out, args=(method, model, data, folder), kwargs={"send": send}
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("method", [WHOLE, MUON, PREFERENCES, JUDGED], ids=["whole", "muon", "dpo", "kto"])
def test_killed_and_started_again(
    method: Sft | Dpo | Kto, base: Model, make_chats: Any, make_pairs: Any, carry_out: Any, tmp_path: Path
) -> None:
    data = make_chats() if isinstance(method, Sft) else make_pairs()
    wanted = carry_out(method, base, data)
    killed_at(6, tmp_path, method, base, data, carry_out)
    assert_resumed(carry_out(method, base, data, tmp_path), wanted, after=4)


def test_killed_and_started_again_with_packing_and_dropout(
    wanted: Any, killed: Path, base: Model, make_chats: Any, carry_out: Any, tmp_path: Path
) -> None:
    assert not any((killed / "out").iterdir())
    folder = shutil.copytree(killed, tmp_path / "copy")
    assert_resumed(carry_out(PACKED_LORA, base, make_chats(), folder), wanted, after=8)


def assert_resumed(resumed: Any, wanted: Any, after: int) -> None:
    assert resumed.log[0] == f"resuming after step {after}"
    assert resumed.losses == wanted.losses[after:]
    assert resumed.files() == wanted.files()
    assert resumed.figures == wanted.figures


def test_a_continued_adapter_resumes_with_the_reference_it_had(
    base: Model, make_chats: Any, make_pairs: Any, carry_out: Any, tmp_path: Path
) -> None:
    adapter = carry_out(PACKED_LORA, base, make_chats()).result
    method, data = Dpo(**SHORT, steps=6), make_pairs()
    wanted = carry_out(method, adapter, data)
    killed_at(5, tmp_path, method, adapter, data, carry_out)
    resumed = carry_out(method, adapter, data, tmp_path)
    assert resumed.losses == wanted.losses[4:]
    assert resumed.files() == wanted.files()


@pytest.fixture(scope="module")
def wanted(base: Model, make_chats: Any, carry_out: Any) -> Any:
    return carry_out(PACKED_LORA, base, make_chats())


@pytest.fixture(scope="module")
def killed(base: Model, make_chats: Any, carry_out: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that died after step 10, with checkpoints of steps 4 and 8."""
    folder = tmp_path_factory.mktemp("killed")
    killed_at(10, folder, PACKED_LORA, base, make_chats(), carry_out)
    return folder


def unmark(checkpoint: Path) -> None:
    (checkpoint / FINISHED).unlink()


def cut_mark(checkpoint: Path) -> None:
    mark = checkpoint / FINISHED
    mark.write_bytes(mark.read_bytes()[:100])


def empty_mark(checkpoint: Path) -> None:
    mark = checkpoint / FINISHED
    mark.write_bytes(bytes(mark.stat().st_size))


def cut_weights(checkpoint: Path) -> None:
    weights = checkpoint / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])


def lose_optimizer(checkpoint: Path) -> None:
    (checkpoint / "optimizer.pt").unlink()


def empty_weights(checkpoint: Path) -> None:
    """What a power cut may leave of a file whose bytes were not yet on disk."""
    weights = checkpoint / "adapter_model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))


def flip_bit(checkpoint: Path) -> None:
    state = checkpoint / "optimizer.pt"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)


DAMAGES: dict[Callable[[Path], None], str] = {
    unmark: "it is half-written",
    cut_mark: f"its {FINISHED} cannot be read",
    empty_mark: f"its {FINISHED} cannot be read",
    cut_weights: "adapter_model.safetensors is not what was written",
    lose_optimizer: "optimizer.pt is gone",
    empty_weights: "adapter_model.safetensors is not what was written",
    flip_bit: "optimizer.pt is not what was written",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_of_a_damaged_checkpoint_nothing_is_used_but_the_one_before(
    damage: Callable[[Path], None],
    wanted: Any,
    killed: Path,
    base: Model,
    make_chats: Any,
    carry_out: Any,
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(killed, tmp_path / "copy")
    damage(folder / "scratch" / "checkpoints" / "checkpoint-8")
    resumed = carry_out(PACKED_LORA, base, make_chats(), folder)
    assert resumed.log[:2] == [f"checkpoint-8 is not used: {DAMAGES[damage]}", "resuming after step 4"]
    assert resumed.losses == wanted.losses[4:]
    assert resumed.files() == wanted.files()
    assert resumed.figures == wanted.figures


def test_without_a_whole_checkpoint_it_begins_anew(
    wanted: Any, killed: Path, base: Model, make_chats: Any, carry_out: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(killed, tmp_path / "copy")
    unmark(folder / "scratch" / "checkpoints" / "checkpoint-8")
    flip_bit(folder / "scratch" / "checkpoints" / "checkpoint-4")
    resumed = carry_out(PACKED_LORA, base, make_chats(), folder)
    assert resumed.log[2] == "there is no whole checkpoint: beginning anew"
    assert resumed.losses == wanted.losses
    assert resumed.files() == wanted.files()
    assert resumed.figures == wanted.figures


def test_what_is_killed_while_it_saves_has_two_checkpoints_left(
    base: Model, make_chats: Any, carry_out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old checkpoint makes room only when its successor is marked: until then it is one of the two newest."""
    finish = checkpoints.finish

    def killed_before_the_mark(checkpoint: Path) -> None:
        if checkpoint.name == "checkpoint-6":
            os.kill(os.getpid(), signal.SIGKILL)
        finish(checkpoint)

    monkeypatch.setattr(checkpoints, "finish", killed_before_the_mark)
    method = Sft(steps=7, batch_size=2, save_every=2, adapter=LORA)
    killed_at(99, tmp_path, method, base, make_chats(), carry_out)
    folder = tmp_path / "scratch" / "checkpoints"
    assert {path.parent.name for path in folder.glob(f"*/{FINISHED}")} == {"checkpoint-2", "checkpoint-4"}
    assert newest(folder, print) == folder / "checkpoint-4"
    assert not (folder / "checkpoint-6").exists()


def test_two_checkpoints_are_kept_whatever_the_clock_says(
    base: Model, make_chats: Any, carry_out: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "scratch" / "checkpoints"

    def send(event: dict[str, Any]) -> None:
        later = time.time() + 3600  # as if the clock had been put back by an hour
        for checkpoint in folder.glob("checkpoint-*"):
            os.utime(checkpoint, (later, later))

    carry_out(Sft(steps=7, batch_size=2, save_every=2, adapter=LORA), base, make_chats(), tmp_path, send=send)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-4", "checkpoint-6"]
    found = newest(folder, print)
    assert found == folder / "checkpoint-6"
    digests = json.loads((found / FINISHED).read_text())
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"} <= digests.keys()
    assert newest(folder / "nowhere", print) is None


def test_a_checkpoint_is_on_disk_when_it_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkpoints"
    with watched(monkeypatch, tmp_path) as disk:
        for step in (1, 2, 3):
            checkpoint = folder / f"checkpoint-{step}"
            (checkpoint / "ref").mkdir(parents=True)
            for name in ("weights", "ref/weights"):
                (checkpoint / name).write_text(f"{name} {step}")
            checkpoints.finish(checkpoint)
            assert disk.may_be_lost(checkpoint) == []
        assert disk.hollow == []
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-2", "checkpoint-3"]


def test_slow_steps_are_saved_by_the_clock_with_the_same_result(
    base: Model, make_chats: Any, carry_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, data = Sft(**SHORT | {"save_every": 99}, steps=7, adapter=LORA), make_chats()
    wanted = carry_out(method, base, data)
    assert not list((wanted.step.scratch / "checkpoints").iterdir())
    monkeypatch.setattr(watch, "_UNSAVED", 0)
    monkeypatch.setattr(watch, "_SAVING", 1e9)  # however long a checkpoint takes
    saved = carry_out(method, base, data)
    assert newest(saved.step.scratch / "checkpoints", print).name == "checkpoint-6"
    assert saved.files() == wanted.files()
    assert saved.figures == wanted.figures


ELSEWHERE = """
import sys
from pathlib import Path
from tests.trl.conftest import Run
from tests.trl.test_resume import PACKED_LORA, PREFERENCES
from tuneforge import ChatData, Model, PreferenceData

base, chats, pairs, to = map(Path, sys.argv[1:])
for name in ("sft", "dpo"):
    (to / name).mkdir()
adapter = Run(PACKED_LORA, Model(base, "b" * 64), ChatData(chats, ""), to / "sft").result
Run(PREFERENCES.model_copy(update={"adapter": None}), adapter, PreferenceData(pairs, ""), to / "dpo")
"""


def test_the_same_bytes_elsewhere(
    base: Model, make_chats: Any, make_pairs: Any, carry_out: Any, tmp_path: Path
) -> None:
    """In another process and folder, under another seed of hashes."""
    chats: ChatData = make_chats()
    pairs: PreferenceData = make_pairs()
    here = carry_out(PACKED_LORA, base, chats)
    then = carry_out(PREFERENCES.model_copy(update={"adapter": None}), here.result, pairs)
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, (base.path, chats.path, pairs.path, tmp_path))],
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    for run, name in ((here, "sft"), (then, "dpo")):
        there = {path.name: path.read_bytes() for path in (tmp_path / name / "out").iterdir()}
        assert there == run.files()

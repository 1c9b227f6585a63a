"""A training that is killed, or carried out elsewhere, ends with the same bytes."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tuneforge import Adapter, ChatData, Model, PreferenceData
from tuneforge.stages import Method
from tuneforge_trl.dpo import Dpo
from tuneforge_trl.loop import FINISHED, newest_checkpoint
from tuneforge_trl.sft import Sft

pytestmark = pytest.mark.slow

SHORT = {"batch_size": 2, "learning_rate": 1e-2, "log_every": 1, "save_every": 4}
LORA = {"type": "lora", "r": 8, "dropout": 0.2}
PACKED_LORA = Sft(**SHORT, steps=11, packing=True, max_length=32, adapter=LORA)
WHOLE = Sft(**SHORT, steps=7)
PREFERENCES = Dpo(**SHORT, steps=7, adapter={"r": 8})


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


@pytest.mark.parametrize("method", [WHOLE, PREFERENCES], ids=["whole", "dpo"])
def test_killed_and_started_again(
    method: Sft | Dpo, base: Model, make_chats: Any, make_pairs: Any, carry_out: Any, tmp_path: Path
) -> None:
    data = make_pairs() if isinstance(method, Dpo) else make_chats()
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


def test_a_half_written_checkpoint_is_passed_over(
    wanted: Any, killed: Path, base: Model, make_chats: Any, carry_out: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(killed, tmp_path / "copy")
    (folder / "scratch" / "checkpoints" / "checkpoint-8" / FINISHED).unlink()
    resumed = carry_out(PACKED_LORA, base, make_chats(), folder)
    assert resumed.log[0] == "resuming after step 4"
    assert resumed.files() == wanted.files()


@pytest.mark.parametrize("damage", ["unmarked", "cut short", "gone"])
def test_a_damaged_checkpoint_is_removed(damage: str, killed: Path, tmp_path: Path) -> None:
    checkpoints = shutil.copytree(killed / "scratch" / "checkpoints", tmp_path / "checkpoints")
    newest = checkpoints / "checkpoint-8"
    assert newest_checkpoint(checkpoints) == newest
    if damage == "unmarked":
        (newest / FINISHED).unlink()
    elif damage == "cut short":
        weights = newest / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8])
    else:
        (newest / "optimizer.pt").unlink()
    assert newest_checkpoint(checkpoints) == checkpoints / "checkpoint-4"
    assert not newest.exists()


def test_two_checkpoints_are_kept_and_a_finished_one_lists_its_files(
    base: Model, make_chats: Any, carry_out: Any
) -> None:
    run = carry_out(Sft(steps=7, batch_size=2, save_every=2, adapter=LORA), base, make_chats())
    folder = run.step.scratch / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-4", "checkpoint-6"]
    newest = newest_checkpoint(folder)
    assert newest is not None and newest.name == "checkpoint-6"
    sizes = json.loads((newest / FINISHED).read_text())
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"} <= sizes.keys()
    assert newest_checkpoint(folder / "nowhere") is None


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

"""Options that make a training quicker: what is refused, and what micro batches are made of."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tuneforge_trl.sft import Sft
from tuneforge_trl.speed import options as speed


def found(monkeypatch: pytest.MonkeyPatch, installed: bool, gpu: bool, **options: Any) -> list[tuple[str, str, str]]:
    monkeypatch.setattr(speed, "find_spec", lambda name: SimpleNamespace(name=name) if installed else None)
    monkeypatch.setattr(speed, "_SIGNS_OF_A_GPU", (sys.executable,) if gpu else ("/nowhere",))
    return [(finding.level, finding.field, finding.problem) for finding in Sft(**options).check({})]


def test_what_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"liger": True, "attention": "flash_attention_2"}
    assert found(monkeypatch, False, True, **wanted) == [
        ("error", "attention", "flash-attn is not installed"),
        ("error", "liger", "liger-kernel is not installed"),
    ]
    assert found(monkeypatch, True, True, **wanted) == []


def test_a_gpu_that_is_not_seen_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, True, False, attention="flash_attention_3") == [
        ("warning", "attention", "attention as set needs a GPU, and none is seen here")
    ]
    assert found(monkeypatch, True, False, attention="eager") == []


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert found(monkeypatch, True, True, compile=True) == [
        ("error", "compile", "torch.compile needs a C++ compiler, and there is none")
    ]
    monkeypatch.setenv("CXX", sys.executable)
    assert found(monkeypatch, True, True, compile=True) == []


@pytest.mark.slow
def test_rows_of_a_step_are_the_trainers_own_by_length() -> None:
    from accelerate.data_loader import SeedableRandomSampler

    from tuneforge_trl.rows.batches import ByLength

    lengths = [row * 7 % 10 for row in range(21)]
    order = list(SeedableRandomSampler(lengths, data_seed=3))
    grouped = list(ByLength(SeedableRandomSampler(lengths, data_seed=3), lengths, 8))
    for first in range(0, 21, 8):
        assert sorted(grouped[first : first + 8]) == sorted(order[first : first + 8])
        sizes = [lengths[row] for row in grouped[first : first + 8]]
        assert sizes == sorted(sizes, reverse=True)
    another = ByLength(SeedableRandomSampler(lengths, data_seed=3), lengths, 8)
    another.set_epoch(1)
    assert len(another) == 21 and sorted(another) == list(range(21)) and list(another) != grouped


@pytest.mark.slow
@pytest.mark.parametrize("option", [{"liger": True}, {"attention": "flash_attention_2"}], ids=str)
def test_without_a_gpu_it_ends_before_anything_is_trained(
    option: dict[str, Any], base: Any, make_chats: Any, carry_out: Any
) -> None:
    import torch

    from tuneforge import StepError

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(StepError, match="needs a GPU, and there is none"):
        carry_out(Sft(steps=1, **option), base, make_chats())

"""Training on several processes: the same as on one, really spread as was asked, and resumed to the same bytes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from safetensors.torch import load
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests.trl.colours import CHATS, PAIRS
from tests.trl.together import Together, on_ranks
from tuneforge import Model, Step, StepError
from tuneforge.launch.hardware import Hardware
from tuneforge.launch.options import Launch
from tuneforge.stages import Method
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.preferences.kto import Kto
from tuneforge_trl.preferences.orpo import Orpo
from tuneforge_trl.pretrain import Pretrain
from tuneforge_trl.reward import Reward
from tuneforge_trl.sft import Sft
from tuneforge_trl.spread.ranks import Share
from tuneforge_trl.spread.sharding import assure, assure_equal, deepspeed_settings, repeated_blocks, unsharded
from tuneforge_trl.spread.strategies import Ddp, DeepSpeed, Fsdp

SHORT: dict[str, Any] = {"learning_rate": 1e-2, "log_every": 1, "save_every": 4}
LORA = {"type": "lora", "r": 8}
NOISE = 1e-4
"""Of the length of a matrix: float32 summed in another order, after six steps of AdamW, which divides by the sum."""

# Seven rows in steps of four: of the last three of an epoch, two ranks cannot have equal shares.
SAME: dict[str, Method] = {
    "lora": Sft(**SHORT, steps=6, batch_size=4, micro_batch_size=2, adapter=LORA),
    "whole": Sft(**SHORT, steps=6, batch_size=4, micro_batch_size=1),
    "packed": Sft(**SHORT, steps=6, batch_size=2, packing=True, max_length=32, adapter=LORA),
    "dpo": Dpo(**SHORT, steps=6, batch_size=4, micro_batch_size=2, adapter=LORA),
    "kto": Kto(**SHORT, steps=4, batch_size=8, micro_batch_size=2, adapter=LORA, precompute=True),
    "reward": Reward(**SHORT, steps=4, batch_size=4, micro_batch_size=2, adapter=LORA, evaluate_every=2),
    "pretrain": Pretrain(**SHORT, steps=4, batch_size=4, micro_batch_size=2, max_length=6, adapter=LORA),
}
MORE: dict[str, Method] = {
    "hinge": Dpo(**SHORT, steps=4, batch_size=4, micro_batch_size=2, adapter=LORA, loss="hinge"),
    "ipo": Dpo(**SHORT, steps=4, batch_size=4, micro_batch_size=2, adapter=LORA, loss="ipo"),
    "reward-whole": Reward(**SHORT | {"learning_rate": 1e-3}, steps=4, batch_size=4, micro_batch_size=1),
    "kto-whole": Kto(**SHORT | {"learning_rate": 1e-3}, steps=4, batch_size=4, micro_batch_size=1),
    "orpo": Orpo(**SHORT, steps=4, batch_size=4, micro_batch_size=2, adapter=LORA),
    "nca": Dpo(**SHORT, steps=4, batch_size=4, micro_batch_size=2, adapter=LORA, loss="nca_pair"),
    "dpo-whole": Dpo(**SHORT | {"learning_rate": 1e-3}, steps=4, batch_size=4, micro_batch_size=1),
    "muon": Sft(**SHORT, steps=4, batch_size=4, optimizer="muon"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME)
def test_two_processes_learn_as_one(
    name: str, base: Model, make_chats: Any, make_pairs: Any, make_texts: Any, carry_out: Any, tmp_path: Path
) -> None:
    if name == "pretrain":
        texts = [" has the colour ".join(message["content"] for message in chat["messages"]) for chat in CHATS]
        data = make_texts(texts, texts[:2])
    else:
        data = rows_for(SAME[name], make_chats, make_pairs)
    assert_same(SAME[name], base, data, carry_out, tmp_path)


@pytest.mark.whole
@pytest.mark.parametrize("name", MORE)
def test_two_processes_learn_as_one_with_every_loss(
    name: str, base: Model, make_chats: Any, make_pairs: Any, carry_out: Any, tmp_path: Path
) -> None:
    assert_same(MORE[name], base, rows_for(MORE[name], make_chats, make_pairs), carry_out, tmp_path)


def rows_for(method: Method, make_chats: Any, make_pairs: Any) -> Any:
    if isinstance(method, (Dpo, Kto, Orpo, Reward)):
        assert len(PAIRS) % 4, "else no step is short"
        return make_pairs(held_out=PAIRS[:3])
    return make_chats(held_out=CHATS[:3])


def assert_same(method: Method, base: Model, data: Any, carry_out: Any, folder: Path) -> None:
    one = carry_out(method, base, data)
    assert one.figures.get("sequences", 1) % 4, "else no step is short"
    two = Together(method, base, data, folder)
    assert two.exits == [0, 0], two.problems
    assert two.losses == pytest.approx(one.losses, rel=2e-4)
    assert two.figures["eval_loss"] == pytest.approx(one.figures["eval_loss"], rel=1e-3)
    assert {**two.figures, **one.figures} == {**one.figures}, "the same figures"
    (weights,) = (name for name in one.files() if name.endswith(".safetensors"))
    theirs, ours = load(one.files()[weights]), load(two.files()[weights])
    assert theirs.keys() == ours.keys()
    for key, tensor in theirs.items():
        distance = (ours[key].float() - tensor.float()).norm() / tensor.float().norm()
        assert distance < (NOISE if tensor.dtype == torch.float32 else 2**-8), (key, float(distance))
    assert not list((folder / "thrown-away-1").iterdir()), "what other ranks write is written twice"


@pytest.mark.slow
def test_a_rank_that_has_blank_rows_alone_is_in_no_trouble(base: Model, make_chats: Any, tmp_path: Path) -> None:
    assert len(CHATS) % 2 == 1
    method = Sft(**SHORT, steps=4, batch_size=2, adapter=LORA, monitor={"stop_on": ["no_labels"]})
    two = Together(method, base, make_chats(), tmp_path)
    assert two.exits == [0, 0], two.problems


def by_command(base: Model, folder: Path, launch: str) -> tuple[dict[str, Any], str]:
    """The figures of a training from the command line, launched as given; and what was said."""
    (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in CHATS))
    (folder / "recipe.yaml").write_text(f"""steps:
  base: {{load_model: path, with: {{path: {base.path}}}}}
  chats: {{format: chat, with: {{path: chats.jsonl}}}}
  fit: {{train: sft, model: base, data: chats, with: {{steps: 3, batch_size: 4, learning_rate: 1e-2}}}}
""")
    command = [sys.executable, "-m", "tuneforge.cli", "--home", str(folder / "home"), "run", "--again", "fit"]
    command += ["recipe.yaml", "--json", *(("--launch", launch) if launch else ())]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)["steps"][-1]["metrics"], ended.stderr


@pytest.mark.whole
def test_a_recipe_through_torchrun(base: Model, tmp_path: Path) -> None:
    """Prepared once, trained by two ranks, as by one."""
    one, alone = by_command(base, tmp_path, "")
    two, said = by_command(base, tmp_path, "processes=2")
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
    assert ("on 2 processes, ddp" in alone, "on 2 processes, ddp" in said) == (False, True)


@pytest.mark.slow
def test_killed_and_started_again_on_two_processes(base: Model, make_chats: Any, tmp_path: Path) -> None:
    method = Sft(**SHORT, steps=7, batch_size=2, packing=True, max_length=32, adapter=LORA | {"dropout": 0.2})
    data = make_chats()
    folders = [tmp_path / name for name in ("wanted", "killed")]
    for folder in folders:
        folder.mkdir()
    wanted = Together(method, base, data, folders[0])

    def die(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["done"] == 6 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    killed = Together(method, base, data, folders[1], send=die)
    assert -signal.SIGKILL in killed.exits
    saved = {path.name for path in (folders[1] / "scratch/checkpoints/checkpoint-4").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "finished.json"} <= saved
    again = Together(method, base, data, folders[1])
    assert again.log[1] == "resuming after step 4"
    assert again.losses == wanted.losses[4:]
    assert again.files() == wanted.files()


@pytest.mark.parametrize(
    ("rows", "micro", "accumulated", "world"), [(7, 2, 1, 2), (9, 1, 2, 4), (8, 2, 2, 2), (1, 1, 1, 3)]
)
def test_the_ranks_share_every_row_once(rows: int, micro: int, accumulated: int, world: int) -> None:
    shares = [
        Share(rows, micro=micro, accumulated=accumulated, rank=rank, world_size=world, seed=5) for rank in range(world)
    ]
    for _ in range(2):
        taken = [list(share) for share in shares]
        assert {len(each) for each in taken} == {len(shares[0])}
        assert len({tuple(len(batch) for batch in each) for each in taken}) == 1, "collectives want equal sizes"
        real = [row for each in taken for batch in each for row in batch if row < rows]
        assert sorted(real) == list(range(rows))
    if rows > 1:
        assert [list(share) for share in shares] != taken, "another epoch, another order"


def launched(strategy: Any, processes: int = 2) -> Step:
    return Step("fit", Path(), Path(), 0, 1, lambda event: None, launch=Launch(processes, 1, strategy))


def test_a_launch_that_is_but_one_process_is_told(base: Model) -> None:
    with pytest.raises(StepError, match="2 processes, ddp was asked for, but 1 process works together"):
        assure(nn.Linear(2, 2), launched(Ddp()))


def unwrapped() -> None:
    Accelerator.prepare_model = lambda self, model, *_, **__: model  # type: ignore[method-assign]


@pytest.mark.slow
def test_a_model_that_is_not_spread_as_asked_fails_the_step(base: Model, make_chats: Any, tmp_path: Path) -> None:
    """The lies of libraries: a model that is left as it is, and fsdp that on a CPU is plain ddp."""
    method, data = Sft(**SHORT, steps=2, batch_size=2), make_chats()
    for name, problem, options in (
        ("bare", "2 processes, ddp was asked for, but the model is no DistributedDataParallel", {"before": unwrapped}),
        ("fsdp", "2 processes, fsdp was asked for, but fully_shard was not applied to", {"strategy": Fsdp()}),
    ):
        (tmp_path / name).mkdir()
        told = Together(method, base, data, tmp_path / name, **options)  # type: ignore[arg-type]
        assert told.exits == [1, 1]
        assert all(problem in said for said in told.problems), told.problems


@pytest.mark.whole
@pytest.mark.parametrize("zero", [1, 2, 3])
@pytest.mark.parametrize("adapter", [None, LORA], ids=["whole", "lora"])
def test_deepspeed_on_cpus_learns_as_ddp(zero: Any, adapter: Any, base: Model, make_chats: Any, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="the extra `deepspeed` is not installed")
    method, data = Sft(**SHORT, steps=4, batch_size=4, micro_batch_size=1, adapter=adapter), make_chats()
    told = []
    for strategy in (Ddp(), DeepSpeed(zero=zero)):
        folder = tmp_path / strategy.name
        folder.mkdir()
        told.append(Together(method, base, data, folder, strategy=strategy))
        assert told[-1].exits == [0, 0], told[-1].problems
    ddp, deepspeed = told
    assert deepspeed.losses == pytest.approx(ddp.losses, rel=2e-4)
    for name in ("steps", "trainable_parameters", "total_parameters"):
        assert deepspeed.figures[name] == ddp.figures[name]
    (weights,) = (name for name in ddp.files() if name.endswith(".safetensors"))
    theirs, ours = load(ddp.files()[weights]), load(deepspeed.files()[weights])
    assert theirs.keys() == ours.keys()
    for key, tensor in theirs.items():
        assert (ours[key].float() - tensor.float()).norm() < 2**-8 * tensor.float().norm(), key


def test_deepspeed_is_told_what_was_asked_for() -> None:
    """As far as it can be seen without it."""
    settings = deepspeed_settings(DeepSpeed(zero=3, offload="cpu"))["zero_optimization"]
    assert (settings["stage"], settings["offload_param"]["device"]) == (3, "cpu")
    assert "offload_param" not in deepspeed_settings(DeepSpeed(zero=2, offload="cpu"))["zero_optimization"]


class Engine(nn.Module):
    dp_world_size = 1

    def __init__(self, stage: int) -> None:
        super().__init__()
        self.module, self._stage = nn.Linear(2, 2), stage

    def zero_optimization_stage(self) -> int:
        return self._stage


def test_an_engine_of_another_stage_fails_the_step() -> None:
    step = launched(DeepSpeed(zero=3), processes=1)
    for engine, found in (
        (nn.Linear(2, 2), "the model is no engine of DeepSpeed but a Linear"),
        (Engine(0), "ZeRO's stage is 0"),
        (Engine(3), "weight is whole on every process"),
    ):
        with pytest.raises(StepError, match=f"1 process, deepspeed was asked for, but {found}"):
            assure(engine, step)


def init() -> None:
    dist.init_process_group("gloo")


def test_gradients_that_differ_are_told(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        init()
        assure_equal([torch.ones(3)], launched(Ddp()))
        assure_equal([torch.ones(3), torch.full((2,), float(rank))], launched(Ddp()))

    _, problems = on_ranks(2, work, tmp_path)
    assert problems == ["2 processes, ddp was asked for, but gradients of rank 1 differ from those of rank 0"] * 2


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])


class Pile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 8)
        self.layers = nn.ModuleList([Block() for _ in range(3)])
        self.acts = nn.ModuleList([nn.GELU(), nn.GELU()])


def test_blocks_are_found_in_the_module_tree(base: Model) -> None:
    from tuneforge.kit.models import load_model

    assert repeated_blocks(Pile()) == ["Block"], "not what is inside of blocks, nor what has no weights"
    assert repeated_blocks(load_model(base, dtype=torch.float32)) == ["LlamaDecoderLayer"]


SHARDINGS: dict[str, tuple[Fsdp, Callable[[nn.Module, Any], None], str]] = {}


def sharding(strategy: Fsdp, flaw: str) -> Callable[..., Callable[[nn.Module, Any], None]]:
    def note(shard: Callable[[nn.Module, Any], None]) -> Callable[[nn.Module, Any], None]:
        SHARDINGS[shard.__name__] = (strategy, shard, flaw)
        return shard

    return note


def blockwise(model: Any, mesh: Any, **options: Any) -> None:
    for block in model.layers:
        fully_shard(block, mesh=mesh, **options)
    fully_shard(model, mesh=mesh, **options)


@sharding(Fsdp(), "")
def full(model: nn.Module, mesh: Any) -> None:
    blockwise(model, mesh)


@sharding(Fsdp(shard="grad_op"), "")
def grad_op(model: nn.Module, mesh: Any) -> None:
    blockwise(model, mesh, reshard_after_forward=False)


@sharding(Fsdp(wrap=["Linear"]), "Linear is not wrapped")
def other_blocks(model: nn.Module, mesh: Any) -> None:
    blockwise(model, mesh)


@sharding(Fsdp(shard="grad_op"), "after the forward pass weights are cut up again")
def too_much(model: nn.Module, mesh: Any) -> None:
    blockwise(model, mesh)


@sharding(Fsdp(), "after the forward pass weights are kept")
def too_little(model: nn.Module, mesh: Any) -> None:
    blockwise(model, mesh, reshard_after_forward=False)


@sharding(Fsdp(), "Block is not wrapped")
def at_once(model: nn.Module, mesh: Any) -> None:
    fully_shard(model, mesh=mesh)


@sharding(Fsdp(), "fully_shard was not applied to the model")
def not_at_all(model: nn.Module, mesh: Any) -> None:
    pass


@sharding(Fsdp(), "embedding.weight is whole on every process")
def partly(model: Any, mesh: Any) -> None:
    for block in model.layers:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(model.embedding.parameters()))


@sharding(Fsdp(), "this process holds 100% of the weights")
def on_one_each(model: Any, mesh: Any) -> None:
    blockwise(model, init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard")))


def test_what_fully_shard_does_is_seen(tmp_path: Path) -> None:
    """On two processes: each sharding is taken for what it is."""

    def work(rank: int) -> None:
        init()
        mesh = init_device_mesh("cpu", (2,))
        for name, (strategy, shard, flaw) in SHARDINGS.items():
            model = Pile()
            shard(model, mesh)
            found = unsharded(model, 2, strategy)
            assert flaw in found and bool(flaw) == bool(found), (name, found)
        torch.distributed.barrier()  # the other rank may still need this one to make its groups

    exits, problems = on_ranks(2, work, tmp_path)
    assert exits == [0, 0], problems


def test_what_cannot_be_shared_is_found_before() -> None:
    def told(method: Method, strategy: Any, processes: int = 4) -> list[str]:
        return [finding.problem for finding in method.check_launch(Launch(processes, 1, strategy), {})]

    assert told(Sft(batch_size=8), Ddp()) == []
    assert told(Sft(batch_size=6), Ddp()) == ["batch_size 6 cannot be shared by 4 processes with a row at least each"]
    assert told(Sft(batch_size=8, micro_batch_size=4), Ddp()) == [
        "batch_size 8 cannot be shared by 4 processes with micro batches of 4 rows each"
    ]
    assert told(Sft(batch_size=8, optimizer="muon"), Ddp()) == []
    assert told(Sft(batch_size=8, optimizer="muon"), DeepSpeed()) == [
        "muon works on whole matrices, which no process has with deepspeed"
    ]
    launch = Launch(2, 1, Fsdp())
    assert [finding.problem for finding in Fsdp().check(launch, Hardware(0, 2))] == [
        "fsdp needs a GPU: on a CPU, accelerate leaves it out and trains by plain ddp"
    ]
    assert not list(Fsdp().check(launch, Hardware(2, 2)))


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "fsdp,fsdp.shard=grad_op", "fsdp,fsdp.offload=true"])
def test_the_whole_path_on_gpus(strategy: str, base: Model, tmp_path: Path) -> None:
    one, _ = by_command(base, tmp_path, "")
    spread, said = by_command(base, tmp_path, f"processes=auto,strategy={strategy}")
    assert spread["train_loss"] == pytest.approx(one["train_loss"], rel=2e-2)  # bfloat16
    assert spread["total_parameters"] == one["total_parameters"]
    if strategy.startswith("fsdp"):
        assert "LlamaDecoderLayer" in said, "what is wrapped is told"

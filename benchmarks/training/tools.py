"""The tools that carry out the job: how each is told of it, and the environments of those that need their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import BIN

from .job import ALPHA, LENGTH, RANK, RATE, SEED, Job

_SCRIPT = Path(__file__).with_name("script.py")


def ours(job: Job) -> list[str]:
    """A recipe of three steps, begun in a fresh home each time."""
    settings = {
        "adapter": {"type": "lora", "r": RANK, "alpha": ALPHA},
        "learning_rate": RATE,
        "max_length": LENGTH,
        "steps": job.steps,
        "batch_size": job.micro * job.accumulation,
        "micro_batch_size": job.micro,
    }
    recipe = {
        "name": "training-benchmark",
        "seed": SEED,
        "steps": {
            "base": {"load_model": "path", "with": {"path": str(job.model)}},
            "chats": {"format": "chat", "with": {"path": str(job.data)}},
            "sft": {"train": "sft", "model": "base", "data": "chats", "with": settings},
        },
    }
    path = _yaml(job.folder / "recipe.yaml", recipe)
    return [str(BIN / "tuneforge"), "--home", str(job.folder / "scratch"), "run", str(path), "--threads", "1"]


def script(job: Job) -> list[str]:
    return [sys.executable, str(_SCRIPT), str(job.folder), str(job.steps), str(job.micro), str(job.accumulation)]


def llama_factory(job: Job) -> list[str]:
    python = _environment("llamafactory", _mend_llama_factory)
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    rows = {"file_name": str(job.data), "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    (job.folder / "dataset_info.json").write_text(json.dumps({"chats": rows}), encoding="utf-8")
    settings = {
        "model_name_or_path": str(job.model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": RANK,
        "lora_alpha": ALPHA,
        "lora_target": "all",
        "dataset_dir": str(job.folder),
        "dataset": "chats",
        "template": "chatml",
        "cutoff_len": LENGTH,
        "preprocessing_num_workers": 1,
        "output_dir": str(job.folder / "scratch"),
        "overwrite_output_dir": True,
        "disable_gradient_checkpointing": True,
        "save_strategy": "no",
        "flash_attn": "sdpa",
        **_trainer(job),
    }
    path = _yaml(job.folder / "llamafactory.yaml", settings)
    return [str(python.with_name("llamafactory-cli")), "train", str(path)]


def axolotl(job: Job) -> list[str]:
    python = _environment("axolotl")
    common = _trainer(job)
    settings = {
        "base_model": str(job.model),
        "adapter": "lora",
        "lora_r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "lora_target_linear": True,
        "datasets": [
            {
                "path": str(job.data),
                "ds_type": "json",
                "type": "chat_template",
                "field_messages": "messages",
                "message_property_mappings": {"role": "role", "content": "content"},
                "roles_to_train": ["assistant"],
            }
        ],
        "chat_template": "tokenizer_default",
        "shuffle_merged_datasets": False,
        "dataset_prepared_path": str(job.folder / "scratch/prepared"),
        "dataset_num_proc": 1,
        "sequence_len": LENGTH,
        "micro_batch_size": common.pop("per_device_train_batch_size"),
        "lr_scheduler": common.pop("lr_scheduler_type"),
        "optimizer": common.pop("optim"),
        "output_dir": str(job.folder / "scratch"),
        "gradient_checkpointing": False,
        "attn_implementation": "sdpa",
        "float32": True,
        "tf32": False,
        "use_cpu": common.pop("use_cpu"),
        **{name: common[name] for name in ("gradient_accumulation_steps", "max_steps", "learning_rate", "seed")},
        **{name: common[name] for name in ("warmup_steps", "max_grad_norm", "logging_steps", "bf16", "fp16")},
        "save_strategy": "no",
        # They are chosen by themselves, and need CUDA.
        **dict.fromkeys(("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel"), False),
    }
    path = _yaml(job.folder / "axolotl.yaml", settings)
    return [str(python), "-m", "axolotl.cli.train", str(path)]


TOOLS: dict[str, Callable[[Job], list[str]]] = {
    "tuneforge": ours,
    "plain TRL script": script,
    "LLaMA-Factory": llama_factory,
    "axolotl": axolotl,
}


class NotInstalledError(Exception):
    """A tool could not be installed; its text says why."""


def _trainer(job: Job) -> dict[str, Any]:
    return {
        "per_device_train_batch_size": job.micro,
        "gradient_accumulation_steps": job.accumulation,
        "max_steps": job.steps,
        "learning_rate": RATE,
        "lr_scheduler_type": "cosine",
        "warmup_steps": job.warmup,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "bf16": False,
        "fp16": False,
        "use_cpu": True,
        "seed": SEED,
        "logging_steps": 1,
        "report_to": "none",
    }


def _yaml(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _environment(package: str, mend: Callable[[Path], None] | None = None) -> Path:
    """The Python of the environment that has `package`, made at its first use and kept in the user's cache."""
    import torch

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuneforge" / "benchmarks"
    folder = cache / package
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        uv = str(BIN / "uv")
        version = torch.__version__.partition("+")[0]
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), package, f"torch=={version}"],
        ):
            _carry_out(command)
        if mend is not None:
            mend(python)
        (folder / "ready").touch()
    return python


def _carry_out(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{command[0]} ended with {done.returncode}"]
        raise NotInstalledError(lines[-1])


def _mend_llama_factory(python: Path) -> None:
    """Without CUDA, the compiled parts of torchvision and torchaudio cannot be loaded, and it imports both."""
    import torch

    if torch.version.cuda is None:
        _carry_out([str(BIN / "uv"), "pip", "uninstall", "--quiet", "--python", str(python), "torchvision"])
        for library in python.parents[1].glob("lib/python3*/site-packages/torchaudio/lib/*.so"):
            library.unlink()

"""`vllm serve` with the arguments for an artifact.

Source: vllm/entrypoints/openai/cli_args.py and vllm/config/lora.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tuneforge import Adapter, Artifact, StepError, Terms
from tuneforge.artifacts import read_json, read_template
from tuneforge.kit.vllm_adapters import max_lora_rank


def executable() -> str | None:
    """The vllm command: the one beside this interpreter, else that of PATH; None if there is none."""
    beside = Path(sys.executable).with_name("vllm")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("vllm")


def arguments(artifact: Artifact, terms: Terms) -> list[str]:
    """What `vllm serve` is told of an artifact. Raises StepError for an adapter that it could not serve as it is."""
    adapter = artifact if isinstance(artifact, Adapter) else None
    model = artifact if adapter is None else adapter.base
    if model is None:
        raise StepError("the adapter does not say which model it was trained on", "Train it again from that model.")
    told = ["serve", str(model.path), "--host", terms.host, "--port", str(terms.port)]
    told += ["--served-model-name", terms.name if adapter is None else f"{terms.name}-base"]
    # Stop tokens are read from generation_config.json all the same, but none of its settings of sampling.
    told += ["--generation-config", "vllm", "--allowed-origins", "[]"]
    if terms.context is not None:
        told += ["--max-model-len", str(terms.context)]
    return told if adapter is None else [*told, *_lora(adapter, model, terms.name)]


def _lora(adapter: Artifact, model: Artifact, name: str) -> list[str]:
    config = read_json(adapter.path / "adapter_config.json")
    told = [
        "--enable-lora",
        "--max-lora-rank",
        str(max_lora_rank([config])),
        "--lora-modules",
        f"{name}={adapter.path}",
    ]
    template = adapter.path / "chat_template.jinja"
    if template.exists():
        return [*told, "--chat-template", str(template)]
    if read_template(adapter.path) not in (None, read_template(model.path)):
        raise StepError(
            "vLLM would take the model's chat template, and the adapter has another one in tokenizer_config.json",
            "Write it into a chat_template.jinja, or merge the adapter.",
        )
    return told


def environment(terms: Terms) -> Mapping[str, str]:
    """The environment variables of vLLM; the key is none of its arguments, which everybody on the machine can see."""
    quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    return quiet | dict(os.environ) | ({"VLLM_API_KEY": terms.keys[0]} if terms.keys else {})


def run(artifact: Artifact, terms: Terms) -> None:
    """Runs vLLM, and raises StepError when it ends."""
    command = executable()
    if command is None:
        raise StepError("vLLM is not installed here")
    code = subprocess.Popen([command, *arguments(artifact, terms)], env=dict(environment(terms))).wait()
    raise StepError(f"vLLM ended with exit code {code}", "--debug before `serve` shows all that it says.")

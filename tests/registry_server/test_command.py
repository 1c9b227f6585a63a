"""`tuneforge registry serve` itself."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.registry_server.test_broken import command
from tests.registry_server.test_reading import get
from tests.registry_server.test_tokens import READER
from tuneforge.recognition import base_of, recognised
from tuneforge_registry import Registry


def refused(tmp_path: Path, *options: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "tuneforge.cli", "--home", str(tmp_path), "registry", "serve", *options],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    return ended.stderr


@pytest.mark.slow
def test_elsewhere_than_on_this_machine_tokens_are_asked_for(tmp_path: Path) -> None:
    told = refused(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert "--host 0.0.0.0 can be reached from other machines, and nobody would be asked for a token" in told
    assert "give it with --tokens" in told
    (tmp_path / "tokens").write_text("read short")
    assert "the token in line 1" in refused(tmp_path, "--tokens", str(tmp_path / "tokens"))
    digest = hashlib.sha256(READER.encode()).hexdigest()
    (tmp_path / "tokens").write_text(f"read sha256:{digest}")
    server, url = command(tmp_path, "--host", "0.0.0.0", "--tokens", str(tmp_path / "tokens"))
    try:
        assert url.startswith("http://127.0.0.1:")
        assert get(f"{url}/api/models")[0] == 401
        assert get(f"{url}/api/models", Authorization=f"Bearer {READER}")[0] == 200
        with contextlib.suppress(OSError):  # the connection may be closed before all has been sent
            assert get(f"{url}/health", x="y" * (1 << 22))[0] == 400, "headers are bounded"
        assert get(f"{url}/api/models", Authorization=f"Bearer {READER}")[0] == 200
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) in (0, 130)


FOLDERS = {
    "model": {"config.json": "{}", "a.safetensors": "", "tokenizer.json": "{}"},
    "quantized-model": {
        "config.json": '{"quantization_config": {"bits": 4}}',
        "a.safetensors": "",
        "tokenizer.json": "{}",
    },
    "reward-model": {
        "config.json": '{"architectures": ["LlamaForSequenceClassification"]}',
        "a.safetensors": "",
        "tokenizer.json": "{}",
    },
    "adapter": {"adapter_config.json": '{"task_type": "CAUSAL_LM"}', "adapter_model.safetensors": ""},
    "reward-adapter": {"adapter_config.json": '{"task_type": "SEQ_CLS"}', "adapter_model.safetensors": ""},
    "gguf": {"a.gguf": "GGUF"},
    "report": {"report.json": "{}"},
    "release": {"receipt.json": "{}"},
    "files": {"config.json": "{}", "a.safetensors": ""},
    "chat-data": {"data.json": "{}", "train-0.parquet": "messages"},
    "preference-data": {"data.json": "{}", "train-0.parquet": "prompt chosen rejected"},
    "prompt-data": {"data.json": "{}", "train-0.parquet": "prompt reference tools"},
    "text-data": {"data.json": "{}", "train-0.parquet": "prompt completion"},
    "dataset": {"data.json": "{}", "train-0.parquet": "else"},
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_kind_of_a_folder_is_told_by_what_is_in_it(tmp_path: Path, kind: str) -> None:
    from tuneforge.plugins import Plugins

    for path, text in FOLDERS[kind].items():
        (tmp_path / path).write_text(text)
    data = kind.endswith("data") or kind == "dataset"
    kinds = Plugins().kinds
    assert recognised(tmp_path, kinds, data, None).kind == kind
    # What it was it stays, while it can be that.
    assert recognised(tmp_path, kinds, data, "model" if kind == "reward-model" else kind).kind == (
        "model" if kind == "reward-model" else kind
    )


def test_the_base_of_an_adapter_is_what_it_names(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "home")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    digest = registry.put(tmp_path / "model", "model")
    registry.tag("orders", digest, "production")
    folder = tmp_path / "adapter"
    folder.mkdir()
    from tuneforge import Adapter, Model

    for config, base in (
        (f'{{"base_model_name_or_path": "sha256:{digest}"}}', digest),
        ('{"base_model_name_or_path": "orders"}', digest),
        ('{"base_model_name_or_path": "orders", "revision": "production"}', digest),
        ('{"base_model_name_or_path": "Qwen/Qwen3-0.6B"}', None),
        ('{"base_model_name_or_path": 7}', None),
        ("{}", None),
    ):
        (folder / "adapter_config.json").write_text(config)
        assert base_of(folder, Adapter, registry) == base
    assert base_of(folder, Model, registry) is None

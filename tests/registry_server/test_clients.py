"""The libraries that people use, as they are: HF_ENDPOINT is all that they are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.registry_server.conftest import MODEL, Serve, Served, read
from tests.trl.colours import CHATS
from tuneforge.kit.rows import write_rows

LIBRARIES = """
import json, sys
import torch
from datasets import load_dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

tree, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained("_/orders", revision="production")
tokenizer = AutoTokenizer.from_pretrained("_/orders", revision="production")
local = AutoModelForCausalLM.from_pretrained(tree).state_dict()
equal = all(torch.equal(local[name], tensor) for name, tensor in model.state_dict().items())
ids = torch.tensor([tokenizer("red", add_special_tokens=False)["input_ids"]])
torch.manual_seed(0)
tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).eval()
expected = tuned(ids).logits
tuned.push_to_hub("_/orders-adapter", private=True)
again = AutoModelForCausalLM.from_pretrained("_/orders", revision="production")
loaded = PeftModel.from_pretrained(again, "_/orders-adapter").eval()
rows = load_dataset("_/questions", split="train", revision="v1")
rows.push_to_hub("_/pushed-rows", private=True)
json.dump({
    "equal": equal and tokenizer("red blue") == AutoTokenizer.from_pretrained(tree)("red blue"),
    "same": bool(torch.equal(loaded(ids).logits, expected)),
    "rows": rows.num_rows,
    "columns": rows.column_names,
    "pushed": load_dataset("_/pushed-rows", split="train").to_list() == rows.to_list(),
}, open(out, "w"))
"""


@pytest.fixture(scope="module")
def shop(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Served:
    import torch

    from tuneforge_models import fresh

    folder = tmp_path_factory.mktemp("clients")
    shop = serve(folder)
    tokenizer = fresh.make_tokenizer([message["content"] for chat in CHATS for message in chat["messages"]], 320)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "layers": 1, "heads": 2, "kv_heads": 2, "context": 64}
    model = fresh.make_model("llama", tokenizer, **sizes, tied=False, dtype=torch.float32, seed=1)
    fresh.save(model, tokenizer, folder / "model")
    shop.put("orders", read(folder / "model"), alias="production")
    shop.put("orders", {**read(folder / "model"), "README.md": b"# Orders"})
    (folder / "rows").mkdir()
    write_rows(folder / "rows", "train", CHATS)
    (folder / "rows" / "data.json").write_text("{}")
    shop.put("questions", read(folder / "rows"), kind="chat-data")
    return shop


def environment(shop: Served, folder: Path, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    return kept | {"HF_ENDPOINT": shop.url, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_any", **settings}


@pytest.mark.slow
def test_the_hf_command(served: Served, tmp_path: Path) -> None:
    def hf(*arguments: str) -> None:
        command = [str(Path(sys.executable).with_name("hf")), *arguments]
        ended = subprocess.run(command, env=environment(served, tmp_path), capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr

    served.put("orders", MODEL, alias="production")
    served.put("orders", {**MODEL, "README.md": b"# Orders"})
    folder = tmp_path / "here"
    hf("download", "orders", "--revision", "production", "--local-dir", str(folder))
    assert {path: content for path, content in read(folder).items() if not path.startswith(".cache")} == MODEL
    hf("upload", "_/copy", str(folder), "--exclude", ".cache/*")
    assert served.registry.resolve("copy") == served.registry.resolve("orders@v1"), (
        "the same bytes are the same artifact"
    )


@pytest.mark.whole
def test_transformers_peft_and_datasets(shop: Served, tmp_path: Path) -> None:
    """A model, its tokenizer and data are loaded; an adapter is pushed and loaded. In one process: imports cost."""
    tree = shop.registry.tree(shop.registry.resolve("orders@v1"))
    ended = subprocess.run(
        [sys.executable, "-c", LIBRARIES, str(tree), str(tmp_path / "told.json")],
        env=environment(shop, tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "told.json").read_text()) == {
        "equal": True,
        "same": True,
        "rows": len(CHATS),
        "columns": ["messages", "tools"],
        "pushed": True,
    }
    adapter = shop.registry.manifest(shop.registry.resolve("orders-adapter"))
    assert adapter.kind == "adapter"
    assert shop.registry.manifest(shop.registry.resolve("pushed-rows")).kind == "dataset"
    assert adapter.base == shop.registry.resolve("orders"), "PEFT writes the name that it was given"
    assert not [line for line in shop.lines if " 500 " in line]

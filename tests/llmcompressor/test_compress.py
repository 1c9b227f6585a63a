"""Models compressed in the environment of llm-compressor, which is made in the first run of all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.bench import statuses, step_of
from tests.trl.colours import COLOURS
from tuneforge import Model, QuantizedModel
from tuneforge.artifacts import read_json, read_tensors
from tuneforge.environments import environment_for
from tuneforge.kit.packed import is_packed, linear_layers
from tuneforge.kit.vllm_checks import vllm_findings
from tuneforge_llmcompressor.method import Compressed

ROOT = Path(__file__).parents[2]
ASK = """
import json, sys
from pathlib import Path
from transformers import AutoModelForCausalLM
from tests.tuned import answers
from tuneforge import QuantizedModel

found = {}
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    found[folder] = answers(model, QuantizedModel(Path(folder), "q" * 64))
print(json.dumps(found))
"""

pytestmark = [pytest.mark.network]


def result(home: Path, record: dict[str, Any], step: str) -> Path:
    return home / "trees" / step_of(record, step)["digest"]


def check(folder: Path, tuned: Model, options: dict[str, Any], skipped: int = 0) -> dict[str, Any]:
    """What is asserted of every result; gives its quantization_config."""
    assert list(QuantizedModel.missing(folder)) == []
    full, tensors = read_tensors(tuned.path), read_tensors(folder)
    layers = linear_layers(full, {})
    assert sum(is_packed(layer, tensors) for layer in layers) == len(layers) - skipped
    assert tensors["model.embed_tokens.weight"] == full["model.embed_tokens.weight"]
    config = read_json(folder / "config.json")
    foreseen = Compressed(**options).foresee({"model": [Model.facts(tuned.path)]})
    assert {**foreseen.config, "quantization_config": None} == {**config, "quantization_config": None}
    settings: dict[str, Any] = config["quantization_config"]
    assert within(foreseen.config["quantization_config"], settings)
    assert settings["quantization_status"] == "compressed"
    assert not [finding for finding in vllm_findings(QuantizedModel.facts(folder)) if finding.level == "error"]
    return settings


def within(foreseen: Any, found: Any) -> bool:
    """Whether everything that was foreseen is there; the library adds to it, and lists names in an order of its own."""
    if isinstance(foreseen, dict):
        return isinstance(found, dict) and all(within(value, found.get(name)) for name, value in foreseen.items())
    if isinstance(foreseen, list):
        return sorted(foreseen) == sorted(found)
    return bool(foreseen == found)


@pytest.mark.slow
def test_four_bits_by_gptq(home: Path, tuned: Model, carry_out: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    options = {"group_size": 64, "rows": 5, "max_length": 12, "damping": 0.02, "skip": ["model.layers.0.mlp"]}
    record = carry_out(tmp_path, small=options, same=options)
    assert set(statuses(record).values()) <= {"done", "cached"}
    step = step_of(record, "small")
    settings = check(result(home, record, "small"), tuned, options, skipped=3)
    assert settings["config_groups"]["group_0"]["weights"]["actorder"] == "static"
    assert step["metrics"]["reload_error"] == 0
    assert 0 < step["metrics"]["logits_error"] < 0.4
    assert step["metrics"]["greedy_agreement"] > 0.7
    packages = record["environments"][step["environment"]]
    assert packages["llmcompressor"].startswith("0.14.") and step["environment"] != "this"


SCHEMES: dict[str, dict[str, Any]] = {
    "w4a16": {},
    "nearest": {"rounding": "nearest", "group_size": 32, "measured": False},
    "asymmetric": {"symmetric": False, "act_order": False, "group_size": -1},
    "w8a8": {"scheme": "w8a8"},
    "unsmoothed": {"scheme": "w8a8", "smoothing": 0, "rounding": "nearest", "measured": False},
    "fp8_dynamic": {"scheme": "fp8_dynamic", "measured": False},
    "fp8_static": {"scheme": "fp8_static"},
}


@pytest.mark.whole
def test_every_scheme_says_what_the_full_model_says(
    home: Path, tuned: Model, carry_out: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    record = carry_out(tmp_path, **{name: dict(options) for name, options in SCHEMES.items()})
    assert set(statuses(record).values()) <= {"done", "cached"}
    errors, folders = {}, {}
    for name, options in SCHEMES.items():
        folders[name] = result(home, record, name)
        check(folders[name], tuned, {key: value for key, value in options.items() if key != "measured"})
        metrics = step_of(record, name)["metrics"]
        assert metrics["reload_error"] == 0 and metrics["layers"] == 28
        errors[name] = metrics["logits_error"]
    assert all(0 < error < 0.5 for error in errors.values()), errors
    assert max(errors["w8a8"], errors["unsmoothed"]) < 0.1 < errors["w4a16"]
    assert max(errors["fp8_dynamic"], errors["fp8_static"]) < errors["asymmetric"]
    python = environment_for(Compressed.needs, home).python
    ended = subprocess.run(
        [str(python), "-c", ASK, *map(str, folders.values())],
        env=os.environ | {"PYTHONPATH": ":".join(str(ROOT / part) for part in ("", "core", "plugins"))},
        capture_output=True,
        text=True,
        check=True,
    )
    for folder, answers in json.loads(ended.stdout.splitlines()[-1]).items():
        same = [ours == theirs for ours, theirs in zip(answers, COLOURS.values(), strict=True)]
        assert sum(same) >= 6, (folder, answers)


@pytest.mark.whole
def test_the_same_model_gives_the_same_bytes(
    home: Path, tuned: Model, carry_out: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    digests = []
    for again in ("once", "twice"):
        (tmp_path / again).mkdir()
        record = carry_out(tmp_path / again, small={"scheme": "w8a8", "rows": 3})
        folder = result(home, record, "small")
        files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        digests.append(files)
        assert "recipe.yaml" not in files
        assert not any(str(tmp_path).encode() in file.read_bytes() for file in folder.iterdir())
        for key in (home / "steps").iterdir():
            key.unlink()  # so that it is done again
    assert digests[0] == digests[1]

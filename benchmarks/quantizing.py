"""A model of 471M random weights to q4_k_m: what we add to llama.cpp's own converter and quantizer, in the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.large import large_model, layers
from benchmarks.measure import BIN, Used, least, run
from tuneforge_gguf.converter import converter_cache, fetch_converter, fetch_sources

_ROUNDS = 3
_TYPE = "q4_k_m"
_THREADS = "1"

# What the step does but for comparing the file, which is parity: a conversion and a quantizing.
_OURS = """
import sys
from pathlib import Path
from tuneforge.kit.memory import give_back
from tuneforge_gguf.export import export
from tuneforge_gguf.making import exact_type
from tuneforge_gguf.quantizing import quantize

model, folder, converter, kind = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
full = export(model, folder, exact_type(model), converter, log=print)
give_back()
quantize(full, folder / "ours.gguf", kind, threads=1, log=print)
"""

# It knows tokenizers by a hash of what they answer; of any other, people tell it what they know.
_THEIRS = """
import runpy
import sys

sys.path.insert(0, sys.argv[1])
import conversion

conversion.TextModel.get_vocab_base_pre = lambda *_: "gpt-2"
sys.argv[:2] = [f"{sys.argv[1]}/convert_hf_to_gguf.py"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main() -> None:
    """In turns: their converter, their quantizer, and ours, each in a process of its own."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TUNEFORGE_BENCH_FOLDER")) as name:
        folder = Path(name)
        model = folder / "model"
        print(f"{large_model(model, layers()):,} parameters", flush=True)
        record = _step(folder, model)
        site = _site(Path(record["home"]))
        converter = fetch_converter(converter_cache(), print)
        programs = _programs(converter_cache() / "benchmarks")
        full, theirs = folder / "theirs-bf16.gguf", folder / "theirs.gguf"
        commands = {
            "llama.cpp's converter": [
                *(sys.executable, "-c", _THEIRS, str(converter), str(model)),
                *("--outtype", "bf16", "--outfile", str(full)),
            ],
            "llama-quantize": [str(programs / "llama-quantize"), str(full), str(theirs), _TYPE.upper(), _THREADS],
            "ours": [sys.executable, "-c", _OURS, str(model), str(folder), str(converter), _TYPE],
        }
        seen: dict[str, list[Used]] = {each: [] for each in commands}
        for turn in range(_ROUNDS + 1):  # the first one warms the disk cache, bytecode included
            for each, command in commands.items():
                found = run(command, folder, {"PYTHONPATH": site} if each == "ours" else {})
                seen[each] += [found] if turn else []
        if theirs.stat().st_size != (folder / "ours.gguf").stat().st_size:
            print("the two files differ in size")
        _report(seen, record)


def _step(folder: Path, model: Path) -> dict[str, Any]:
    """The same by a recipe, compared afterwards: how long it took of the whole, and where its environment is."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "extensions: {parity: false}\n"
        f"steps:\n  base: {{load_model: path, with: {{path: {model}}}}}\n"
        f"  small: {{quantize: gguf, model: base, with: {{type: {_TYPE}}}}}\n"
    )
    home = os.environ.get("TUNEFORGE_HOME") or str(folder / "home")
    command = [str(BIN / "tuneforge"), "--home", home, "run", str(recipe), "--again", "small", "--json"]
    # Of a second run the environment is there already.
    document = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    (record,) = Path(home, "runs").glob(f"{document['run']}.json")
    (small,) = (step for step in json.loads(record.read_text())["steps"] if step["name"] == "small")
    return {"home": home, **small}


def _site(home: Path) -> str:
    """Where the environment that the core has made keeps llama-cpp-python."""
    return str(next(home.glob("envs/*/lib/python*/site-packages/llama_cpp")).parent)


def _programs(folder: Path) -> Path:
    """llama-quantize, compiled from the same sources, with optimizations as they ship; kept from run to run."""
    there = folder / "llama.cpp"
    if not (there / "bin" / "llama-quantize").exists():
        there.mkdir(parents=True, exist_ok=True)
        print("compiling llama-quantize, once")
        with tarfile.open(fetch_sources(there)) as tar:
            tar.extractall(there, filter="data")
        (source,) = there.glob("*/vendor/llama.cpp")
        off = ("TESTS", "EXAMPLES", "SERVER", "APP")
        options = [f"-DLLAMA_BUILD_{name}=OFF" for name in off] + ["-DGGML_OPENMP=OFF", "-DGGML_NATIVE=OFF"]
        subprocess.run(["cmake", "-S", source, "-B", there, "-DCMAKE_BUILD_TYPE=Release", *options], check=True)
        subprocess.run(["cmake", "--build", there, "--target", "llama-quantize", "-j2"], check=True)
    return there / "bin"


def _report(seen: Mapping[str, Sequence[Used]], record: Mapping[str, Any]) -> None:
    used = {each: least(rounds) for each, rounds in seen.items()}
    print(f"\n{'471M parameters to ' + _TYPE:30}{'wall s':>9}{'cpu s':>9}{'memory':>11}   least of {_ROUNDS} rounds")
    for each, figures in used.items():
        print(f"  {each:28}{figures.wall:9.1f}{figures.cpu:9.1f}{figures.memory / 1e6:8.0f} MB")
    theirs = [figures for each, figures in used.items() if each != "ours"]
    print(f"  ours on top of theirs, wall {used['ours'].wall / sum(each.wall for each in theirs) - 1:+9.1%}")
    print(f"  ours on top of theirs, cpu  {used['ours'].cpu / sum(each.cpu for each in theirs) - 1:+9.1%}")
    more = used["ours"].memory / max(each.memory for each in theirs) - 1
    print(f"  peak memory against theirs  {more:+9.1%}")
    print(f"  the step of a recipe, its comparing included: {record['work_seconds']:.1f} s", end=", ")
    print(f"{record['peak_memory'] / 1e6:.0f} MB")

"""The real client of the Hub, against a small Hub of our own that listens on this machine."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save_file

from tuneforge import Adapter, Finding, Model, Step, StepError
from tuneforge.keys import step_key
from tuneforge.sources import Digests
from tuneforge_models import folders
from tuneforge_models.hub import Hub


@dataclass
class SmallHub:
    """One repository, `kim/lamps`: its commits as folders, its branches by name."""

    server: ThreadingHTTPServer
    commits: dict[str, Path] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def push(self, folder: Path, branch: str = "main") -> str:
        """A new commit on a branch."""
        commit = hashlib.sha1(str(folder).encode()).hexdigest()
        self.commits[commit], self.branches[branch] = folder, commit
        return commit

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Answers(BaseHTTPRequestHandler):
    hub: SmallHub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        repo, _, rest = path.removeprefix("/api/models").removeprefix("/").partition("/revision/")
        if path.startswith("/api/models/") and rest:
            self._about(repo, rest)
        elif path.startswith("/api/models/kim/lamps/tree/"):
            self._tree(path.rpartition("/")[2])
        else:
            self._file(path)

    do_HEAD = do_GET  # noqa: N815

    def _about(self, repo: str, revision: str) -> None:
        commit = self.hub.branches.get(revision, revision)
        if repo != "kim/lamps":
            self._answer(404, b"", **{"X-Error-Code": "RepoNotFound"})
        elif commit not in self.hub.commits:
            self._answer(404, b"", **{"X-Error-Code": "RevisionNotFound"})
        else:
            self._answer(200, json.dumps({"id": repo, "sha": commit, "siblings": []}).encode())

    def _tree(self, commit: str) -> None:
        folder = self.hub.commits[commit]
        files = [
            {
                "type": "file",
                "path": file.relative_to(folder).as_posix(),
                "size": file.stat().st_size,
                "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
            }
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        ]
        self._answer(200, json.dumps(files).encode())

    def _file(self, path: str) -> None:
        revision, _, name = path.removeprefix("/kim/lamps/resolve/").partition("/")
        commit = self.hub.branches.get(revision, revision)
        if self.hub.refusal:
            status, code = self.hub.refusal
            self._answer(status, b"", **{"X-Error-Code": code})
            return
        data = (self.hub.commits[commit] / name).read_bytes()
        self._answer(200, data, **{"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit})

    def _answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, for this test alone."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    from huggingface_hub import constants

    answers = type("Answers", (_Answers,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    answers.hub = hub = SmallHub(server)  # type: ignore[attr-defined]
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    files = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield hub
    hub.close()


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(saved, tmp_path / "first"))
    (folder / "README.md").write_text("A page.")
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    (folder / "LICENSE").write_text("Apache-2.0")
    return folder


def _changed(model: Path, name: str = "second") -> Path:
    folder = Path(shutil.copytree(model, model.parent / name))
    (folder / "generation_config.json").write_text("{}")
    return folder


def _errors(method: Hub) -> list[Finding]:
    return [finding for finding in method.check({}) if finding.level == "error"]


def test_a_branch_is_pinned_and_its_model_comes(hub: SmallHub, model: Path, step: Step) -> None:
    commit = hub.push(model)
    method = Hub(repo="kim/lamps").pin()
    assert method.revision == commit
    assert list(method.check({})) == []
    foreseen = method.foresee({})
    assert foreseen.config == json.loads((model / "config.json").read_text())
    assert foreseen.template == (model / "chat_template.jinja").read_text()
    assert not any("model.safetensors" in asked for asked in hub.asked), "a plan fetches no weights"
    Hub(**method.model_dump(mode="json")).run(step=step)
    left_behind = {"README.md", "pytorch_model.bin"}
    assert {file.name for file in step.out.iterdir()} == {file.name for file in model.iterdir()} - left_behind
    for file in step.out.iterdir():
        assert file.read_bytes() == (model / file.name).read_bytes()
    assert list(Model.missing(step.out)) == []


def test_files_are_links_into_the_cache_that_bear_being_made_read_only(
    hub: SmallHub, cache: Path, model: Path, step: Step
) -> None:
    hub.push(model)
    Hub(repo="kim/lamps").pin().run(step=step)
    blobs = {blob.stat().st_ino for blob in cache.rglob("blobs/*")}
    for file in step.out.iterdir():
        assert not file.is_symlink()
        assert file.stat().st_ino in blobs
        file.chmod(0o444)
    before = {file.name: file.read_bytes() for file in step.out.iterdir()}
    from huggingface_hub import snapshot_download

    snapshot_download("kim/lamps", force_download=True)
    shutil.rmtree(cache)
    assert {file.name: file.read_bytes() for file in step.out.iterdir()} == before


def test_without_hard_links_files_are_copied(
    hub: SmallHub, model: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    hub.push(model)
    monkeypatch.setattr(os, "link", no_links)
    Hub(repo="kim/lamps").pin().run(step=step)
    assert {file.stat().st_nlink for file in step.out.iterdir()} == {1}
    assert (step.out / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_a_moved_branch_is_another_key_and_a_commit_stays(hub: SmallHub, model: Path, tmp_path: Path) -> None:
    digests = Digests(tmp_path / "digests.json")
    first = hub.push(model)
    before = step_key(Hub(repo="kim/lamps").pin(), 0, {}, digests)
    assert step_key(Hub(repo="kim/lamps").pin(), 0, {}, digests) == before
    second = hub.push(_changed(model))
    moved = Hub(repo="kim/lamps").pin()
    assert moved.revision == second
    assert step_key(moved, 0, {}, digests) != before
    assert step_key(Hub(repo="kim/lamps", revision=first).pin(), 0, {}, digests) == before


def test_a_commit_in_the_cache_is_not_asked_for(hub: SmallHub, model: Path, step: Step) -> None:
    commit = hub.push(model)
    Hub(repo="kim/lamps").pin().run(step=step)
    hub.asked.clear()
    method = Hub(repo="kim/lamps", revision=commit).pin()
    assert list(method.check({})) == []
    assert method.foresee({}) == folders.facts(method.foresee({}).tokenizer or Path())
    assert len(method.foresee({}).tensors) == len(Model.facts(model).tensors)
    assert hub.asked == []


def test_an_unreachable_hub_leaves_what_is_in_the_cache(hub: SmallHub, model: Path, step: Step) -> None:
    commit = hub.push(model)
    Hub(repo="kim/lamps").pin().run(step=step)
    hub.close()
    method = Hub(repo="kim/lamps").pin()
    assert method.revision == commit
    (warning,) = method.check({})
    assert (warning.level, "cannot be reached" in warning.problem) == ("warning", True)
    assert commit[:12] in warning.problem
    again = Step("base", step.out.parent / "again", step.scratch, 1, 1, step.send)
    again.out.mkdir()
    method.run(step=again)
    assert {f.name: f.read_bytes() for f in again.out.iterdir()} == {f.name: f.read_bytes() for f in step.out.iterdir()}


def test_a_cache_that_other_tools_filled_serves_with_a_word_of_warning(
    hub: SmallHub, model: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants, hf_hub_download

    hub.push(model)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        hf_hub_download("kim/lamps", name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    method = Hub(repo="kim/lamps").pin()
    (warning,) = method.check({})
    assert (warning.level, "does not know which files" in warning.problem) == ("warning", True)
    method.run(step=step)
    assert list(Model.missing(step.out)) == []


def test_without_the_client_a_commit_can_still_be_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step itself then runs in an environment that has it."""
    monkeypatch.setitem(sys.modules, "tuneforge_models.hub_client", None)
    (error,) = _errors(Hub(repo="kim/lamps").pin())
    assert error.field == "revision"
    assert "huggingface_hub" in error.fix
    pinned = Hub(repo="kim/lamps", revision="0" * 40).pin()
    assert (pinned.revision, list(pinned.check({}))) == ("0" * 40, [])
    assert pinned.foresee({}).kind is Model


def test_an_unreachable_hub_and_an_empty_cache_is_an_error(hub: SmallHub, step: Step) -> None:
    hub.close()
    method = Hub(repo="kim/lamps").pin()
    (error,) = _errors(method)
    assert "cannot be reached" in error.problem
    assert "not in the cache" in error.problem
    with pytest.raises(StepError, match="cannot be reached"):
        method.run(step=step)


def test_a_hub_that_does_not_answer_is_not_waited_for(
    hub: SmallHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneforge.kit import hub_client

    monkeypatch.setattr(hub_client, "TIMEOUT", 0.2)
    asked = threading.Event()
    monkeypatch.setattr(_Answers, "_about", lambda *_: asked.wait(60))
    (error,) = _errors(Hub(repo="kim/lamps").pin())
    asked.set()
    assert "cannot be reached (timed out)" in error.problem


def test_a_plan_without_its_run_leaves_no_model_for_later(hub: SmallHub, model: Path) -> None:
    """The small files of a plan must not pass for the whole model."""
    hub.push(model)
    assert _errors(Hub(repo="kim/lamps").pin()) == []
    hub.close()
    (error,) = _errors(Hub(repo="kim/lamps").pin())
    assert "not all of it" in error.problem


def test_a_gated_model_is_told_at_once(hub: SmallHub, model: Path) -> None:
    hub.push(model)
    hub.refusal = (403, "GatedRepo")
    (error,) = _errors(Hub(repo="kim/lamps").pin())
    assert "gated" in error.problem
    assert f"{hub.url}/kim/lamps" in error.fix
    assert "hf auth login" in error.fix


@pytest.mark.parametrize(
    ("options", "field", "problem", "fix"),
    [
        ({"repo": "kim/lampz"}, "repo", "no model kim/lampz", "hf auth login"),
        ({"repo": "kim/lamps", "revision": "dev"}, "revision", "no branch, tag or commit dev", "/kim/lamps"),
        ({"repo": "./models/lamps"}, "repo", "no repository", "load_model: path"),
        ({"repo": "https://huggingface.co/kim/lamps"}, "repo", "no repository", "owner/name"),
    ],
)
def test_what_the_hub_does_not_have_is_told_at_once(
    hub: SmallHub, model: Path, options: dict[str, str], field: str, problem: str, fix: str
) -> None:
    hub.push(model)
    method = Hub(**options).pin()
    (error,) = _errors(method)
    assert error.field == field
    assert problem in error.problem
    assert fix in error.fix
    assert method.foresee({}).config == {}


def test_a_repository_of_pickles_is_refused_by_its_listing(hub: SmallHub, model: Path) -> None:
    (model / "model.safetensors").unlink()
    hub.push(model)
    (error,) = _errors(Hub(repo="kim/lamps").pin())
    assert "pytorch_model.bin" in error.problem


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "tokenizer_config.json"])
def test_settings_that_are_broken_are_told_at_once(hub: SmallHub, model: Path, name: str) -> None:
    (model / name).write_text("{")
    hub.push(model)
    (error,) = _errors(Hub(repo="kim/lamps").pin())
    assert error.problem.startswith(f"{name} is not JSON")


def test_code_of_its_own_is_refused_before_weights_come(hub: SmallHub, model: Path) -> None:
    config = {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.OwnForCausalLM"}}
    (model / "config.json").write_text(json.dumps(config))
    hub.push(model)
    (error,) = _errors(Hub(repo="kim/lamps").pin())
    assert "never run" in error.problem


def _pickled(model: Path, extra: object = None) -> Path:
    """The model with its weights as a pickle, and something else in it."""
    import torch
    from safetensors.torch import load_file

    tensors: dict[str, object] = dict(load_file(model / "model.safetensors"))
    (model / "model.safetensors").unlink()
    torch.save(tensors | ({"more": extra} if extra is not None else {}), model / "pytorch_model.bin")
    return model


@pytest.mark.slow  # imports torch
def test_a_pickle_that_is_no_dictionary_is_refused(hub: SmallHub, model: Path, step: Step) -> None:
    import torch

    (model / "model.safetensors").unlink()
    torch.save([torch.zeros(2)], model / "pytorch_model.bin")
    hub.push(model)
    with pytest.raises(StepError, match="no tensors by name"):
        Hub(repo="kim/lamps", pickles=("pytorch_model.bin",)).pin().run(step=step)


@pytest.mark.slow  # imports torch
def test_a_pickle_that_is_named_becomes_safetensors(hub: SmallHub, model: Path, saved: Path, step: Step) -> None:
    import torch
    from safetensors.torch import load_file

    hub.push(_pickled(model))
    (error,) = _errors(Hub(repo="kim/lamps").pin())
    assert "pickles alone" in error.problem and "pickles: [pytorch_model.bin]" in error.fix
    method = Hub(repo="kim/lamps", pickles=("pytorch_model.bin",)).pin()
    assert list(method.check({})) == [] and any(need.startswith("torch") for need in method.requires({}))
    method.run(step=step)
    assert {file.name for file in step.out.iterdir()} >= {"model.safetensors", "config.json", "tokenizer.json"}
    assert not list(step.out.glob("*.bin"))
    came, was = (load_file(folder / "model.safetensors") for folder in (step.out, saved))
    assert came.keys() == was.keys() and all(torch.equal(came[name], was[name]) for name in was)
    (error,) = _errors(Hub(repo="kim/lamps", pickles=("weights.bin",)).pin())
    assert error.field == "pickles" and "has no weights.bin" in error.problem


class Planted:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/planted-by-a-pickle",)


@pytest.mark.slow  # imports torch
def test_a_pickle_with_code_in_it_is_refused_though_it_is_named(hub: SmallHub, model: Path, step: Step) -> None:
    hub.push(_pickled(model, Planted()))
    with pytest.raises(StepError, match=r"pytorch_model.bin is refused"):
        Hub(repo="kim/lamps", pickles=("pytorch_model.bin",)).pin().run(step=step)
    assert not Path("/tmp/planted-by-a-pickle").exists()


def test_pickles_are_not_named_for_nothing(hub: SmallHub, model: Path) -> None:
    hub.push(model)
    (error,) = _errors(Hub(repo="kim/lamps", pickles=("pytorch_model.bin",)).pin())
    assert error.field == "pickles" and "as safetensors" in error.problem


def test_a_template_replaces_the_models_own(
    hub: SmallHub, cache: Path, model: Path, step: Step, tmp_path: Path
) -> None:
    commit = hub.push(model)
    template = tmp_path / "short.jinja"
    template.write_text("{{ messages }}")
    method = Hub(repo="kim/lamps", template=template).pin()
    assert method.foresee({}).template == "{{ messages }}"
    method.run(step=step)
    assert (step.out / "chat_template.jinja").read_text() == "{{ messages }}"
    (held,) = cache.rglob(f"snapshots/{commit}/chat_template.jinja")
    assert held.read_bytes() == (model / "chat_template.jinja").read_bytes()


def test_progress_is_told_in_bytes(hub: SmallHub, model: Path, tmp_path: Path) -> None:
    hub.push(model)
    sent: list[dict[str, object]] = []
    (tmp_path / "out").mkdir()
    Hub(repo="kim/lamps").pin().run(step=Step("base", tmp_path / "out", tmp_path, 1, 1, sent.append))
    size = (model / "model.safetensors").stat().st_size
    assert [event["done"] for event in sent if event["event"] == "progress"][-1] == size


def _lora(model: Path, width: int | None = None) -> Path:
    """A LoRA adapter on one layer of a model; of another width, it is one on another model."""
    folder = model.parent / "lora"
    folder.mkdir()
    layer = next(name for name in Model.facts(model).tensors if name.endswith("q_proj.weight"))
    high, wide = Model.facts(model).tensors[layer].shape
    of = f"base_model.model.{layer.removesuffix('.weight')}"
    tensors = {
        f"{of}.lora_A.weight": np.zeros((2, width or wide), np.float32),
        f"{of}.lora_B.weight": np.zeros((high, 2), np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "org/base", "r": 2}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_an_adapter_comes_with_its_base_as_input(hub: SmallHub, model: Path, step: Step) -> None:
    hub.push(_lora(model))
    base = Model(model, "b" * 64)
    method = Hub(repo="kim/lamps").pin()
    assert method.writes({"model": [Model]}) is Adapter and method.writes({}) is Model
    assert list(method.check({"model": [Model.facts(model)]})) == []
    method.run(model=base, step=step)
    assert list(Adapter.missing(step.out)) == [] and step.base == base.digest
    config = json.loads((step.out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"sha256:{base.digest}"
    assert list(method.check({"model": [Model.facts(model)]})) == [], "now with its weights in the cache"


def test_an_adapter_on_a_tied_head_fits(hub: SmallHub, model: Path, step: Step) -> None:
    assert "lm_head.weight" not in Model.facts(model).tensors
    folder = _lora(model)
    (wide,) = {tensor.shape[1] for name, tensor in Model.facts(model).tensors.items() if "q_proj" in name}
    head = {"base_model.model.lm_head.lora_A.weight": np.zeros((2, wide), np.float32)}
    save_file(head, folder / "adapter_model.safetensors")
    hub.push(folder)
    Hub(repo="kim/lamps").pin().run(model=Model(model, "b" * 64), step=step)
    assert list(Adapter.missing(step.out)) == []


def test_an_adapter_of_another_model_is_refused(hub: SmallHub, model: Path, step: Step) -> None:
    hub.push(_lora(model, width=7))
    with pytest.raises(StepError, match="does not fit its base") as told:
        Hub(repo="kim/lamps").pin().run(model=Model(model, "b" * 64), step=step)
    assert told.value.finding.fix == "It was trained on org/base."
    (error,) = Hub(repo="kim/lamps").pin().check({"model": [Model.facts(model)]})
    assert error.level == "error" and "does not fit its base" in error.problem


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "has no adapter_config.json"),
        (lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"), "pickle alone"),
        (lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": ""}'), "names no peft_type"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "is not JSON"),
        (
            lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "task_type": "SEQ_CLS"}'),
            "is for SEQ_CLS",
        ),
    ],
)
def test_what_is_no_adapter_is_told_at_once(
    hub: SmallHub, model: Path, change: Callable[[Path], object], problem: str
) -> None:
    folder = _lora(model)
    change(folder)
    hub.push(folder)
    (error,) = Hub(repo="kim/lamps").pin().check({"model": [Model.facts(model)]})
    assert problem in error.problem and error.field == "repo"


_OFFLINE = """
import sys
from tuneforge_models.hub import Hub
assert not {"huggingface_hub", "torch", "transformers"} & set(sys.modules)
method = Hub(repo=sys.argv[1]).pin()
print(method.revision, *(f"{finding.level}: {finding.problem}" for finding in method.check({})))
"""


def test_the_clients_own_offline_switch_is_respected(hub: SmallHub, cache: Path, model: Path, step: Step) -> None:
    commit = hub.push(model)
    Hub(repo="kim/lamps").pin().run(step=step)
    hub.asked.clear()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "HF_ENDPOINT": hub.url}
    for repo, told in (("kim/lamps", commit), ("kim/chairs", "main error: HF_HUB_OFFLINE is set, and kim/chairs is")):
        asked = subprocess.run(
            [sys.executable, "-c", _OFFLINE, repo], env=environment, capture_output=True, text=True, check=True
        )
        assert asked.stdout.startswith(told)
        assert asked.stdout.strip() == told or repo == "kim/chairs"
    assert hub.asked == []

"""A released folder is whole or not there, and nothing that no release wrote is ever touched."""

import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crashes.power import watched
from tuneforge import StepError
from tuneforge_publish import release
from tuneforge_publish.release import obstacle, unchanged, written


def publish(to: Path, text: str = "new", files: int = 3) -> dict[str, release.File]:
    with written(to) as draft:
        for name in ("README.md", "lineage.json", *(f"weights/{number}" for number in range(files))):
            draft.write(name, f"{text} {name}")
    return draft.files


def beside(to: Path) -> list[str]:
    return sorted(path.name for path in to.parent.iterdir() if path != to)


def test_files_are_the_persons_own_and_checked_by_sha256sum(tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(os.urandom(3_000_000))
    source.chmod(0o444)
    with written(tmp_path / "out") as draft:
        draft.copy(source, "model/weights")
    copy = tmp_path / "out" / "model" / "weights"
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_mode & 0o200 and copy.stat().st_ino != source.stat().st_ino
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path / "out", check=True)


def test_holds_until_a_file_changes(tmp_path: Path) -> None:
    to = tmp_path / "out"
    files = publish(to)
    assert unchanged(to, files)
    changed = to / "weights" / "1"
    content = changed.read_text()
    changed.write_text(content.swapcase())
    assert not unchanged(to, files)
    changed.write_text(content + " ")
    assert not unchanged(to, files)
    changed.unlink()
    assert not unchanged(to, files)
    changed.write_text(content)
    assert unchanged(to, files)


@settings(max_examples=20, deadline=None)
@given(texts=st.dictionaries(st.from_regex(r"(d[a-z]/){0,2}f[a-z]{1,2}", fullmatch=True), st.text(), min_size=1))
def test_a_release_takes_the_place_of_any_earlier_one(
    tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]
) -> None:
    to = tmp_path_factory.mktemp("releases") / "deep" / "out"
    publish(to)
    with written(to) as draft:
        for name, text in {"README.md": "", "lineage.json": "{}", **texts}.items():
            draft.write(name, text)
    assert {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()} == set(draft.files)
    assert unchanged(to, draft.files) and obstacle(to) is None and beside(to) == []


def test_a_failed_draft_leaves_everything_as_it_was(tmp_path: Path) -> None:
    to = tmp_path / "out"
    files = publish(to)
    with pytest.raises(KeyError), written(to) as draft:
        draft.write("README.md", "half")
        raise KeyError
    assert unchanged(to, files) and beside(to) == []


def strange_file(to: Path) -> None:
    publish(to)
    (to / "notes.txt").write_text("mine")


def strange_link(to: Path) -> None:
    publish(to)
    (to / "weights" / "link").symlink_to("nowhere")


def no_release(to: Path) -> None:
    to.mkdir()
    (to / "README.md").write_text("mine")


def edited_card(to: Path) -> None:
    publish(to)
    (to / "README.md").write_text("mine")


def file_there(to: Path) -> None:
    to.write_text("mine")


def file_above(to: Path) -> None:
    to.parent.rmdir()
    to.parent.write_text("mine")


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (strange_file, "holds notes.txt"),
        (strange_link, "holds weights/link"),
        (no_release, "holds README.md"),
        (edited_card, "README.md was changed since it was released"),
        (file_there, "is a file"),
        (file_above, "is a file, so there can be no"),
    ],
)
def test_what_no_release_wrote_is_refused_and_left_alone(
    tmp_path: Path, prepare: Callable[[Path], None], problem: str
) -> None:
    to = tmp_path / "above" / "out"
    to.parent.mkdir()
    prepare(to)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    told = obstacle(to)
    assert told and problem in told[0]
    with pytest.raises(StepError, match=problem):
        publish(to)
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_card_edited_while_the_release_is_written_is_kept(tmp_path: Path) -> None:
    to = tmp_path / "out"
    publish(to)
    with pytest.raises(StepError, match="was changed"), written(to) as draft:
        draft.write("README.md", "next")
        (to / "README.md").write_text("mine")
    assert (to / "README.md").read_text() == "mine"


def test_a_release_is_on_disk_before_the_earlier_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to, source = tmp_path / "out", tmp_path / "source"
    source.write_text("weights")
    swap, remove = release._swap, release._remove
    lost: list[Path] = []

    def checked_swap(draft: Path, to: Path, earlier: Path) -> None:
        lost.extend(disk.may_be_lost(draft))
        swap(draft, to, earlier)

    def checked_remove(*folders: Path) -> None:
        lost.extend(disk.may_be_lost(to) if to.exists() else [])
        remove(*folders)

    monkeypatch.setattr(release, "_swap", checked_swap)
    monkeypatch.setattr(release, "_remove", checked_remove)
    with watched(monkeypatch, tmp_path) as disk:
        for text in ("earlier", "new"):
            with written(to) as draft:
                for name in ("README.md", "lineage.json"):
                    draft.write(name, text)
                draft.copy(source, "deep/down/weights")
            assert disk.may_be_lost(to) == []
    assert lost == []


def test_weights_are_read_again_only_when_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = tmp_path / "out"
    files = publish(to)
    monkeypatch.setattr(release, "_SMALL", 0)
    later = (to / "SHA256SUMS").stat().st_mtime_ns + 10**9  # as if the weights had taken a second
    os.utime(to / "SHA256SUMS", ns=(later, later))
    read: list[Path] = []
    digest = release._digest
    monkeypatch.setattr(release, "_digest", lambda path: read.append(path) or digest(path))
    assert unchanged(to, files) and obstacle(to) is None and read == []
    os.utime(to / "SHA256SUMS", ns=(0, 0))
    assert unchanged(to, files) and set(read) == {to / path for path in files}
    (to / "weights" / "1").write_text("new weights/0")
    assert obstacle(to) and not unchanged(to, files)


def test_releases_to_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    to = tmp_path / "out"
    with ThreadPoolExecutor(4) as pool:
        drafts = list(pool.map(lambda number: publish(to, f"text {number}", 30), range(12)))
    assert sum(unchanged(to, files) for files in drafts) == 1 and beside(to) == []


def test_a_place_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = os.access  # root may write anywhere, so a real permission would not be refused in every place this runs
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and not (mode & os.W_OK))
    told = obstacle(tmp_path / "a" / "b")
    assert told and told[0] == f"{tmp_path} cannot be written to"


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    to = tmp_path / "out"
    to.mkdir()
    assert unchanged(to, publish(to))


def killed_after(events: int, to: Path) -> bool:
    """Publishes to `to` in a process of its own that dies after that many file operations; whether it did die."""
    child = os.fork()
    if child == 0:
        left = events

        def count(event: str, _: object) -> None:
            nonlocal left
            if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        import sys

        sys.addaudithook(count)
        publish(to, "next", 2)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


@pytest.mark.parametrize("exchange", [True, False])
def test_killed_at_any_moment_a_release_is_whole(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(release, "_exchange", lambda *_: False)
    new = publish(tmp_path / "new" / "out", "next", 2)
    events, died = 0, True
    while died:
        to = tmp_path / str(events) / "out"
        old = publish(to)
        died = killed_after(events, to)
        if to.exists():
            assert unchanged(to, old) or unchanged(to, new)
        else:
            assert not exchange, "only a swap in two steps may leave the place empty, and a reader without a release"
        with pytest.raises(KeyError), written(to):
            raise KeyError  # the next attempt fails too: the earlier release is still not lost
        assert unchanged(to, old) or unchanged(to, new)
        assert unchanged(to, publish(to, "next", 2)) and beside(to) == []
        events += 1
    assert events > 15

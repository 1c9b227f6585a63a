"""tuneforge.kit.rows: what is written comes back, the bytes depend on nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneforge import ChatData
from tuneforge.kit import rows
from tuneforge.kit.rows import RowWriter, UnwritableError, count_rows, read_rows, write_rows

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def _row(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"number {number}"}], "tools": None}


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.fixed_dictionaries({"messages": json_values, "tools": json_values}), max_size=5))
def test_every_json_value_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, written: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    data = ChatData(folder, "digest")
    assert write_rows(folder, "train", written) == len(written)
    for read, wrote in zip(read_rows(data, "train"), written, strict=True):
        # As texts: the order of keys comes back too, and 1 is neither 1.0 nor True.
        assert {name: repr(value) for name, value in read.items()} == {
            name: repr(value) for name, value in wrote.items()
        }
    assert count_rows(data, "train") == len(written)


def test_rows_fill_shards_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROWS_PER_GROUP", 10)
    monkeypatch.setattr(rows, "ROWS_PER_SHARD", 30)
    assert write_rows(tmp_path, "train", map(_row, range(65))) == 65
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"train-0000{shard}.parquet" for shard in range(3)]
    data = ChatData(tmp_path, "digest")
    assert list(read_rows(data, "train")) == [_row(number) for number in range(65)]
    assert count_rows(data, "train") == 65


@pytest.mark.parametrize("count", [1, 1_000, 1_001])
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, count: int) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name, "train", map(_row, range(count)))
    assert _digests(tmp_path / "one") == _digests(tmp_path / "other")
    assert count_rows(ChatData(tmp_path / "one", "digest"), "train") == count


def test_a_split_without_rows_leaves_no_file(tmp_path: Path) -> None:
    assert write_rows(tmp_path, "held_out", []) == 0
    assert not list(tmp_path.iterdir())
    data = ChatData(tmp_path, "digest")
    assert list(read_rows(data, "held_out")) == []
    assert count_rows(data, "held_out") == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", b"bytes"])
def test_what_json_lacks_is_refused_and_leaves_no_trace(tmp_path: Path, value: object) -> None:
    with RowWriter(tmp_path, "train") as writer:
        writer.add(_row(1))
        with pytest.raises(UnwritableError):
            writer.add({"messages": [{"role": "user", "content": "x"}], "tools": [value]})
        writer.add(_row(2))
    assert list(read_rows(ChatData(tmp_path, "digest"), "train")) == [_row(1), _row(2)]


def test_other_columns_than_the_first_row_has_are_refused(tmp_path: Path) -> None:
    with RowWriter(tmp_path, "train") as writer:
        writer.add(_row(1))
        with pytest.raises(TypeError, match="columns"):
            writer.add({"messages": []})

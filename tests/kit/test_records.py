"""Records are found wherever they stand, and compared as JSON compares."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneforge.kit.records import find_record

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
objects = st.dictionaries(st.text(), values, min_size=1)
plain = st.text(st.characters(exclude_characters="{["))


def turned(value: Any) -> Any:
    """The same JSON value with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=50)
@given(objects | st.lists(objects, min_size=1), plain, st.text(), st.sampled_from([None, 2]))
def test_a_record_is_found_in_any_text_and_any_order(record: Any, before: str, after: str, indent: int | None) -> None:
    text = before + json.dumps(record, indent=indent) + after
    assert find_record(text) == find_record(json.dumps(turned(record), ensure_ascii=False)) is not None


@settings(deadline=None, max_examples=50)
@given(objects, objects)
def test_records_are_equal_only_if_they_are_the_same_json(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert not same or find_record(json.dumps(one)) == find_record(json.dumps(other))
    assert find_record(json.dumps({"a": one})) != find_record(json.dumps({"b": one}))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('{"a": 1}', '{"a": 1.0}', True),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 12345678901234567890}', '{"a": 12345678901234567891}', False),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": 1} {"b": 2}', '{"a": 1}', True),
        ('see [1]: {"a": 1}', '{"a": 1}', True),
        ('[{"a": 1}, {"b": 2}]', '[{"a": 1}]', False),
        ('{"a": {"b": 1', '{"b": 1}', False),
    ],
)
def test_what_counts_as_equal(one: str, other: str, equal: bool) -> None:
    assert (find_record(one) == find_record(other)) is equal


@pytest.mark.parametrize(
    "text", ["", "no record", "{", "{broken: 1}", "f() {}", "[1, 2]", "[" * 100_000, '{"a":' * 3_000]
)
def test_no_record(text: str) -> None:
    assert find_record(text) is None

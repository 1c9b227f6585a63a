"""Batches hold every row once, and no more than fits."""

from hypothesis import given
from hypothesis import strategies as st

from tuneforge.kit.generation import by_length


@given(st.lists(st.integers(1, 50)), st.integers(1, 9), st.none() | st.integers(1, 100))
def test_every_row_is_in_one_batch_that_fits(lengths: list[int], size: int, tokens: int | None) -> None:
    batches = list(by_length(lengths, size, tokens))
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths, reverse=True)
    for batch in batches:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert len(batch) <= size and (tokens is None or len(batch) == 1 or padded <= tokens)
    if tokens is None:
        assert all(len(batch) == size for batch in batches[:-1])

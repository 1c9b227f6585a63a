"""Documents joined into sequences: no token is lost, each is learnt once, and none is seen by the wrong ones."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tuneforge_trl.rows.packing import pack
from tuneforge_trl.rows.tokens import Columns


def learnt(sequences: list[Columns]) -> list[int]:
    """The tokens under loss, as TRL's collator has them of each sequence."""
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    labels = [token for sequence in sequences for token in collate([sequence])["labels"][0].tolist()]
    return [token for token in labels if token != -100]


def pieces(sequences: list[Columns]) -> list[list[int]]:
    found = []
    for sequence in sequences:
        start = 0
        for length in sequence["seq_lengths"]:
            found.append(sequence["input_ids"][start : start + length])
            start += length
        assert start == len(sequence["input_ids"])
    return found


def numbered(lengths: list[int]) -> list[Columns]:
    """Documents of tokens that are each there once."""
    numbers = iter(range(1, sum(lengths) + 1))
    return [{"input_ids": [next(numbers) for _ in range(length)]} for length in lengths]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=12), st.integers(2, 16))
def test_every_token_but_the_first_of_each_document_is_learnt_once(lengths: list[int], length: int) -> None:
    documents = numbered(lengths)
    sequences = list(pack(documents, length, across=False))
    assert all(len(sequence["input_ids"]) <= length for sequence in sequences)
    assert learnt(sequences) == [token for document in documents for token in document["input_ids"][1:]]
    # A part holds tokens of one document, in their order; put together again they are the documents.
    parts = iter(pieces(sequences))
    for document in documents:
        whole = next(parts)
        while len(whole) < len(document["input_ids"]):
            following = next(parts)
            assert following[0] == whole[-1], "the last token is repeated, to be seen"
            whole = whole + following[1:]
        assert whole == document["input_ids"]
    assert next(parts, None) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=12), st.integers(2, 16))
def test_across_documents_every_token_but_the_very_first_is_learnt_once(lengths: list[int], length: int) -> None:
    documents = numbered(lengths)
    sequences = list(pack(documents, length, across=True))
    assert learnt(sequences) == list(range(2, sum(lengths) + 1))
    assert all(sequence["seq_lengths"] == [len(sequence["input_ids"])] for sequence in sequences)
    assert all(len(sequence["input_ids"]) == length for sequence in sequences[:-1])


def test_by_example() -> None:
    documents: Any = [{"input_ids": [1, 2, 3]}, {"input_ids": [4, 5, 6, 7]}]
    assert list(pack(documents, 5, across=False)) == [
        {"input_ids": [1, 2, 3, 4, 5], "seq_lengths": [3, 2]},
        {"input_ids": [5, 6, 7], "seq_lengths": [3]},
    ]
    assert list(pack(documents, 5, across=True)) == [
        {"input_ids": [1, 2, 3, 4, 5], "seq_lengths": [5]},
        {"input_ids": [5, 6, 7], "seq_lengths": [3]},
    ]
    assert list(pack([], 5, across=False)) == []

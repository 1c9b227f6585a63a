"""Documents joined into sequences of one length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .tokens import Columns


def pack(documents: Iterable[Columns], length: int, across: bool) -> Iterator[Columns]:
    """Sequences of at most `length` tokens, 2 or more: input_ids, and seq_lengths of the parts that see each other.

    A document that does not fit goes on in the next sequence. The last token of a part is repeated there, since the
    first one of a sequence is seen and not predicted: so every token of a document but its first is learnt, once. With
    `across` a sequence is one part, and the first token of a document is learnt from what stands before it.
    """
    ids: list[int] = []
    parts: list[int] = []
    for document in documents:
        tokens, start = document["input_ids"], 0
        while start < len(tokens):
            room = length - len(ids)
            if room < (1 if across else 2):
                yield {"input_ids": ids, "seq_lengths": [len(ids)] if across else parts}
                ids, parts = ids[-1:] if across else [], []
                continue
            part = tokens[start : start + room]
            ids.extend(part)
            parts.append(len(part))
            start += len(part)
            if not across and start < len(tokens):
                start -= 1
    if ids:
        yield {"input_ids": ids, "seq_lengths": [len(ids)] if across else parts}

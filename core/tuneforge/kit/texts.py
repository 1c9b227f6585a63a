"""Texts on which two tokenizers are compared."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence

CONVERSATIONS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "What is 17 * 23?"}],
    [
        {"role": "user", "content": "Translate \u201cgood morning\u201d into French.\n\nThanks!"},
        {"role": "assistant", "content": "Bonjour \u2014 literally \u201cgood day\u201d."},
        {"role": "user", "content": "  And into Japanese?"},
    ],
)

PLAIN: Sequence[str] = (
    "The quick brown fox jumps over the lazy dog.",
    "It's what they're saying: I'll go, you'd stay, WE'VE seen it.",
    "Order #4711: 3 x 12.50 EUR = 37.50 EUR, due 2031-04-05.",
    'def area(r: float) -> float:\n    """Of a circle."""\n    return 3.14159 * r ** 2\n',
    '{"name": "Zo\u00eb", "tags": ["a", "b"], "n": [1, 2.5e-3, null]}',
    "First line\nSecond line\n\n\tindented\r\nlast  line  ",
    "\u00c4pfel, \u0153uvre, a\u00e7\u00e3o, \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148",
    "\u0421\u044a\u0435\u0448\u044c \u0435\u0449\u0451 \u044d\u0442\u0438\u0445 \u0431\u0443\u043b\u043e\u043a",
    "\u6211\u60f3\u5728\u5de5\u4f5c1314151\u5929\uff5e \u6771\u4eac\u90fd\u3067\u3059\u3002 \ud55c\uad6d\uc5b4",
    "\u0627\u0644\u0633\u0644\u0627\u0645 \u0639\u0644\u064a\u0643\u0645 \u0661\u0662\u0663 \u05e9\u05dc\u05d5\u05dd",
    "\U0001f680 done \u2705 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f999\U0001f999",
)

_PIECES = (
    *("a", "Ab", "THE", "'s", "'LL", "'d", "0", "17", "2024", ".", ",", "!?", "--", "(", "_", "/", '"', "<|", "</"),
    *(" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\u00a0", "\u3000", "\u2028", "\u00ad", "\u200b"),
    *("\u00e9", "\u00df", "\u0130", "\u03c9", "\u0416", "\u05d0", "\u0639", "\u0e01\u0e33", "\u0915\u094d\u0937"),
    *("\u4e2d", "\u3042", "\ud55c", "\u00b2", "\u00bd", "\u0663", "\u2167", "\u20ac", "\u2014", "\u2026", "\u201c"),
    *("\U0001f600", "\u2764\ufe0f", "\U0001f468\u200d\U0001f4bb", "\U0001f1eb\U0001f1f7", "\U00020000"),
)


def odd_texts(count: int = 3000) -> list[str]:
    """Strings of pieces at which splitting may go wrong; the same ones each time, in Unicode's composed form (NFC)."""
    chance = random.Random(0)
    texts = ("".join(chance.choices(_PIECES, k=chance.randint(1, 12))) for _ in range(count))
    return [unicodedata.normalize("NFC", text) for text in texts]

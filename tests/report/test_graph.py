"""The picture of the steps: whatever the wires, boxes stand apart and wires keep clear of them."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneforge.report.graph import Picture, fitting, lay_out

DEMONSTRATION = {
    "base": [],
    "chats": [],
    "pairs": [],
    "sft": ["base", "chats"],
    "dpo": ["sft", "pairs"],
    "merged": ["dpo"],
    "gguf": ["merged"],
    "task": ["base", "sft", "dpo", "merged", "chats"],
    "manners": ["base", "sft", "dpo", "pairs"],
    "release": ["merged", "gguf", "task", "manners"],
}
# Five data steps, eight trainings in two rounds, their merges, and one that looks at all of them.
LARGE = (
    {f"data{n}": [] for n in range(5)}
    | {f"first{n}": [f"data{n % 5}"] for n in range(8)}
    | {f"second{n}": [f"first{n}", f"data{(n + 2) % 5}"] for n in range(8)}
    | {f"merged{n}": [f"second{2 * n}", f"second{2 * n + 1}"] for n in range(3)}
    | {"all": [*(f"merged{n}" for n in range(3)), *(f"first{n}" for n in range(8)), "data0"]}
)


@st.composite
def wirings(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"s{place}" for place in range(draw(st.integers(0, 25)))]
    return {
        name: draw(st.lists(st.sampled_from(names[:place]), unique=True, max_size=4)) if place else []
        for place, name in enumerate(names)
    }


def check(picture: Picture, sources: dict[str, list[str]]) -> None:
    boxes = {box.name: box for box in picture.boxes}
    assert sorted(boxes) == sorted(sources)
    for box in boxes.values():
        assert box.x >= -0.01 and box.x + box.width <= picture.width + 0.01
        assert box.y >= -0.01 and box.y + box.height <= picture.height + 0.01
    for one, other in combinations(boxes.values(), 2):
        beside = max(one.x, other.x) - min(one.x + one.width, other.x + other.width)
        below = max(one.y, other.y) - min(one.y + one.height, other.y + other.height)
        assert max(beside, below) >= 10, f"{one} and {other}"
    assert sorted((wire.source, wire.target) for wire in picture.wires) == sorted(
        (source, target) for target, given in sources.items() for source in given
    )
    for wire in picture.wires:
        source, target = boxes[wire.source], boxes[wire.target]
        if picture.down:
            assert source.y + source.height < target.y
        else:
            assert source.x + source.width < target.x
        for x, y in wire.points[1:-1]:  # what lies between two of them bends in the room between layers
            assert -0.01 <= x <= picture.width + 0.01 and -0.01 <= y <= picture.height + 0.01
            for box in boxes.values():
                outside = max(box.x - x, x - box.x - box.width, box.y - y, y - box.y - box.height)
                along = (y in (box.y, box.y + box.height)) if picture.down else (x in (box.x, box.x + box.width))
                apart = (
                    max(box.x - x, x - box.x - box.width) if picture.down else max(box.y - y, y - box.y - box.height)
                )
                assert outside > 0 or (along and apart > 0), f"{wire} touches {box}"


@settings(max_examples=60, deadline=None)
@given(wirings(), st.booleans())
def test_nothing_overlaps(sources: dict[str, list[str]], down: bool) -> None:
    check(lay_out(sources, (150, 62), down=down), sources)
    check(lay_out(sources, (120, 62), down=down, room=350), sources)


@pytest.mark.parametrize("sources", [DEMONSTRATION, LARGE], ids=["demonstration", "25 steps"])
@pytest.mark.parametrize("room", [1060, 350])
def test_pictures_on_a_desk_and_on_a_phone(sources: dict[str, list[str]], room: float) -> None:
    check(fitting(sources, room), sources)


def test_the_demonstration_fits_on_both() -> None:
    desk, phone = fitting(DEMONSTRATION, 1060), fitting(DEMONSTRATION, 350)
    assert desk.width <= 1060 and not desk.down and desk.height < 350
    assert phone.width <= 350 and phone.down


def test_a_chain_is_a_straight_line() -> None:
    chain = {f"s{place}": [f"s{place - 1}"] if place else [] for place in range(25)}
    picture = fitting(chain, 1060)
    assert picture.down
    assert len({box.x for box in picture.boxes}) == 1


def test_what_waits_for_nothing_stands_right_before_its_user() -> None:
    boxes = {box.name: box for box in lay_out(DEMONSTRATION, (150, 62), down=False).boxes}
    assert boxes["pairs"].x == boxes["sft"].x
    assert boxes["base"].x == boxes["chats"].x == 0

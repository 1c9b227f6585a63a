"""The order in which prompts are answered: every prompt as often as every other, and the same after a crash."""

from collections import Counter

from tuneforge_trl.online.rounds import Rounds


def rounds(rows: int, **changes: int) -> list[list[int]]:
    """The rows of each micro-batch-sized repeat of a round."""
    settings = {"prompts": 2, "generations": 3, "repeats": 2, "rounds": 7, "seed": 1} | changes
    sampler = Rounds(rows, **settings)
    order = list(sampler)
    assert len(order) == len(sampler)
    size = settings["prompts"] * settings["generations"]
    return [order[start : start + size] for start in range(0, len(order), size)]


def test_a_round_is_given_once_for_each_use_and_a_prompt_once_for_each_answer() -> None:
    given = rounds(5)
    assert len(given) == 14
    assert given[0::2] == given[1::2]
    assert all(row[0] == row[1] == row[2] and row[3] == row[4] == row[5] for row in given)


def test_no_prompt_is_left_out_where_a_shuffle_does_not_fill_its_last_round() -> None:
    """Ten prompts, of which a round has two, are two shuffles of five, and the next four begin a third one."""
    asked = [row for part in rounds(5)[0::2] for row in part[::3]]
    assert [Counter(asked[:5]), Counter(asked[5:10])] == [Counter(range(5))] * 2
    assert asked[:5] != asked[5:10]


def test_there_may_be_fewer_prompts_than_a_round_has() -> None:
    assert [part[::3] for part in rounds(1, rounds=1)] == [[0, 0]] * 2


def test_the_order_is_a_function_of_the_seed() -> None:
    assert rounds(50) == rounds(50) != rounds(50, seed=2)

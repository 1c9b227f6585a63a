"""Fusing what matters of one model into another."""

from .base import Based


class ArceeFusion(Based):
    """Takes from one model the weights that have changed most since its base, and leaves the others at the base's.

    What counts is the change of a weight times the change of its row's distribution; weights above the median by one
    and a half times the distance of the quartiles are taken (Arcee AI, 2024).
    """

    name = "arcee_fusion"
    least = 1
    most = 1

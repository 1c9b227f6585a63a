"""`each:` on a step: the ways in which it is repeated, and the repeats."""

"""Options that a method does not read in the mode that was chosen: whoever sets one expects it to do something."""

from collections.abc import Iterable, Iterator

from tuneforge import Config, Finding


def unread(method: Config, options: Iterable[str], mode: str) -> Iterator[Finding]:
    """Findings on those of the options that were set, though `mode` reads none of them."""
    for option in sorted(method.model_fields_set & {*options}):
        yield Finding(f"{option} is not read by {mode}", f"Leave {option} out, or choose otherwise.", field=option)

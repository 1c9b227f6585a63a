"""torchrun on one machine, which in the end writes down how its ranks ended.

`python -m tuneforge.launch.agent ENDED ...`: what follows are torchrun's own arguments. ENDED becomes a JSON object:
for each rank that failed its exit code, minus the signal if one ended it, and when, in seconds since 1970.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..child import die_with_parent
from .torchrun import write_whole


def launch(ended: Path, arguments: list[str]) -> int:
    """Runs torchrun to its end; 1 if a rank failed."""
    die_with_parent()
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    try:
        main(arguments)
    except ChildFailedError as error:
        failures = {rank: (failure.exitcode, failure.timestamp) for rank, failure in error.failures.items()}
        write_whole(ended, failures)
        return 1
    write_whole(ended, {})
    return 0


if __name__ == "__main__":
    sys.exit(launch(Path(sys.argv[1]), sys.argv[2:]))

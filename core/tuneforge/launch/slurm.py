"""A recipe as a job of Slurm: a script that is ready for sbatch."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def sbatch_script(
    *,
    name: str,
    recipe: Path,
    home: Path,
    settings: Sequence[str],
    launch: Sequence[str],
    nodes: int,
    gpus: int,
    options: Sequence[str],
) -> str:
    """The script: one tuneforge on each node, of which node 0 leads, and which meet at its address.

    `launch` are `key=value` beside nodes, processes and rendezvous; `options` are `name=value` for sbatch itself. Paths
    are made absolute: a job begins elsewhere, and each node must find the same files there.
    """
    job = re.sub(r"[^\w.-]+", "-", name).strip("-") or "recipe"  # a directive ends at a space, a file's name holds no /
    directives = [
        f"job-name={job}",
        f"nodes={nodes}",
        "ntasks-per-node=1",
        *([f"gpus-per-node={gpus}"] if gpus else []),
        f"output={job}-%j.log",
        "open-mode=append",
        "requeue",  # what is started again goes on from its checkpoints
        *options,
    ]
    spread = [f"nodes={nodes}", f"processes={gpus or 1}", *launch]
    command = [str(Path(sys.executable).with_name("tuneforge")), "--home", str(home), "run", str(recipe)]
    for setting in settings:
        command += ["--set", setting]
    if nodes == 1:
        run = f"srun {shlex.join(command)} --launch {shlex.quote(','.join(spread))}"
    else:
        # Each task asks for its own number: srun expands nothing by itself.
        inner = f"exec {shlex.join(command)} --launch {shlex.quote(','.join(spread))}"
        inner += ',rendezvous="$0" --node "$SLURM_NODEID"'
        run = f'srun --kill-on-bad-exit=1 bash -c {shlex.quote(inner)} "$head:$port"'
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{directive}" for directive in directives),
        "",
        "# Written by tuneforge sbatch. The home is shared by all nodes, and lies at the same path on each.",
        "set -euo pipefail",
        f"cd {shlex.quote(str(Path.cwd()))}",
    ]
    if nodes > 1:
        lines += [
            'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            "port=$((20000 + SLURM_JOB_ID % 20000))  # another job on these nodes meets elsewhere",
        ]
    return "\n".join([*lines, run, ""])

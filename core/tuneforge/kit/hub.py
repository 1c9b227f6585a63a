"""Names of the Hugging Face Hub, for options: without its client. What asks the Hub is in `hub_client`."""

from __future__ import annotations

import re
from typing import Literal

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A full commit, which never moves."""

CLIENT = "huggingface_hub>=1.31"
"""What reading from the Hub needs."""

RepoType = Literal["model", "dataset"]

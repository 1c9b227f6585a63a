"""What the worker imports before it forks a step: the engine, and most of what gptqmodel imports.

gptqmodel itself starts threads when it is imported, and so waits for the fork; three quarters of its time are these.
"""

import datasets  # noqa: F401
import torch._dynamo.aot_compile  # noqa: F401

from . import engine  # noqa: F401

"""When each optimisation step of a training ended, and with which loss, whatever program trains with a Trainer.

With this folder on PYTHONPATH, every Python that starts imports it. It waits for `transformers.trainer` and then adds a
callback to every Trainer, so that no tool is changed and all are measured by the same lines. What was seen is written
to the file that $TRAINING_CLOCK names.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import time
from types import ModuleType
from typing import Any

_TRAINER = "transformers.trainer"


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, path: str) -> None:
        self._path = path

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != _TRAINER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        spec.loader = _Loader(spec.loader, self._path)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, path: str) -> None:
        self._loader, self._path = loader, path

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _add_clock(module, self._path)


def _add_clock(module: Any, path: str) -> None:
    class Clock(module.TrainerCallback):  # type: ignore[misc]
        """Notes when a step ended; the next one's beginning is the end of all that the tool does in between."""

        def __init__(self) -> None:
            self.ends: list[float] = []
            self.works: list[float] = []
            self.losses: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.time())
            self.works.append(time.process_time())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                self.losses.append(float(logs["loss"]))

        def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            import torch

            weights = list(model.parameters())
            seen = {
                "ends": self.ends,
                "works": self.works,
                "losses": self.losses,
                "threads": torch.get_num_threads(),
                "trained": sum(weight.numel() for weight in weights if weight.requires_grad),
                "dtypes": sorted({str(weight.dtype).removeprefix("torch.") for weight in weights}),
                "micro_batch": args.per_device_train_batch_size,
                "accumulation": args.gradient_accumulation_steps,
                "optimizer": str(args.optim).rpartition(".")[2],
                "attention": getattr(model.config, "_attn_implementation", ""),
                "checkpointing": args.gradient_checkpointing,
                "versions": {name: sys.modules[name].__version__ for name in ("torch", "transformers", "peft")},
            }
            with open(f"{path}.new", "w") as file:  # noqa: PTH123
                json.dump(seen, file)
            os.replace(f"{path}.new", path)  # noqa: PTH105

    begin = module.Trainer.__init__

    def started(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self.add_callback(Clock())

    module.Trainer.__init__ = started


if "TRAINING_CLOCK" in os.environ:
    sys.meta_path.insert(0, _Finder(os.environ["TRAINING_CLOCK"]))

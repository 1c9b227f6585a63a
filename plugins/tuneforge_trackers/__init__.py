"""Tools that runs are told of: TensorBoard, Weights & Biases, MLflow, Trackio."""

from __future__ import annotations

from tuneforge import Tracker, hookimpl

from .mlflow import Mlflow
from .tensorboard import TensorBoard
from .trackio import Trackio
from .wandb import WeightsAndBiases


@hookimpl
def register_tracker() -> list[type[Tracker]]:
    return [TensorBoard, WeightsAndBiases, Mlflow, Trackio]

"""What GPTQ and AWQ have in common: calibration, what can be known before, and the configuration that comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from tuneforge import ChatData, Facts, Field, Finding, Known, Model, Quantize, QuantizedModel, Step, TextData
from tuneforge.artifacts import Tensor
from tuneforge.kit.packed import FLOATS

from .backends import NEEDS
from .layers import Rounding, rounded

LEAST_ROWS = 4
"""With fewer calibration rows there is nothing to go by."""

FEW_ROWS = 32
"""With fewer the result hangs on which ones they are."""

OWN_ROWS, OWN_LENGTH = 32, 256
"""How many rows a model writes for itself, at most, where there is no data, and of how many tokens."""


class Calibrated(Quantize):
    """A model whose linear layers are rounded so that what they make of calibration rows changes least."""

    version = 2
    output = QuantizedModel
    needs = NEEDS["gptqmodel"]
    engine = "tuneforge_gptqmodel.ahead"

    bits: int
    backend: str

    group_size: Literal[-1, 16, 32, 64, 128] = Field(
        128,
        also=("q_group_size", "groupsize"),
        description="How many weights of a row share a scale; -1 is a whole row.",
    )
    rows: int = Field(
        128,
        ge=LEAST_ROWS,
        also=("nsamples", "num_samples", "num_calibration_samples", "max_calib_samples", "calibration_rows"),
        description="Rows to calibrate on, chosen from the training part of the data by the seed.",
    )
    max_length: int = Field(
        2048,
        ge=16,
        also=("max_calib_seq_len", "seqlen", "max_seq_length", "calibration_length", "model_seqlen"),
        description="Tokens after which a calibration row is cut off.",
    )

    @property
    def rounding(self) -> Rounding:
        """How the result's layers are stored."""
        raise NotImplementedError

    def quantization_config(self) -> dict[str, Any]:
        """What config.json says of the result, as transformers and vLLM read it."""
        raise NotImplementedError

    def requires(self, facts: Known) -> tuple[str, ...]:
        return NEEDS[self.backend]

    def foresee(self, facts: Known) -> Facts:
        given = next(iter(facts.get("model", ())), None)
        if given is None:
            return super().foresee(facts)
        config = self.config_of(given.config, given.tensors) if given.config else {}
        return replace(given, kind=QuantizedModel, config=config, tensors=rounded(given, self.rounding))

    def config_of(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """The result's config.json, made of the model's, with the dtype that follows from the model's tensors."""
        dtype = FLOATS.get(self.rounding.held(tensors))
        made = dict(config)
        if dtype and dtype != config.get("dtype", config.get("torch_dtype")):
            made.pop("torch_dtype", None)
            made["dtype"] = dtype
        return made | {"quantization_config": self.quantization_config()}

    def check(self, facts: Known) -> Iterator[Finding]:
        from .checks import check

        yield from check(self, facts)

    def run(self, model: Model, data: ChatData | TextData | None = None, *, step: Step) -> None:
        from .engine import quantize

        quantize(self, model, data, step)

"""AWQ by autoawq 0.2.9."""

from __future__ import annotations

from pathlib import Path

import torch

from tuneforge import Step

from .awq import Awq
from .calibration import Rows
from .legacy import full, older, quantized, tokenizer

__all__ = ["full", "quantize", "quantized", "tokenizer"]


def quantize(options: Awq, folder: Path, dtype: torch.dtype, rows: Rows, out: Path, step: Step) -> None:
    """See `engine.Library`."""
    from awq import AutoAWQForCausalLM
    from awq.quantize.quantizer import AwqQuantizer

    class Telling(AwqQuantizer):  # type: ignore[misc]
        """Tells how many layers are done, and keeps weights apart from the copy that they are restored from.

        autoawq takes that copy by `.cpu()`, which on a CPU is the weights themselves: the first scales it tries stay in
        them, and the model comes out wrong without a word.
        """

        def _compute_best_scale(self, x, w_mean, x_mean, module2inspect, *rest, **named):  # type: ignore[no-untyped-def]
            kept = {name: tensor.clone() for name, tensor in module2inspect.state_dict().items()}
            module2inspect.state_dict = lambda: kept
            try:
                return super()._compute_best_scale(x, w_mean, x_mean, module2inspect, *rest, **named)
            finally:
                del module2inspect.state_dict

        def _search_best_clip(self, layer, named_linears, input_feat):  # type: ignore[no-untyped-def]
            done = next(place for place, each in enumerate(self.modules, 1) if layer is each)
            step.progress(done, len(self.modules))
            return super()._search_best_clip(layer, named_linears, input_feat)

    # It joins the rows and cuts them into pieces of one length; longer rows it would leave out.
    length = min(options.max_length, max(map(len, rows)))
    loaded = AutoAWQForCausalLM.from_pretrained(str(older(folder, step.scratch)), device_map=None, torch_dtype=dtype)
    loaded.quantize(
        None,
        quant_config={
            "zero_point": options.zero_point,
            "q_group_size": options.group_size,
            "w_bit": options.bits,
            "version": "GEMM",
        },
        calib_data=rows,
        max_calib_samples=len(rows),
        max_calib_seq_len=length,
        quantizer_cls=Telling,
    )
    loaded.save_quantized(str(out), safetensors=True)

"""`load_model: new`: a new, untrained model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from tuneforge import Facts, Field, Finding, Known, LoadModel, Model, Source, Step

_TEMPLATE = Path(__file__).with_name("chatml.jinja")
_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "mistral": "MistralForCausalLM"}


class New(LoadModel):
    """A model with random weights and a tokenizer of its own, to be trained from the beginning.

    The tokenizer is a byte-level BPE trained on a text, with ChatML turns. For llama.cpp's k-quants, let hidden_size
    and intermediate_size be multiples of 256.
    """

    name = "new"
    needs = ("torch>=2.6", "transformers>=5", "tokenizers>=0.21")
    engine = "tuneforge_models.fresh"

    tokenizer: Source = Field(description="A text file, in UTF-8, that the tokenizer is trained on.")
    architecture: Literal["llama", "qwen2", "mistral"] = Field("llama", description="How the model is built.")
    hidden_size: int = Field(256, ge=1, description="Width of the model.", also=("n_embd", "d_model", "dim"))
    intermediate_size: int = Field(512, ge=1, description="Width inside a feed-forward block.", also=("ffn_dim",))
    layers: int = Field(6, ge=1, description="Number of layers.", also=("num_hidden_layers", "n_layer"))
    heads: int = Field(4, ge=1, description="Attention heads of a layer.", also=("num_attention_heads", "n_head"))
    kv_heads: int = Field(
        2,
        ge=1,
        description="Heads for keys and values, each shared by heads / kv_heads.",
        also=("num_key_value_heads",),
    )
    context: int = Field(
        4096, ge=1, description="Longest text in tokens.", also=("max_position_embeddings", "n_ctx", "block_size")
    )
    tied: bool = Field(True, description="Whether input and output share one embedding.", also=("tie_word_embeddings",))
    vocab_size: int = Field(
        2048, ge=259, description="Most tokens the tokenizer may have; 256 bytes and three special ones are among them."
    )
    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="Type of the saved weights.", also=("torch_dtype",)
    )

    def foresee(self, facts: Known) -> Facts:
        config = {
            "model_type": self.architecture,
            "architectures": [_CLASSES[self.architecture]],
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": self.tied,
            "dtype": self.dtype,
        }
        return Facts(Model, config, template=_TEMPLATE.read_text(encoding="utf-8"))

    def check(self, facts: Known) -> Iterable[Finding]:
        if not self.tokenizer.is_file():
            found = "is a folder" if self.tokenizer.is_dir() else "is not there"
            yield Finding(f"{self.tokenizer} {found}", "Name a text file.", field="tokenizer")
        if self.hidden_size % (2 * self.heads):
            yield Finding(
                f"hidden_size {self.hidden_size} does not divide into {self.heads} heads of an even width",
                f"Rotary positions turn pairs: take a multiple of {2 * self.heads}.",
                field="hidden_size",
            )
        if self.heads % self.kv_heads:
            yield Finding(
                f"{self.heads} heads cannot share {self.kv_heads} kv_heads evenly",
                f"Take one of {', '.join(str(n) for n in range(1, self.heads + 1) if self.heads % n == 0)}.",
                field="kv_heads",
            )

    def run(self, step: Step) -> None:
        import torch

        from .fresh import make_model, make_tokenizer, save

        with self.tokenizer.open(encoding="utf-8") as lines:
            tokenizer = make_tokenizer(lines, self.vocab_size)
        model = make_model(
            self.architecture,
            tokenizer,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            context=self.context,
            tied=self.tied,
            dtype=getattr(torch, self.dtype),
            seed=step.seed,
        )
        save(model, tokenizer, step.out)
        step.metrics(parameters=model.num_parameters(), tokens=len(tokenizer))

"""`quantize: gguf`: a model as one GGUF file."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from typing import Literal

from tuneforge import ChatData, Facts, Field, Finding, Gguf, Known, Model, Quantize, Step, Target, TextData

from .installed import IMATRIX, QUANTIZE, missing, programs
from .types import CONVERTED, FULL, TYPES, type_of

LLAMA_CPP_PYTHON = "llama-cpp-python==0.3.36"

_NOT_BUILT = ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER", "APP")
_NOT_USED = ("NATIVE", "OPENMP", "LLAMAFILE", "CPU_REPACK", "METAL", "BLAS")
_READING = ("gguf>=0.19", "jinja2>=3.1", "numpy>=1.26", "pyarrow>=18", "xllamacpp>=2026.10")
_BETTER_WITH = ("iq4_xs", "q2_k")


class ToGguf(Quantize):
    """A model as one GGUF file for llama.cpp, Ollama, LM Studio and their like.

    f32, f16, bf16 and q8_0 of a model are written by llama.cpp's own converter, which comes out of llama-cpp-python's
    source archive. The other types are llama.cpp's own quantizing: by the llama-quantize that is on the PATH or in the
    folder `llama_cpp`, else by llama-cpp-python, which is built once, in an environment of its own, and takes some
    minutes. The input may itself be a GGUF file of f32, f16 or bf16: then nothing is converted, and torch not needed.

    With calibration data, the importance matrix is computed from its training rows as llama-imatrix does: it tells
    which weights meet large inputs, and are to be rounded less.

    The file is loaded in llama.cpp afterwards and compared with what it was made of: weights, vocabulary, chat
    template, the tokens of a few thousand texts, next-token probabilities. A file that says something else is not left
    behind.
    """

    name = "gguf"
    version = 2
    output = Gguf
    needs = (
        "filelock>=4",
        *_READING,
        "jinja2>=3.1",
        "safetensors>=0.4",
        "sentencepiece>=0.2",
        "torch>=2.6",
        "transformers>=5",
        "uv>=0.8.2",
    )
    # llama.cpp's library alone, by its own CMake project, as llama-cpp-python's would compile twice as much; with few
    # optimizations, since most of it is architectures that are never run here, and the quantizing itself is C.
    build = tuple(
        f"{LLAMA_CPP_PYTHON.partition('==')[0]}:{setting}"
        for setting in (
            "cmake.source-dir=vendor/llama.cpp",
            "wheel.install-dir=llama_cpp",
            "cmake.define.CMAKE_INSTALL_LIBDIR=lib",
            "cmake.define.CMAKE_INSTALL_RPATH=$ORIGIN",
            "cmake.define.CMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",
            "cmake.define.BUILD_SHARED_LIBS=ON",
            *(f"cmake.define.LLAMA_BUILD_{part}=OFF" for part in _NOT_BUILT),
            *(f"cmake.define.GGML_{part}=OFF" for part in _NOT_USED),
        )
    )
    engine = "tuneforge_gguf.engine"

    type: Literal[
        "f32",
        "f16",
        "bf16",
        "q8_0",
        "q6_k",
        "q5_k_m",
        "q5_k_s",
        "q4_k_m",
        "q4_k_s",
        "q4_0",
        "q3_k_m",
        "q2_k",
        "iq4_xs",
    ] = Field(
        "q8_0",
        description="How weights are stored: f32, f16, bf16, or in blocks of numbers of about so many bits.",
        also=("outtype", "quantization_method", "ftype"),
    )
    calibration_chunks: int = Field(
        64,
        ge=1,
        description="With calibration data: how many pieces of text the importance matrix is computed from, at most.",
        also=("chunks", "num_calibration_samples", "nsamples"),
    )
    calibration_length: int = Field(
        512,
        ge=16,
        description="Tokens of each piece of calibration text.",
        also=("n_ctx", "ctx_size", "max_seq_length", "seqlen"),
    )
    llama_cpp: Target | None = Field(
        None,
        description="The folder of a llama.cpp's programs to quantize with; without, those on the PATH are taken. "
        "Of which version they are is told by the step's figures (quantized_by), and is no part of its key.",
        keyed=False,
    )

    def requires(self, facts: Known) -> tuple[str, ...]:
        given = [fact.kind for fact in facts.get("model", ())]
        needs = _READING if Gguf in given else self.needs
        data = bool(facts.get("data"))
        if (Gguf in given or self.type not in CONVERTED) and programs(self.llama_cpp, *self._asked(data)) is None:
            needs = (*needs, LLAMA_CPP_PYTHON)
        return needs

    def foresee(self, facts: Known) -> Facts:
        model = next(iter(facts.get("model", ())), None)
        config = {"general.file_type": TYPES[self.type].number}
        if model is not None and "general.architecture" in model.config:
            config["general.architecture"] = model.config["general.architecture"]
        return Facts(Gguf, config, template=model.template if model else None)

    def check(self, facts: Known) -> Iterable[Finding]:
        for model in facts["model"]:
            yield from self._check_file(model) if model.kind is Gguf else self._check_model(model)
        yield from self._check_calibration(facts)
        lacking = missing(self.llama_cpp, self._asked(bool(facts.get("data")))) if self.llama_cpp else []
        if lacking:
            yield Finding(
                f"{self.llama_cpp} lacks {' and '.join(lacking)}",
                "Name the folder that holds them: bin of a build, or of an installation.",
                field="llama_cpp",
            )
        if LLAMA_CPP_PYTHON in self.requires(facts) and not (shutil.which("c++") and shutil.which("cc")):
            yield Finding(
                "llama-cpp-python has to be built, and there is no C++ compiler on the PATH",
                "Install one (Debian: g++), or a llama.cpp: brew install llama.cpp.",
                level="warning",
            )

    def _asked(self, data: bool) -> list[str]:
        return [QUANTIZE, *([IMATRIX] if data else [])]

    def _check_file(self, file: Facts) -> Iterator[Finding]:
        if "general.file_type" not in file.config:
            return
        found = type_of(file.config["general.file_type"])
        if found not in FULL:
            yield Finding(
                f"the GGUF file is of {found} already: what that took away would be lost in {self.type} too",
                "Take one of f16, bf16 or f32, or the model itself.",
            )
        elif found == self.type:
            yield Finding(f"the GGUF file is of {found} already", "Leave this step out.", field="type")

    def _check_model(self, model: Facts) -> Iterator[Finding]:
        from .convertible import unconvertible

        yield from unconvertible(model)
        matrices = [tensor for tensor in model.tensors.values() if len(tensor.shape) == 2]
        odd = [tensor for tensor in matrices if tensor.shape[-1] % 256]
        if TYPES[self.type].superblocks and odd:
            yield Finding(
                f"{len(odd)} of the model's {len(matrices)} matrices have rows that are no multiple of 256, as "
                f"{self.type} cuts them: llama.cpp stores those in types of more bits",
                "Take q8_0 or q4_0, whose blocks are of 32, or live with a larger file.",
                level="warning",
                field="type",
            )

    def _check_calibration(self, facts: Known) -> Iterator[Finding]:
        data = facts.get("data", ())
        if data and TYPES[self.type].block == 1:
            yield Finding(f"{self.type} rounds every weight alike: calibration data changes nothing", "Leave data out.")
        elif data and self.type == "q8_0":
            yield Finding("llama.cpp makes q8_0 without an importance matrix", "Leave data out, or take fewer bits.")
        elif not data and self.type in _BETTER_WITH:
            yield Finding(
                f"{self.type} without an importance matrix loses much of the model",
                "Wire calibration data to data: such as what it was trained on.",
                level="warning",
                field="type",
            )
        for one in data:
            if one.kind is ChatData and any(model.config and not model.template for model in facts["model"]):
                yield Finding("the model has no chat template to render calibration chats by", "Take data of texts.")

    def run(self, model: Model | Gguf, data: ChatData | TextData | None = None, *, step: Step) -> None:
        from .converter import converter_cache
        from .engine import make

        make(self, model, data, converter_cache(), step)

"""What a plan says of a training before anything runs."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tuneforge import Adapter, Facts, Finding, Model
from tuneforge.artifacts import Tensor, context_length
from tuneforge.inputs import inputs_of
from tuneforge.kit.adapters import is_prompt, needs_cache, peft_type, unmergeable
from tuneforge.plugins import Plugins
from tuneforge.recipe import read_recipe
from tuneforge.schema import recipe_schema
from tuneforge_peft.adapter import MergeAdapter
from tuneforge_trl import register_align, register_train
from tuneforge_trl.adapters import TYPES
from tuneforge_trl.adapters.lora import Lora
from tuneforge_trl.preferences.dpo import Dpo
from tuneforge_trl.sft import Sft

LAYERS = [f"model.layers.0.self_attn.{name}_proj" for name in "qkvo"] + ["model.embed_tokens", "lm_head"]


@pytest.fixture
def model(base: Model) -> Facts:
    return Model.facts(base.path)


def problems(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.problem, finding.fix, finding.field) for finding in findings]


def test_a_sound_plan(model: Facts) -> None:
    for method in (Sft(), Dpo(), Sft(adapter={"r": 8}), Dpo(adapter={"target_modules": ["q_proj", "mlp.up_proj"]})):
        assert list(method.check({"model": [model], "data": []})) == []
        assert list(method.check({})) == []


def test_an_unknown_layer(model: Facts) -> None:
    adapter = {"target_modules": ["q_prj", "v_proj", "attention", "lm_head"]}
    assert problems(list(Sft(adapter=adapter).check({"model": [model]}))) == [
        (
            "the model has no linear layer 'q_prj' to put an adapter on",
            "Did you mean q_proj or v_proj or o_proj?",
            "adapter.target_modules",
        ),
        (
            "the model has no linear layer 'attention' to put an adapter on",
            "It has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj; or set auto.",
            "adapter.target_modules",
        ),
        ("lm_head is the output head, which gets no adapter", "Leave it out.", "adapter.target_modules"),
    ]


def test_no_chat_template(model: Facts) -> None:
    for method in (Sft(), Dpo()):
        assert problems(list(method.check({"model": [replace(model, template=None)]}))) == [
            (
                "the model has no chat template, so conversations cannot be written as it would read them",
                "Take the model's chat or instruct version, or add a chat_template.jinja to its folder.",
                "",
            )
        ]


def test_more_than_the_context(model: Facts) -> None:
    assert list(Sft(max_length=256).check({"model": [model]})) == []
    assert problems(list(Sft(max_length=257).check({"model": [model]}))) == [
        (
            "max_length 257 is more than the model's context of 256 tokens",
            "Set it to 256 or less, or leave it out.",
            "max_length",
        )
    ]


def test_an_adapter_on_an_adapter(model: Facts) -> None:
    adapter = Facts(Adapter, {"peft_type": "LORA"}, {}, model.tokenizer, model.template, model)
    assert list(Sft().check({"model": [adapter]})) == []
    assert problems(list(Dpo(adapter={"r": 4}).check({"model": [adapter]}))) == [
        (
            "the model is already an adapter, and one adapter cannot be put on another",
            "Leave adapter: out to train that adapter on, or merge it into its base first (merge: adapter).",
            "adapter",
        )
    ]


def test_a_prompt_that_is_trained_on(model: Facts) -> None:
    adapter = Facts(Adapter, {"peft_type": "PREFIX_TUNING"}, {}, model.tokenizer, model.template, model)
    found = list(Sft(packing=True, gradient_checkpointing=True).check({"model": [adapter]}))
    assert [finding.field for finding in found] == ["packing", "gradient_checkpointing"]


def test_a_quantized_model(model: Facts) -> None:
    quantized = replace(model, config={**model.config, "quantization_config": {"quant_method": "gptq"}})
    assert [finding.field for finding in Sft().check({"model": [quantized]})] == ["adapter"]
    assert list(Sft(adapter={"r": 4}).check({"model": [quantized]})) == []


def test_micro_batches_that_do_not_make_a_batch() -> None:
    assert problems(list(Sft(batch_size=12, micro_batch_size=5).check({}))) == [
        (
            "batch_size 12 cannot be made of micro batches of 5",
            "Make micro_batch_size a divisor of 12, such as 4.",
            "micro_batch_size",
        )
    ]
    assert [finding.fix for finding in Sft(batch_size=4, micro_batch_size=8).check({})] == [
        "Make it 4 or less: batch_size counts all rows of a step, micro_batch_size those in memory."
    ]


def test_dropout_in_dpo_is_advised_against(model: Facts) -> None:
    (finding,) = Dpo(adapter={"dropout": 0.1}).check({"model": [model]})
    assert (finding.level, finding.field) == ("warning", "adapter.dropout")


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 0},
        {"adapter": {"r": 0}},
        {"adapter": {"type": "lara"}},
        {"epochs": 0},
        {"lr": 1e-4},
        {"schedule": "x"},
    ],
)
def test_options_out_of_range(options: dict[str, object]) -> None:
    for method in (Sft, Dpo):
        with pytest.raises(ValueError, match="validation error"):
            method(**options)


def test_what_comes_out(model: Facts) -> None:
    whole, lora = Sft(), Sft(adapter={"r": 8})
    assert whole.writes({"model": [Model]}) is Model
    assert lora.writes({"model": [Model]}) is Adapter
    assert whole.writes({"model": [Adapter]}) is Adapter
    assert whole.foresee({"model": [model]}) == model
    adapter = lora.foresee({"model": [model]})
    assert (adapter.kind, adapter.base, adapter.template) == (Adapter, model, model.template)
    assert adapter.config == {"peft_type": "LORA", "r": 8, "lora_alpha": 16}
    assert whole.foresee({"model": [adapter]}) == adapter
    assert lora.foresee({}).kind is Adapter


def test_defaults() -> None:
    assert Sft().micro(8) == 8 and Sft(batch_size=12).micro(8) == 6 and Sft(micro_batch_size=2).micro(8) == 2
    assert Sft().longest({"max_position_embeddings": 512}) == 512
    assert Sft().longest({"max_position_embeddings": 131072}) == Sft().longest({}) == 4096
    assert Sft(max_length=99).longest({"max_position_embeddings": 512}) == 99
    assert context_length({"n_positions": 1024}) == 1024
    assert context_length({"text_config": {"max_position_embeddings": 1024}}) == 1024
    assert (Lora(r=4).scale, Lora(r=4, alpha=4).scale) == (8, 4)
    assert Sft().rate(full=1, adapter=2, is_adapter=True) == 2
    assert Sft(learning_rate=3).rate(full=1, adapter=2, is_adapter=True) == 3


def test_what_the_split_of_a_batch_and_the_log_do_not_count_for() -> None:
    keyed = {"keyed": True}
    same = Sft(micro_batch_size=1, log_every=1, save_every=1, gradient_checkpointing=True)
    assert same.model_dump(context=keyed) == Sft().model_dump(context=keyed) == {}
    assert Sft(adapter={}).model_dump(context=keyed) == {"adapter": {"type": "lora"}}
    assert Dpo(beta=0.2).model_dump(context=keyed) == {"beta": 0.2}


def test_registered_without_heavy_imports() -> None:
    assert [method.name for method in register_train()] == ["pretrain", "reward", "sft"]
    assert [method.name for method in register_align()] == [
        *("cpo", "distill", "dpo", "grpo", "kto", "online_dpo", "orpo", "rloo", "simpo"),
    ]
    assert [str(given) for given in inputs_of(Sft).values()] == ["model or adapter", "chat-data or text-data"]
    code = "import sys, tuneforge_trl; print({'torch', 'transformers', 'pyarrow', 'trl', 'peft'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_layer_names_that_only_end_alike_are_not_enough() -> None:
    tensors = {f"{name}.weight": Tensor("F32", (4, 4)) for name in LAYERS}
    facts = Facts(Model, {"hidden_size": 4}, tensors)
    fine = Sft(adapter={"target_modules": ["q_proj", "self_attn.v_proj", "model.layers.0.self_attn.o_proj"]})
    assert list(fine.check({"model": [facts]})) == []
    assert len(list(Sft(adapter={"target_modules": ["proj", "embed_tokens"]}).check({"model": [facts]}))) == 2


TYPED = [{} if kind == "lora" else {"type": kind} for kind in TYPES]


@pytest.mark.parametrize("adapter", TYPED, ids=list(TYPES))
def test_every_type_is_planned(adapter: dict[str, str], model: Facts) -> None:
    for method in (Sft(adapter=adapter), Dpo(adapter=adapter)):
        assert list(method.check({"model": [model]})) == []
        foreseen = method.foresee({"model": [model]})
        assert method.adapter is not None
        assert peft_type(foreseen.config) == method.adapter.peft_type
        merge = [finding.level for finding in MergeAdapter().check({"model": [foreseen]})]
        assert ("error" in merge) == (not method.adapter.mergeable)
        assert ("warning" in merge) == method.adapter.quantizes


def test_what_a_type_declares_is_what_its_configuration_tells() -> None:
    for adapter in TYPES.values():
        assert adapter.mergeable == (not unmergeable(adapter.peft_type)), adapter
        assert adapter.packable == (not is_prompt(adapter.peft_type)), adapter
        assert adapter.checkpointable == (not needs_cache(adapter.peft_type)), adapter
        assert adapter.paper[1].startswith("https://arxiv.org/abs/") and adapter.paper[1] in (adapter.__doc__ or "")


def test_what_a_type_cannot_be_put_on(model: Facts) -> None:
    def told(adapter: dict[str, object], **config: object) -> list[tuple[str, str]]:
        given = replace(model, config={**model.config, **config})
        findings = Sft(adapter=adapter).check({"model": [given]})
        return [(finding.problem, finding.field) for finding in findings]

    gptq = {"quantization_config": {"quant_method": "gptq"}}
    nf4 = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}}
    assert told({"type": "oft"}, model_type="gpt2") == [
        ("oft cannot be put on the Conv1D layers of a gpt2 model", "adapter.type")
    ]
    assert told({"type": "pissa"}, **gptq) == [("pissa cannot be trained on a quantized model", "adapter.type")]
    assert told({"type": "qlora"}, **gptq) == [
        ("the model is quantized already, by gptq, and cannot be rounded to nf4", "adapter.base")
    ]
    assert told({"type": "qlora"}, **nf4) == []
    assert [field for _, field in told({"type": "qlora", "base": "int8"}, **nf4)] == ["adapter.base"]
    bare = replace(model, tensors={"backbone.layers.0.mixer.A_log": Tensor("F32", (4,))})
    for kind, part in (("houlsby", "attention and mlp"), ("pfeiffer", "mlp"), ("qlora", "")):
        (finding,) = Sft(adapter={"type": kind}).check({"model": [bare]})
        assert part in finding.problem and finding.field == "adapter.type"


def test_ranks_that_cannot_shrink(model: Facts) -> None:
    def fields(**options: object) -> list[str]:
        return [finding.field for finding in Sft(adapter={"type": "adalora", **options}).check({"model": [model]})]

    assert fields(target_r=4, init_r=4) == []
    assert fields(target_r=4, init_r=2) == ["adapter.init_r"]
    assert fields(begin=0.5, end=0.5) == ["adapter.end"]


def test_the_usual_learning_rate_of_a_type() -> None:
    assert Sft(adapter={"type": "vera"}).rate(full=1, adapter=2e-4, is_adapter=True) == pytest.approx(4e-3)
    assert Sft(adapter={"type": "vera"}, learning_rate=1e-5).rate(full=1, adapter=2, is_adapter=True) == 1e-5


@pytest.mark.parametrize(
    ("adapter", "told"),
    [
        ("{type: dora, rr: 3}", "adapter: dora has no option rr / Did you mean r?"),
        ("{type: dora, lora_r: 3}", "adapter: dora has no option lora_r / It is called adapter.r here."),
        ("{use_dora: true}", "adapter: lora has no option use_dora / Write adapter: {type: dora}."),
        (
            "{type: prefix, r: 3}",
            "adapter: prefix has no option r / It is an option of lora, qlora, dora, rslora, pissa, loha, vera; prefix "
            "knows: tokens, type.",
        ),
        ("{type: lara}", "adapter: there is no type lara / Did you mean lora?"),
        ("{type: prefix_tuning}", "adapter: there is no type prefix_tuning / It is called prefix here."),
        ("lora", "adapter is a block of options / adapter: {type: lora}"),
        (
            "[lora]",
            "adapter is a block of options / There are: lora, qlora, dora, rslora, pissa, adalora, ia3, loha, vera, "
            "oft, prefix, prompt, p-tuning, houlsby, pfeiffer.",
        ),
        (
            "{type: qlora, base: nf5}",
            "adapter.base: input should be 'nf4', 'fp4' or 'int8', not 'nf5' / Did you mean nf4? adapter.base takes "
            "nf4 | fp4 | int8: What the base's weights are rounded to: 4-bit normal floats, 4-bit floats, or 8-bit "
            "integers.",
        ),
    ],
)
def test_errors_name_the_type(adapter: str, told: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "steps:\n  base: {load_model: builtin}\n  chats: {format: chat, with: {path: recipe.yaml}}\n"
        f"  fit: {{train: sft, model: base, data: chats, with: {{adapter: {adapter}}}}}\n"
    )
    (problem,) = read_recipe(recipe).problems
    assert f"{problem.problem} / {problem.fix}" == told
    assert ":4:" in problem.place


def test_an_editor_takes_every_type() -> None:
    validator = Draft202012Validator(recipe_schema(Plugins()))

    def fits(adapter: dict[str, object]) -> bool:
        step = {"train": "sft", "model": "base", "data": "chats", "with": {"adapter": adapter}}
        return bool(validator.is_valid({"steps": {"fit": step}}))

    assert all(map(fits, TYPED))
    assert fits({"r": 8}) and fits({"type": "${kind}"}) and fits({"type": "vera", "initial": 0.2})
    assert not fits({"type": "lara"}) and not fits({"type": "prefix", "r": 8}) and not fits({"initial": 0.2})

"""Which tokens are under loss, for the templates that people train on, in short versions of them, and every loss_on."""

from copy import deepcopy
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase
from trl import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tuneforge import ChatData, Facts, Model, StepError, TextData
from tuneforge.kit.chats import IGNORED, ChatRefusedError, TurnsUntoldError, tokenize_chat
from tuneforge.kit.models import load_tokenizer
from tuneforge_trl.pretrain import Pretrain
from tuneforge_trl.rows.labels import converter
from tuneforge_trl.rows.templates import hides_turns
from tuneforge_trl.rows.tokens import LeftOutError
from tuneforge_trl.sft import Sft

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"
    "{{ '<|eom_id|>' if m.tool_calls else '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if m.role == 'user' %}[INST] {{ (system if loop.first else '') + m.content }} [/INST]"
    "{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]"
    "{% elif m.tool_calls %}[TOOL_CALLS]{{ m.tool_calls[0].function.name }}{{ eos_token }}"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
# Gemma calls the assistant another name, has no system role, and ends turns with a token that is not its EOS.
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ system if loop.first else '' }}{{ m.content | trim }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
# Qwen 3 shows thoughts after the last question alone, and of the last turn that there were none.
QWEN_3 = (
    "{% set ns = namespace(asked=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.asked = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}\n"
    "{% if m.role == 'assistant' %}START{% if loop.index0 > ns.asked and (loop.last or m.reasoning_content) %}"
    "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}</call>{% endfor %}<|im_end|>END"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_3_MARKED = QWEN_3.replace("START", "{% generation %}").replace("END", "{% endgeneration %}")
QWEN_3 = QWEN_3.replace("START", "").replace("END", "")
# GLM ends a turn with nothing but the role of the next one.
GLM = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SPECIAL = [
    *(
        "<s>",
        "</s>",
        "<eos>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<start_of_turn>",
    ),
    *("<end_of_turn>", "<|end|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|system|>", "[INST]", "[/INST]"),
    *("[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
]
EOS = {GEMMA: "<eos>", MISTRAL: "</s>", LLAMA_3: "<|eot_id|>", PHI: "<|endoftext|>"}

CALL = [{"type": "function", "function": {"name": "look", "arguments": {}}}]
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "first"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "", "tool_calls": CALL},
    {"role": "tool", "content": "found"},
    {"role": "assistant", "content": "second"},
]
THOUGHTFUL = [
    message | {"reasoning_content": f"hm {place}"} if message["role"] == "assistant" else message
    for place, message in enumerate(CHAT)
]


@pytest.fixture(scope="session")
def plain(base: Model) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(base)
    tokenizer.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": []})
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def under(template: str, plain: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    tokenizer = deepcopy(plain)
    tokenizer.chat_template = template
    tokenizer.eos_token = EOS.get(template, "<|im_end|>")
    return tokenizer


def learnt(template: str, loss_on: Any, plain: PreTrainedTokenizerBase, chat: Any = CHAT) -> str:
    """What is under loss, the pieces that are not next to each other apart."""
    tokenizer = under(template, plain)
    columns = converter(tokenizer, ChatData(None, ""), loss_on, 1000)({"messages": chat, "tools": None})  # type: ignore[arg-type]
    assert len(columns["input_ids"]) == len(columns["labels"])
    pieces: list[list[int]] = [[]]
    for token, label in zip(columns["input_ids"], columns["labels"], strict=True):
        assert label in (token, IGNORED)
        if label != IGNORED:
            pieces[-1].append(label)
        elif pieces[-1]:
            pieces.append([])
    return " + ".join(tokenizer.decode(piece) for piece in pieces if piece)


TOLD = {
    "chatml": (CHATML, "first<|im_end|>", "<call>look</call><|im_end|>", "second<|im_end|>"),
    "llama-3": (LLAMA_3, "first<|eot_id|>", "look<|eom_id|>", "second<|eot_id|>"),
    "mistral": (MISTRAL, " first</s>", "[TOOL_CALLS]look</s>", " second</s>"),
    "gemma": (GEMMA, "first<end_of_turn>", "look<end_of_turn>", "second<end_of_turn>"),
    "phi": (PHI, "first<|end|>", "look<|end|>", "second<|end|>"),
    "glm": (GLM, "first<|user|>", "look<|tool|>", "second"),
}


@pytest.mark.parametrize("template", TOLD)
def test_the_turns_of_a_conversation_with_a_system_message_tool_calls_and_results(
    template: str, plain: PreTrainedTokenizerBase
) -> None:
    text, first, call, second = TOLD[template]
    if template == "phi":
        # What ends the whole text is not part of a turn; it is seen only once the conversation is over.
        text = text.replace("{% else %}{{ eos_token }}", "")
    assert learnt(text, "assistant", plain) == f"{first} + {call} + {second}"
    assert learnt(text, "last", plain) == second
    assert learnt(text, "completion", plain) == f"{call} + {second}"
    tokenizer = under(text, plain)
    assert learnt(text, "all", plain) == tokenizer.apply_chat_template(CHAT, tokenize=False)


def test_a_template_that_ends_the_whole_text_with_another_token(plain: PreTrainedTokenizerBase) -> None:
    """Phi 3 writes <|endoftext|> once, after the last turn: beginnings of the conversation look otherwise."""
    with pytest.raises(StepError, match="renders the beginning of a conversation differently"):
        learnt(PHI, "assistant", plain)
    assert learnt(PHI, "last", plain) == "second<|end|>\n<|endoftext|>"
    assert hides_turns(PHI)


def test_thoughts_that_a_template_drops_from_earlier_turns(plain: PreTrainedTokenizerBase) -> None:
    with pytest.raises(StepError, match=r"loss_on: last.*{% generation %}"):
        learnt(QWEN_3, "assistant", plain, THOUGHTFUL)
    called = "<think>\nhm 4\n</think>\n\n<call>look</call><|im_end|>"
    answered = "<think>\nhm 6\n</think>\n\nsecond<|im_end|>"
    assert learnt(QWEN_3, "last", plain, THOUGHTFUL) == answered
    assert learnt(QWEN_3, "completion", plain, THOUGHTFUL) == f"{called} + {answered}"
    # With markers the earlier turn is learnt as the template shows it: without its thought.
    assert learnt(QWEN_3_MARKED, "assistant", plain, THOUGHTFUL) == f"first<|im_end|> + {called} + {answered}"
    assert learnt(QWEN_3_MARKED, "last", plain, THOUGHTFUL) == answered
    assert learnt(QWEN_3_MARKED, "completion", plain, THOUGHTFUL) == f"{called} + {answered}"


def test_markers_that_take_out_what_is_not_the_last(plain: PreTrainedTokenizerBase) -> None:
    """Where neither rendering tells the turn, as here where the prompt differs, the markers must."""
    marked = QWEN_3_MARKED.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>{% endif %}")
    marked = marked.replace("<think>\n", "<thought>\n")
    answered = "<thought>\n\n</think>\n\nsecond<|im_end|>"
    assert learnt(marked, "last", plain) == answered
    assert learnt(marked, "completion", plain) == f"<call>look</call><|im_end|> + {answered}"
    assert learnt(marked, "assistant", plain) == f"first<|im_end|> + <call>look</call><|im_end|> + {answered}"
    around_all = "{% generation %}" + QWEN_3.replace("<think>\n", "<thought>\n") + "{% endgeneration %}"
    around_all = around_all.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>{% endif %}")
    with pytest.raises(TurnsUntoldError, match="tell 1 turns of the assistant in a conversation that has 3"):
        tokenize_chat(under(around_all, plain), CHAT, since=6)


def test_the_markers_close_before_a_terminator_that_is_not_the_eos(plain: PreTrainedTokenizerBase) -> None:
    """axolotl #3754: Gemma's <end_of_turn> was masked, as only its <eos> was looked for."""
    body = "{{ system if loop.first else '' }}{{ m.content | trim }}"
    assert body in GEMMA
    answer = "{% generation %}{{ m.content | trim }}{% endgeneration %}"
    marked = GEMMA.replace(body, f"{{% if m.role == 'assistant' %}}{answer}{{% else %}}{body}{{% endif %}}")
    # A beginning that looks otherwise, so that it is the markers that count.
    marked = marked.replace("{{ bos_token }}", "{{ bos_token }}{{ messages | length }}")
    chat = [*CHAT[1:4], CHAT[6]]
    assert learnt(marked, "assistant", plain, chat) == "first<end_of_turn> + second<end_of_turn>"
    assert learnt(marked, "last", plain, chat) == "second<end_of_turn>"


@pytest.mark.parametrize("template", ["chatml", "llama-3", "mistral", "gemma"])
def test_two_answers_in_a_row(template: str, plain: PreTrainedTokenizerBase) -> None:
    text, first, _, second = TOLD[template]
    chat = [CHAT[1], CHAT[2], CHAT[6]]
    joined = learnt(text, "assistant", plain, chat).replace(" + ", "")
    assert joined == first + second
    assert learnt(text, "last", plain, chat) == second
    assert learnt(text, "completion", plain, chat).replace(" + ", "") == first + second


@pytest.mark.parametrize("loss_on", ["assistant", "last", "completion"])
def test_a_conversation_without_an_answer(loss_on: str, plain: PreTrainedTokenizerBase) -> None:
    with pytest.raises(LeftOutError, match="without an answer of the assistant"):
        learnt(CHATML, loss_on, plain, CHAT[:2])
    if loss_on == "completion":
        with pytest.raises(LeftOutError, match="without an answer of the assistant"):
            learnt(CHATML, loss_on, plain, CHAT[:4])


def test_a_template_that_leaves_out_calls_is_refused_with_any_loss(plain: PreTrainedTokenizerBase) -> None:
    for loss_on in ("assistant", "all"):
        with pytest.raises(ChatRefusedError, match="leaves out the tool 'look'"):
            learnt(CHATML.replace("<call>{{ c.function.name }}</call>", ""), loss_on, plain)


def test_the_labels_are_those_of_the_rows_when_they_are_packed(plain: PreTrainedTokenizerBase) -> None:
    """trl #3728 and #3781: masks that were there got lost between the rows and the loss."""
    from datasets import Dataset

    tokenizer = under(CHATML, plain)
    convert = converter(tokenizer, ChatData(None, ""), "last", 1000)  # type: ignore[arg-type]
    rows = [convert({"messages": CHAT, "tools": None}), convert({"messages": CHAT[:3], "tools": None})]
    packs = pack_dataset(Dataset.from_list(rows), 1000)
    assert len(packs) == 1
    (labels,) = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(list(packs))["labels"].tolist()
    found = tokenizer.decode([label for label in labels if label != IGNORED])
    assert sorted(found.split("<|im_end|>")) == ["", "first", "second"]


TEXTS = TextData(None, "")  # type: ignore[arg-type]


@pytest.mark.parametrize("loss_on", ["assistant", "last", "completion", "all"])
def test_texts_without_a_template(loss_on: Any, plain: PreTrainedTokenizerBase) -> None:
    convert = converter(plain, TEXTS, loss_on, 1000)
    document = convert({"prompt": None, "completion": "the sky is blue"})
    assert document["labels"] == document["input_ids"]
    asked = convert({"prompt": "the sky is", "completion": " blue"})
    assert plain.decode(asked["input_ids"]) == "the sky is blue<|endoftext|>"
    under_loss = plain.decode([label for label in asked["labels"] if label != IGNORED])
    assert under_loss == ("the sky is blue<|endoftext|>" if loss_on == "all" else " blue<|endoftext|>")


@pytest.mark.parametrize(
    ("template", "hidden"),
    [(CHATML, False), (LLAMA_3, False), (MISTRAL, False), (GEMMA, False), (GLM, False), (PHI, True), (QWEN_3, True)],
    ids=["chatml", "llama-3", "mistral", "gemma", "glm", "phi", "qwen-3"],
)
def test_what_a_plan_knows_of_a_template(template: str, hidden: bool, base: Model) -> None:
    assert hides_turns(template) == hidden
    facts = {"model": [Facts(Model, tokenizer=base.path, template=template)], "data": [Facts(ChatData)]}
    findings = list(Sft().check(facts))
    assert [(finding.level, finding.field) for finding in findings] == [("warning", "loss_on")] * hidden
    if hidden:
        assert "loss_on: last" in findings[0].fix
    for loss_on in ("last", "completion", "all"):
        assert list(Sft(loss_on=loss_on).check(facts)) == []
    texts = facts | {"data": [Facts(TextData)]}
    assert list(Sft().check(texts)) == list(Pretrain().check(texts)) == []


def test_markers_and_what_cannot_be_rendered_are_left_to_the_rows() -> None:
    assert not hides_turns(QWEN_3_MARKED)
    assert not hides_turns("{{ raise_exception('never') }}")
    assert not hides_turns("{% if %}")

"""The small server of transformers, asked by the openai client."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import httpx
import openai
import pytest
import torch
import uvicorn
from openai import OpenAI
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.chat.test_transformers import QUESTION, TINY, generated, say
from tuneforge import Model, Terms
from tuneforge_chat.engine import Loaded, _before
from tuneforge_chat.serving import application

pytestmark = pytest.mark.slow

PROMPTS = [say(QUESTION), say("Hello", "Hello!", "And again"), say("Hello", system="Answer in JSON.")]


class House:
    """A model behind its server, in this process."""

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        self.model = Loaded(Model(TINY, "tiny"), 1, None)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        terms = Terms("127.0.0.1", port, "tiny", keys)
        app = application(self.model, terms)
        self.server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", lifespan="off"))
        self.url = f"http://127.0.0.1:{port}"
        self.client = OpenAI(base_url=f"{self.url}/v1", api_key=keys[0] if keys else "none", max_retries=0)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def ask(self, messages: Any, **options: Any) -> Any:
        return self.client.chat.completions.create(model="tiny", messages=messages, **options)

    def stream(self, messages: Any, **options: Any) -> list[Any]:
        return list(self.ask(messages, stream=True, **options))

    def post(self, content: str | bytes, **headers: str) -> httpx.Response:
        headers = {"Content-Type": "application/json"} | headers
        return httpx.post(f"{self.url}/v1/chat/completions", content=content, headers=headers, trust_env=False)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    house = House()
    yield house
    house.server.should_exit = True
    house.thread.join()


def text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def greedy(prompt: int = 0) -> str:
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    return generated(model, AutoTokenizer.from_pretrained(TINY), PROMPTS[prompt])


@pytest.mark.parametrize("prompt", range(len(PROMPTS)))
def test_the_answer_is_the_one_of_transformers_streamed_or_not(house: House, prompt: int) -> None:
    expected = greedy(prompt)
    whole = house.ask(PROMPTS[prompt], temperature=0, max_tokens=40)
    chunks = house.stream(PROMPTS[prompt], temperature=0, max_tokens=40, stream_options={"include_usage": True})
    assert whole.choices[0].message.content == text(chunks) == expected
    assert whole.choices[0].message.role == chunks[0].choices[0].delta.role == "assistant"
    assert whole.choices[0].finish_reason == chunks[-2].choices[0].finish_reason
    assert whole.usage == chunks[-1].usage
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    assert whole.usage.prompt_tokens == len(
        tokenizer.apply_chat_template(PROMPTS[prompt], add_generation_prompt=True)["input_ids"]
    )
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1
    assert (whole.model, whole.object, chunks[0].object) == ("tiny", "chat.completion", "chat.completion.chunk")


def test_an_answer_ends_after_its_tokens_or_before_a_stop_string(house: House) -> None:
    whole = house.ask(PROMPTS[0], temperature=0).choices[0].message.content
    cut = house.ask(PROMPTS[0], temperature=0, max_completion_tokens=3)
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 3)
    assert whole.startswith(cut.choices[0].message.content)
    stop = whole[5:9]
    for stops in (stop, ["never said", stop]):
        stopped = house.ask(PROMPTS[0], temperature=0, stop=stops)
        assert stopped.choices[0].message.content == whole[: whole.index(stop)]
        assert stopped.choices[0].finish_reason == "stop"
        assert text(house.stream(PROMPTS[0], temperature=0, stop=stops)) == whole[: whole.index(stop)]


def test_draws_are_repeated_with_their_seed(house: House) -> None:
    def draw(**options: Any) -> str:
        return str(house.ask(PROMPTS[0], max_tokens=15, **options).choices[0].message.content)

    hot = {"temperature": 1.5}
    assert draw(seed=1, **hot) == draw(seed=1, **hot) != draw(seed=2, **hot)
    assert draw(**hot) != draw(**hot), "without one, each is another"
    assert draw(seed=1) == draw(seed=1, temperature=1, top_p=1), "what is not said is as OpenAI documents it"
    assert draw(temperature=2, top_p=1e-6) == draw(temperature=0)


def test_a_text_is_gone_on_with(house: House) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    ids = tokenizer("Record this", return_tensors="pt")
    output = model.generate(**ids, do_sample=False, max_new_tokens=16, pad_token_id=0)[0, ids["input_ids"].shape[1] :]
    create = house.client.completions.create
    answer = create(model="tiny", prompt="Record this", temperature=0)
    assert answer.choices[0].text == tokenizer.decode(output, skip_special_tokens=True)
    assert answer.usage and answer.usage.completion_tokens <= 16
    pieces = create(model="tiny", prompt="Record this", temperature=0, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == answer.choices[0].text


def test_the_model_is_listed(house: House) -> None:
    assert [model.id for model in house.client.models.list()] == ["tiny"]
    assert house.client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        house.client.models.retrieve("other")
    assert httpx.get(f"{house.url}/health", trust_env=False).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("options", "param", "told"),
    [
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"n": 2}, "n", "Input should be 1"),
        ({"stop": ["a", ""]}, None, "stop has an empty string"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, None, "tools is not offered by this server"),
        ({"logprobs": True}, None, "logprobs is not offered"),
        ({"response_format": {"type": "json_object"}}, None, "response_format is not offered"),
        ({"frequency_penalty": 0.5}, None, "frequency_penalty is not offered"),
        ({"extra_body": {"enable_thinking": False}}, None, "enable_thinking is not offered"),
        ({"extra_body": {"best_of": 1}}, None, "best_of is not offered"),
    ],
)
def test_what_would_change_the_answer_and_cannot_be_done_is_refused(
    house: House, options: dict[str, Any], param: str | None, told: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=told) as refused:
        house.ask(PROMPTS[0], **options)
    assert (refused.value.param, refused.value.type) == (param, "invalid_request_error")


def test_options_of_completions_are_its_own(house: House) -> None:
    create = house.client.completions.create
    asked: Any = {"model": "tiny", "temperature": 0, "max_tokens": 4}
    answer = create(prompt=["Record this"], best_of=1, echo=False, suffix="", **asked)
    assert answer.choices[0].text == create(prompt="Record this", **asked).choices[0].text
    for refused in ({"prompt": ["a", "b"]}, {"prompt": []}, {"logprobs": 0}, {"best_of": 2}, {"echo": True}):
        with pytest.raises(openai.BadRequestError, match=next(iter(refused))):
            create(**{"prompt": "Record this", **asked, **refused})


def test_an_answer_of_a_tool_is_not_taken_without_its_call(house: House) -> None:
    call = {"name": "f", "arguments": "{}"}
    for said in (
        {"role": "tool", "content": "4", "tool_call_id": "a"},
        {"role": "assistant", "content": "", "function_call": call},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "type": "function", "function": call}]},
    ):
        with pytest.raises(openai.BadRequestError, match=r"messages\.1\.\w+: Input should be null"):
            house.ask([*say("Hello"), said])


def test_what_changes_nothing_is_taken(house: House) -> None:
    nothing = {"user": "me", "metadata": {"a": "b"}, "frequency_penalty": 0, "logprobs": False, "tools": [], "n": 1}
    parts: Any = [
        {"role": "user", "content": [{"type": "text", "text": QUESTION[:9]}, {"type": "text", "text": QUESTION[9:]}]}
    ]
    answer = house.ask(parts, temperature=0, max_tokens=40, **nothing)
    assert (
        answer.choices[0].message.content
        == house.ask(PROMPTS[0], temperature=0, max_tokens=40).choices[0].message.content
    )


def test_other_mistakes_are_told_in_openais_form(house: House) -> None:
    with pytest.raises(openai.NotFoundError, match="this server has 'tiny'") as unknown:
        house.client.chat.completions.create(model="other", messages=[{"role": "user", "content": "Hello"}])
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="fills the context of 4096 tokens") as long:
        house.ask(say("many words " * 5000))
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="messages"):
        house.ask([])
    with pytest.raises(openai.BadRequestError, match=r"messages\.0\.content\.0\.type: Input should be 'text'"):
        house.ask([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])
    for content, status in ((b"{oops", 400), (b"[]", 400), (b"\xff", 400), (b" " * (16 * 2**20 + 1), 413)):
        answer = house.post(content)
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")
    assert house.post(b"{}", **{"Content-Type": "text/plain"}).status_code == 415, "any page could send that"
    gone = httpx.get(f"{house.url}/v1/nowhere", trust_env=False)
    assert (gone.status_code, gone.json()["error"]["message"]) == (404, "Not Found: GET /v1/nowhere")
    assert "access-control-allow-origin" not in house.post(b"{}", Origin="http://evil.example").headers


def test_no_page_of_another_site_may_ask(house: House) -> None:
    """Its name may be made to point to this machine once it is loaded, and a browser takes that for one origin."""

    def asked(host: str) -> int:
        origin = {"Origin": f"http://{host}", "Host": host}
        return house.post('{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}', **origin).status_code

    port = house.url.rpartition(":")[2]
    assert [asked(f"{host}:{port}") for host in ("localhost", "127.0.0.1", "[::1]")] == [200, 200, 200]
    assert asked("localhost") == 200, "as of port 80"
    assert [asked(host) for host in (f"evil.example:{port}", "evil.example", "e_vil.example", "")] == [400] * 4


def test_what_breaks_is_told_and_the_next_is_answered(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(house.model._model, "generate", fall)
        with pytest.raises(openai.InternalServerError, match="RuntimeError: out of memory") as broken:
            house.ask(PROMPTS[0])
        assert broken.value.response.headers["connection"] == "close"
        with pytest.raises(openai.APIError, match="RuntimeError: out of memory"):
            house.stream(PROMPTS[0])
    assert house.ask(PROMPTS[0], max_tokens=1)


def test_one_is_answered_at_a_time_and_all_are(house: House) -> None:
    alone = [house.ask(prompt, temperature=0, max_tokens=20).choices[0].message.content for prompt in PROMPTS]
    answers: dict[int, str] = {}

    def ask(place: int) -> None:
        answer = text(house.stream(PROMPTS[place % 3], temperature=0, max_tokens=20))
        answers[place] = answer

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {place: alone[place % 3] for place in range(6)}


@pytest.mark.parametrize("stream", ["true", "false"])
def test_who_hangs_up_is_answered_no_further(house: House, monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    monkeypatch.setattr(house.model, "_stops", [])  # endless
    steps: list[int] = []
    hook = house.model._model.register_forward_hook(lambda *_: steps.append(1))
    connection = HTTPConnection(house.url.removeprefix("http://"))
    body = f'{{"messages": [{{"role": "user", "content": "Hello"}}], "temperature": 2, "stream": {stream}}}'
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    while len(steps) < 3:
        time.sleep(0.01)
    connection.close()
    while True:  # until nothing is written any more
        before = len(steps)
        time.sleep(0.5)
        if len(steps) == before:
            break
    hook.remove()
    assert before < 2000
    assert house.ask(PROMPTS[0], max_tokens=1), "the next is answered"


def test_a_wrong_key_is_refused(house: House) -> None:
    keyed = House(keys=("first", "second"))
    assert [model.id for model in keyed.client.models.list()] == ["tiny"]
    for key in ("second",):
        assert keyed.client.with_options(api_key=key).models.list().data
    for key in ("none", "firs", "first2", "ключ"):
        with pytest.raises((openai.AuthenticationError, UnicodeEncodeError)):
            keyed.client.with_options(api_key=key).models.list()
    for path in ("chat/completions", "completions"):
        assert httpx.post(f"{keyed.url}/v1/{path}", trust_env=False).status_code == 401
    assert httpx.get(f"{keyed.url}/health", trust_env=False).status_code == 200
    keyed.server.should_exit = True
    keyed.thread.join()


@pytest.mark.parametrize(
    ("pieces", "stops", "said"),
    [
        (["ab", "cd"], [], (["ab", "cd"], False)),
        (["ab", "cd"], ["bc"], (["a"], True)),
        (["ab", "cd"], ["x", "bx"], (["a", "bcd"], False)),
        (["a", "b"], ["bc"], (["a", "b"], False)),
        (["aab", "aabaac"], ["aabaac"], (["aab"], True)),
        (["stop"], ["op", "st"], ([], True)),
    ],
)
def test_stop_strings_are_found_across_pieces(
    pieces: list[str], stops: list[str], said: tuple[list[str], bool]
) -> None:
    def write() -> Any:
        yield from pieces
        return False

    told: list[str] = []
    answer = _before(write(), stops)
    while True:
        try:
            told.append(next(answer))
        except StopIteration as end:
            assert (told, end.value) == said
            break

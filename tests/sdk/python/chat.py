"""Chat completions through the gateway, seen by the official OpenAI SDK for Python.

Usage: chat.py SCENARIO        chat.py --list prints the scenarios, one a line.
Environment: BASE_URL (ending in /v1), API_KEY (a valid gateway key), MODEL (a model of the gateway; default
"sdk-model").
Exit: 0 the scenario held, 1 it did not (stderr says why), 2 wrong use.

The upstream is played by the caller. What it must do is the comment of each scenario, one reply a call, in order:

  WHOLE   200, one chat.completion: content "Hello über there", finish_reason "stop", usage 12 + 5 = 17
  PIECES  200, an event stream: a chunk with the role, then "Hello", " über", " there", a chunk with finish_reason
          "stop", a chunk with empty `choices` and usage 12 + 5 = 17, [DONE]
"""

import asyncio
import inspect
import json
import os
import sys

import openai

TEXT = "Hello über there"
MESSAGES = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}

SCENARIOS = {}


def scenario(run):
    SCENARIOS[run.__name__] = run
    return run


class Mismatch(Exception):
    pass


def same(what, got, wanted):
    if got != wanted:
        raise Mismatch(f"{what}: got {got!r}, wanted {wanted!r}")


def holds(what, condition):
    if not condition:
        raise Mismatch(what)


def settings(**more):
    """What both clients are made with. No retries unless a scenario is about them."""
    base = {"base_url": os.environ["BASE_URL"], "api_key": os.environ["API_KEY"], "max_retries": 0, "timeout": 20.0}
    return {**base, **more}


def client(**more):
    return openai.OpenAI(**settings(**more))


def ask(**more):
    return {"model": os.environ.get("MODEL", "sdk-model"), "messages": MESSAGES, **more}


def refused(kind, action):
    """The error of class `kind` that `action` must raise; any other outcome is a mismatch."""
    try:
        outcome = action()
    except openai.OpenAIError as error:
        same(f"class of the error ({error})", type(error).__name__, kind.__name__)
        return error
    raise Mismatch(f"no {kind.__name__}, but {outcome!r}")


def body_of(error):
    """The error object of the answer: all four members present, `message` and `type` text."""
    holds(f"the body is no error object: {error.body!r}", isinstance(error.body, dict))
    for member in ("message", "type", "param", "code"):
        holds(f"the error has no `{member}`: {error.body!r}", member in error.body)
    for member in ("message", "type"):
        holds(f"`{member}` is no text: {error.body!r}", isinstance(error.body[member], str) and error.body[member])
    return error.body


def check_whole(answer):
    same("object", answer.object, "chat.completion")
    same("content", answer.choices[0].message.content, TEXT)
    same("finish_reason", answer.choices[0].finish_reason, "stop")
    same("total_tokens", answer.usage.total_tokens, 17)


def check_pieces(chunks):
    """Every chunk has one choice and no usage, as of a client that did not ask for usage."""
    same("text", "".join(chunk.choices[0].delta.content or "" for chunk in chunks), TEXT)
    same("last finish_reason", chunks[-1].choices[0].finish_reason, "stop")
    same("usage, not asked for", [chunk.usage for chunk in chunks if chunk.usage], [])


# Upstream: WHOLE.
@scenario
def whole():
    check_whole(client().chat.completions.create(**ask()))


# Upstream: PIECES. It is asked for usage (the gateway wants it), the client is not shown it.
@scenario
def stream():
    check_pieces(list(client().chat.completions.create(**ask(stream=True))))


# Upstream: PIECES.
@scenario
def stream_usage():
    more = ask(stream=True, stream_options={"include_usage": True})
    *chunks, last = client().chat.completions.create(**more)
    check_pieces(chunks)
    same("choices of the usage chunk", last.choices, [])
    same("usage", (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens), (12, 5, 17))


# Upstream, first call (one tool, `get_weather`): a stream with two tool calls, index 0 id "call_oslo" and index 1 id
# "call_rome", their arguments {"place":"Oslo"} and {"place":"Rome"} each cut into several deltas, finish_reason
# "tool_calls", [DONE].
# Second call (must carry the assistant's two tool calls and a `tool` message for each id): PIECES.
@scenario
def tools():
    messages = list(MESSAGES)
    api = client().chat.completions
    with api.stream(**ask(messages=messages, tools=[WEATHER])) as events:
        done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
        answer = events.get_final_completion()
    same("calls finished in the stream", [json.loads(event.arguments)["place"] for event in done], ["Oslo", "Rome"])
    same("finish_reason", answer.choices[0].finish_reason, "tool_calls")
    calls = answer.choices[0].message.tool_calls
    same("ids", [call.id for call in calls], ["call_oslo", "call_rome"])
    same("names", [call.function.name for call in calls], ["get_weather", "get_weather"])
    same("arguments", [call.function.parsed_arguments for call in calls], [{"place": "Oslo"}, {"place": "Rome"}])

    messages.append(answer.choices[0].message)
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "4 degrees"} for call in calls]
    with api.stream(**ask(messages=messages, tools=[WEATHER])) as events:
        answer = events.get_final_completion()
    same("content of the second turn", answer.choices[0].message.content, TEXT)


# Upstream: an Anthropic. First call: a stream of thinking, the text "I look." and two calls as in `tools` (ids
# "toolu_oslo" and "toolu_rome"). Second call (must carry the thinking with its signature): PIECES. Each of them uses 12
# tokens at 3 dollars a million and 5 at 15.
@scenario
def thinking():
    api = client().chat.completions
    more = {"tools": [WEATHER], "reasoning_effort": "low", "stream": True, "stream_options": {"include_usage": True}}
    message = {"role": "assistant", "content": "", "tool_calls": [], "thinking_blocks": []}
    blocks, calls = message["thinking_blocks"], message["tool_calls"]
    *chunks, last = api.create(**ask(**more))
    for delta in (chunk.choices[0].delta for chunk in chunks):
        message["content"] += delta.content or ""
        for piece in (delta.model_extra or {}).get("thinking_blocks") or []:
            if not blocks or blocks[-1]["signature"]:
                blocks.append({"type": "thinking", "thinking": "", "signature": ""})
            for member in ("thinking", "signature"):
                blocks[-1][member] += piece[member]
        for call in delta.tool_calls or []:
            if call.index == len(calls):
                function = {"name": call.function.name, "arguments": ""}
                calls.append({"id": call.id, "type": "function", "function": function})
            calls[call.index]["function"]["arguments"] += call.function.arguments or ""
    same("cost of the first turn", last.usage.model_extra.get("cost"), 0.000111)
    same("ids", [call["id"] for call in calls], ["toolu_oslo", "toolu_rome"])
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "4 degrees"} for call in calls]
    *chunks, last = api.create(**ask(**more, messages=[*MESSAGES, message, *results]))
    check_pieces(chunks)
    same("cost of the second turn", last.usage.model_extra.get("cost"), 0.000111)


# Upstream: WHOLE, then PIECES.
@scenario
async def async_client():
    async with openai.AsyncOpenAI(**settings()) as api:
        check_whole(await api.chat.completions.create(**ask()))
        check_pieces([chunk async for chunk in await api.chat.completions.create(**ask(stream=True))])


# Upstream: never called.
@scenario
def unknown_model():
    error = refused(openai.BadRequestError, lambda: client().chat.completions.create(**ask(model="no-such-model")))
    same("code", body_of(error)["code"], "400")
    holds(f"the message does not name the model: {error}", "no-such-model" in error.message)


# Upstream: never called.
@scenario
def wrong_key():
    key = "sk-wrong-key-0123456789"
    error = refused(openai.AuthenticationError, lambda: client(api_key=key).chat.completions.create(**ask()))
    same("code", body_of(error)["code"], "401")
    holds("the message repeats the whole key", key not in str(error))


# Upstream: 401 with code "invalid_api_key": the provider does not know the gateway's own key.
@scenario
def provider_key_failed():
    error = refused(openai.AuthenticationError, lambda: client().chat.completions.create(**ask()))
    holds(f"`code` is no text: {error.body!r}", isinstance(body_of(error)["code"], str))
    holds(f"the message does not blame the provider's key: {error}", "provider" in error.message.lower())


# Upstream: 429 with code "rate_limit_exceeded" and `retry-after: 7`.
@scenario
def rate_limited():
    error = refused(openai.RateLimitError, lambda: client().chat.completions.create(**ask()))
    same("code", body_of(error)["code"], "rate_limit_exceeded")
    same("retry-after", error.response.headers.get("retry-after"), "7")


# Upstream: 429 with `retry-after: 0.1`, then WHOLE. The SDK (or a gateway that retries) asks again.
@scenario
def retried():
    check_whole(client(max_retries=1).chat.completions.create(**ask()))


# Upstream: 500 with code "server_error".
@scenario
def server_error():
    error = refused(openai.InternalServerError, lambda: client().chat.completions.create(**ask()))
    same("status", error.status_code, 500)
    same("code", body_of(error)["code"], "server_error")


# Upstream: 500 with code "server_error", to a request with `stream`: the error is a status, not an event.
@scenario
def server_error_stream():
    error = refused(openai.InternalServerError, lambda: list(client().chat.completions.create(**ask(stream=True))))
    same("code", body_of(error)["code"], "server_error")


# Upstream: never called.
@scenario
def models():
    model = ask()["model"]
    ids = [entry.id for entry in client().models.list()]
    same(f"how often {model} is listed", ids.count(model), 1)
    same("ids, each once", len(ids), len(set(ids)))
    entry = client().models.retrieve(model)
    same("retrieved", (entry.id, entry.object), (model, "model"))


# Upstream: WHOLE, then PIECES.
@scenario
def headers():
    api = client().chat.completions.with_raw_response
    raw = api.create(**ask())
    check_whole(raw.parse())
    streamed = api.create(**ask(stream=True))
    check_pieces(list(streamed.parse()))
    ids = [answer.headers.get("x-litellm-call-id") for answer in (raw, streamed)]
    holds(f"x-litellm-call-id is missing or not of its own: {ids}", all(ids) and ids[0] != ids[1])


# Upstream: reads the request and says nothing; its connection must be closed by the gateway.
@scenario
def timeout():
    refused(openai.APITimeoutError, lambda: client(timeout=0.4).chat.completions.create(**ask()))


# Upstream: the role chunk and "Hello", then silence with the connection open, until the gateway closes it; only then
# may the second call be answered, with WHOLE. This process stays alive meanwhile, so closing it was the SDK's doing.
@scenario
def cancelled():
    api = client().chat.completions
    with api.create(**ask(stream=True)) as chunks:
        for chunk in chunks:
            if chunk.choices[0].delta.content:
                break
    check_whole(api.create(**ask()))


def broken_stream():
    text = []

    def read():
        for chunk in client().chat.completions.create(**ask(stream=True)):
            text.append(chunk.choices[0].delta.content or "")

    error = refused(openai.APIError, read)
    same("text before the error", "".join(text), "Hello über")
    return body_of(error)


# Upstream: the role chunk, "Hello", " über", then the event {"error":{"message":"The model fell over.","type":
# "server_error","param":null,"code":"overloaded"}} and the end of the stream.
@scenario
def error_event():
    body = broken_stream()
    same("code", body["code"], "overloaded")
    holds(f"the upstream's message is gone: {body!r}", "The model fell over." in body["message"])


# Upstream: the role chunk, "Hello", " über", then the connection breaks, without [DONE].
@scenario
def cut_stream():
    body = broken_stream()
    holds(f"`code` is no text: {body!r}", isinstance(body["code"], str))


def main(arguments):
    if arguments == ["--list"]:
        print("\n".join(SCENARIOS))
        return 0
    if len(arguments) != 1 or arguments[0] not in SCENARIOS:
        print(f"usage: chat.py SCENARIO, one of: {' '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    missing = [name for name in ("BASE_URL", "API_KEY") if name not in os.environ]
    if missing:
        print(f"chat.py: not set: {' '.join(missing)}", file=sys.stderr)
        return 2
    run = SCENARIOS[arguments[0]]
    try:
        asyncio.run(run()) if inspect.iscoroutinefunction(run) else run()
    except (Mismatch, openai.OpenAIError) as error:
        print(f"chat.py {arguments[0]} (openai {openai.__version__}): {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

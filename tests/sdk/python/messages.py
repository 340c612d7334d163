"""Anthropic's Messages through the gateway, seen by the official Anthropic SDK for Python.

Usage: messages.py SCENARIO        messages.py --list prints the scenarios, one a line.
Environment: BASE_URL (the gateway's root), API_KEY (a valid gateway key), MODEL (a model of the gateway; default
"sdk-model").
Exit: 0 the scenario held, 1 it did not (stderr says why), 2 wrong use.

The upstream is played by the caller, in Anthropic's format or in OpenAI's. What it must do is the comment of each
scenario, one reply a call, in order:

  WHOLE   200, a message of one text "Hello über there", stopped at its end, 12 tokens in and 5 out
  PIECES  the same as a stream
"""

import asyncio
import inspect
import os
import sys

import anthropic

TEXT = "Hello über there"
THOUGHT = "The user wants two places, so I ask for both."
MESSAGES = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a place",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
THINKING = {"type": "enabled", "budget_tokens": 1024}

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
    return anthropic.Anthropic(**settings(**more))


def ask(**more):
    return {"model": os.environ.get("MODEL", "sdk-model"), "max_tokens": 2000, "messages": MESSAGES, **more}


def refused(kind, action):
    """The error of class `kind` that `action` must raise; any other outcome is a mismatch."""
    try:
        outcome = action()
    except anthropic.AnthropicError as error:
        same(f"class of the error ({error})", type(error).__name__, kind.__name__)
        return error
    raise Mismatch(f"no {kind.__name__}, but {outcome!r}")


def body_of(error, kind):
    """The error of the answer, in Anthropic's envelope."""
    holds(f"the body is no error envelope: {error.body!r}", isinstance(error.body, dict) and error.body["type"] == "error")
    same("type of the error", error.body["error"]["type"], kind)
    return error.body["error"]


def check_whole(answer):
    same("type and role", (answer.type, answer.role), ("message", "assistant"))
    same("texts", [block.text for block in answer.content], [TEXT])
    same("stop_reason", answer.stop_reason, "end_turn")
    same("usage", (answer.usage.input_tokens, answer.usage.output_tokens), (12, 5))


# Upstream: WHOLE.
@scenario
def whole():
    check_whole(client().messages.create(**ask(system="Be brief.")))


# Upstream: PIECES, twice.
@scenario
def stream():
    with client().messages.stream(**ask()) as events:
        same("text", "".join(events.text_stream), TEXT)
        check_whole(events.get_final_message())
    kinds = [event.type for event in client().messages.create(**ask(stream=True)) if event.type != "ping"]
    same("first and last events", (kinds[0], kinds[1], kinds[-2:]),
         ("message_start", "content_block_start", ["message_delta", "message_stop"]))


# Upstream, first call: a stream of THOUGHT, the text "I look." and two calls of `get_weather` (ids "toolu_oslo" and
# "toolu_rome", their inputs cut into several pieces). Second call (must carry the turn back as it was, and both
# results): PIECES.
@scenario
def tools():
    messages = list(MESSAGES)
    api = client().messages
    with api.stream(**ask(messages=messages, tools=[WEATHER], thinking=THINKING)) as events:
        stopped = [event.content_block for event in events if event.type == "content_block_stop"]
        answer = events.get_final_message()
    kinds = ["thinking", "text", "tool_use", "tool_use"]
    same("blocks in the stream", [block.type for block in stopped], kinds)
    same("blocks", [block.type for block in answer.content], kinds)
    same("thinking", answer.content[0].thinking, THOUGHT)
    same("stop_reason", answer.stop_reason, "tool_use")
    calls = answer.content[2:]
    same("ids", [call.id for call in calls], ["toolu_oslo", "toolu_rome"])
    same("inputs", [call.input for call in calls], [{"place": "Oslo"}, {"place": "Rome"}])

    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "4 degrees"} for call in calls]
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    with api.stream(**ask(messages=messages, tools=[WEATHER], thinking=THINKING)) as events:
        check_whole(events.get_final_message())


# Upstream: a turn that calls the tool `look` of the server `house`, which says "milk and bread"; then PIECES; then the text
# whole.
@scenario
def served_tools():
    servers = [{"type": "url", "name": "house", "url": "litellm_proxy/mcp/house"}]
    more = {"mcp_servers": servers, "tools": [{"type": "mcp_toolset", "mcp_server_name": "house"}],
            "betas": ["mcp-client-2025-11-20"]}
    with client().beta.messages.stream(**ask(**more)) as events:
        answer = events.get_final_message()
    same("blocks", [block.type for block in answer.content], ["mcp_tool_use", "mcp_tool_result", "text"])
    call, result, text = answer.content
    same("call", (call.name, call.server_name, call.input), ("look", "house", {}))
    same("result", (result.tool_use_id, result.is_error, result.content[0].text), (call.id, False, "milk and bread"))
    same("text", (text.text, answer.stop_reason), (TEXT, "end_turn"))
    messages = [*MESSAGES, {"role": "assistant", "content": answer.content}, {"role": "user", "content": "And?"}]
    same("next", client().beta.messages.create(**{**ask(**more), "messages": messages}).content[0].text, TEXT)


# Upstream: a whole answer of THOUGHT and the text.
@scenario
def thinking():
    answer = client().messages.create(**ask(thinking=THINKING))
    same("blocks", [block.type for block in answer.content], ["thinking", "text"])
    same("thinking", answer.content[0].thinking, THOUGHT)
    same("text", answer.content[1].text, TEXT)


# Upstream: `{"input_tokens":42}` in Anthropic's format; never called in OpenAI's.
@scenario
def count_tokens():
    counted = client().messages.count_tokens(model=ask()["model"], messages=MESSAGES, tools=[WEATHER])
    holds(f"a strange count: {counted}", 10 <= counted.input_tokens <= 200)


# Upstream: WHOLE, then PIECES.
@scenario
async def async_client():
    async with anthropic.AsyncAnthropic(**settings()) as api:
        check_whole(await api.messages.create(**ask()))
        async with api.messages.stream(**ask()) as events:
            check_whole(await events.get_final_message())


# Upstream: WHOLE. The key is shown as a bearer.
@scenario
def bearer():
    api = anthropic.Anthropic(**settings(api_key=None, auth_token=os.environ["API_KEY"]))
    check_whole(api.messages.create(**ask()))


# Upstream: never called.
@scenario
def unknown_model():
    error = refused(anthropic.BadRequestError, lambda: client().messages.create(**ask(model="no-such-model")))
    holds(f"the message does not name the model: {error}", "no-such-model" in body_of(error, "invalid_request_error")["message"])


# Upstream: never called.
@scenario
def wrong_key():
    key = "sk-wrong-key-0123456789"
    error = refused(anthropic.AuthenticationError, lambda: client(api_key=key).messages.create(**ask()))
    body_of(error, "authentication_error")
    holds("the message repeats the whole key", key not in str(error))


# Upstream: 429 with `retry-after: 7`.
@scenario
def rate_limited():
    error = refused(anthropic.RateLimitError, lambda: client().messages.create(**ask()))
    body_of(error, "rate_limit_error")
    same("retry-after", error.response.headers.get("retry-after"), "7")


# Upstream: 429 with `retry-after: 0.1`, then WHOLE. The SDK (or a gateway that retries) asks again.
@scenario
def retried():
    check_whole(client(max_retries=1).messages.create(**ask()))


# Upstream: 500 to a request with `stream`: the error is a status, not an event.
@scenario
def server_error():
    error = refused(anthropic.InternalServerError, lambda: list(client().messages.create(**ask(stream=True))))
    body_of(error, "api_error")


# Upstream: never called.
@scenario
def models():
    model = ask()["model"]
    ids = [entry.id for entry in client().models.list(limit=1)]
    same(f"how often {model} is listed", ids.count(model), 1)
    entry = client().models.retrieve(model)
    same("retrieved", (entry.id, entry.type), (model, "model"))


# Upstream: WHOLE.
@scenario
def headers():
    raw = client().messages.with_raw_response.create(**ask())
    check_whole(raw.parse())
    holds("no request-id", (raw.headers.get("request-id") or "").startswith("req_"))
    same("request id of the message", raw.parse()._request_id, raw.headers.get("request-id"))
    holds("no cost", float(raw.headers.get("x-litellm-response-cost") or 0) > 0)


def broken_stream():
    text = []

    def read():
        with client().messages.stream(**ask()) as events:
            for piece in events.text_stream:
                text.append(piece)

    try:
        read()
    except anthropic.APIError as error:
        same("text before the error", "".join(text), "Hello über")
        return error
    raise Mismatch("no error")


# Upstream: "Hello", " über", then an error event "The model fell over." and the end of the stream.
@scenario
def error_event():
    holds("the upstream's message is gone", "The model fell over." in str(broken_stream()))


# Upstream: "Hello", " über", then the connection breaks.
@scenario
def cut_stream():
    holds("the message does not say it", "broke off" in str(broken_stream()))


def main(arguments):
    if arguments == ["--list"]:
        print("\n".join(SCENARIOS))
        return 0
    if len(arguments) != 1 or arguments[0] not in SCENARIOS:
        print(f"usage: messages.py SCENARIO, one of: {' '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    missing = [name for name in ("BASE_URL", "API_KEY") if name not in os.environ]
    if missing:
        print(f"messages.py: not set: {' '.join(missing)}", file=sys.stderr)
        return 2
    run = SCENARIOS[arguments[0]]
    try:
        asyncio.run(run()) if inspect.iscoroutinefunction(run) else run()
    except (Mismatch, anthropic.AnthropicError) as error:
        version = anthropic.__version__
        print(f"messages.py {arguments[0]} (anthropic {version}): {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

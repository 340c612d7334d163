"""Audio, pictures, embeddings and Responses through the gateway, seen by the official OpenAI SDK for Python.

Usage, environment and exit are those of chat.py. The upstream is played by the caller; what it must do is the comment
of each scenario, one reply a call, in order.
"""

import io
import os
import sys

import openai

SCENARIOS = {}


def scenario(run):
    SCENARIOS[run.__name__] = run
    return run


class Mismatch(Exception):
    pass


def same(what, got, wanted):
    if got != wanted:
        raise Mismatch(f"{what}: got {got!r}, wanted {wanted!r}")


def client():
    return openai.OpenAI(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"], max_retries=0, timeout=20.0)


def sound():
    file = io.BytesIO(b"RIFF" + b"x" * 600_000)
    file.name = "speech.wav"
    return file


MODEL = os.environ.get("MODEL", "sdk-model")


# Upstream: 200, JSON {"text": "hello", "usage": {"type": "duration", "seconds": 2}}.
@scenario
def transcription():
    told = client().audio.transcriptions.create(
        model=MODEL, file=sound(), response_format="json", timestamp_granularities=["word", "segment"]
    )
    same("text", told.text, "hello")
    same("seconds", told.usage.seconds, 2)


# Upstream: 200, text/plain "hello\n".
@scenario
def transcription_as_text():
    told = client().audio.transcriptions.create(model=MODEL, file=sound(), response_format="text")
    same("text", told, "hello\n")


# Upstream: an event stream: transcript.text.delta "hel", "lo", transcript.text.done "hello", [DONE].
@scenario
def transcription_streamed():
    events = list(client().audio.transcriptions.create(model=MODEL, file=sound(), stream=True))
    same("deltas", [event.delta for event in events if event.type == "transcript.text.delta"], ["hel", "lo"])
    same("text", events[-1].text, "hello")


# Upstream: 200, JSON {"text": "hello"}.
@scenario
def translation():
    same("text", client().audio.translations.create(model=MODEL, file=sound()).text, "hello")


# Upstream: 200, audio/mpeg, in chunks "one", "two".
@scenario
def speech():
    with client().audio.speech.with_streaming_response.create(model=MODEL, voice="alloy", input="Hello") as answer:
        same("type", answer.headers["content-type"], "audio/mpeg")
        same("bytes", b"".join(answer.iter_bytes()), b"onetwo")


# Upstream: 200, one picture in base64, "AA==".
@scenario
def picture():
    same("picture", client().images.generate(model=MODEL, prompt="a cat").data[0].b64_json, "AA==")


# Upstream: 200, one picture in base64, "AA==".
@scenario
def picture_edited():
    files = [("one.png", b"\x89PNG1", "image/png"), ("two.png", b"\x89PNG2", "image/png")]
    told = client().images.edit(model=MODEL, prompt="a cat", image=files, mask=("mask.png", b"\x89PNG3", "image/png"))
    same("picture", told.data[0].b64_json, "AA==")


# Upstream: 200, the vectors [1, -0.5] and [0, 0.25] as numbers, whatever was asked for.
@scenario
def embeddings():
    told = client().embeddings.create(model=MODEL, input=["a", "b"], dimensions=2)
    same("vectors", [one.embedding for one in told.data], [[1.0, -0.5], [0.0, 0.25]])
    told = client().embeddings.create(model=MODEL, input="a", encoding_format="float")
    same("vector", told.data[0].embedding, [1.0, -0.5])


# Upstream: the answer of chat completions "Hello über there", usage 12 + 5.
@scenario
def response():
    told = client().responses.create(model=MODEL, input="Say hello.")
    same("text", told.output_text, "Hello über there")
    same("usage", (told.usage.input_tokens, told.usage.output_tokens), (12, 5))
    same("kept", client().responses.retrieve(told.id).output_text, "Hello über there")


# Upstream: the same as a stream of chat completions: "Hello", " über", " there".
@scenario
def response_streamed():
    with client().responses.stream(model=MODEL, input="Say hello.") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        told = stream.get_final_response()
    same("deltas", "".join(deltas), "Hello über there")
    same("text", told.output_text, "Hello über there")


# Upstream: a turn that calls the tool `look` of the server `house`, which says "milk and bread"; then a stream "Hello über
# there"; then the same whole.
@scenario
def response_with_tools():
    tools = [{"type": "mcp", "server_label": "house", "server_url": "litellm_proxy/mcp/house", "require_approval": "never"}]
    with client().responses.stream(model=MODEL, input="What is there?", tools=tools) as stream:
        kinds = [event.type for event in stream]
        told = stream.get_final_response()
    same("items", [item.type for item in told.output], ["mcp_list_tools", "mcp_call", "message"])
    call = told.output[1]
    same("call", (call.name, call.server_label, call.output, call.error), ("look", "house", "milk and bread", None))
    same("tools", [tool.name for tool in told.output[0].tools], ["look"])
    called = [kind for kind in kinds if kind.startswith("response.mcp_call")]
    same("events", called, ["response.mcp_call.in_progress", "response.mcp_call_arguments.delta",
                            "response.mcp_call_arguments.done", "response.mcp_call.completed"])
    same("text", told.output_text, "Hello über there")
    told = client().responses.create(model=MODEL, input="And?", tools=tools, previous_response_id=told.id)
    same("next", [item.type for item in told.output], ["message"])


# Upstream: the answer of chat completions "Hello über there".
@scenario
def response_in_the_background():
    told = client().responses.create(model=MODEL, input="Say hello.", background=True)
    same("status", told.status, "queued")
    for _ in range(1000):
        told = client().responses.retrieve(told.id)
        if told.status != "in_progress":
            break
    same("text", (told.status, told.output_text), ("completed", "Hello über there"))
    same("cancelled", client().responses.cancel(told.id).status, "completed")


# Upstream: 400, an error of type invalid_request_error.
@scenario
def refused():
    try:
        client().audio.transcriptions.create(model=MODEL, file=sound())
    except openai.BadRequestError as error:
        same("type", error.type, "invalid_request_error")
        return
    raise Mismatch("nothing was refused")


def main(arguments):
    if arguments == ["--list"]:
        print("\n".join(SCENARIOS))
        return 0
    if len(arguments) != 1 or arguments[0] not in SCENARIOS:
        print(f"usage: more.py SCENARIO, one of: {' '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    try:
        SCENARIOS[arguments[0]]()
    except (Mismatch, openai.OpenAIError) as error:
        print(f"more.py {arguments[0]} (openai {openai.__version__}): {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

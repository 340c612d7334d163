"""google-genai, which speaks Google's API to whatever model."""

import asyncio

from google import genai
from google.genai import errors, types

from told import KEY, PERSON, TEXT, URL, refused, same

client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=URL))


def get_weather(place: str) -> str:
    """The weather at a place."""
    return f"sunny in {place}"


for model in ["small", "claude"]:
    told = client.models.generate_content(
        model=model,
        contents="Say hello.",
        config=types.GenerateContentConfig(system_instruction="Be brief.", max_output_tokens=50, temperature=0.5),
    )
    same(f"text of {model}", told.text, TEXT)
    same(f"usage of {model}", (told.usage_metadata.prompt_token_count, told.usage_metadata.candidates_token_count), (12, 5))
    same(f"finish of {model}", told.candidates[0].finish_reason, types.FinishReason.STOP)
    pieces = list(client.models.generate_content_stream(model=model, contents="Say hello."))
    same(f"pieces of {model}", "".join(piece.text or "" for piece in pieces), TEXT)
    same(f"usage of a stream of {model}", pieces[-1].usage_metadata.total_token_count, 17)

# The SDK runs the function itself, and asks again.
told = client.models.generate_content(
    model="small", contents="The weather in Oslo?", config=types.GenerateContentConfig(tools=[get_weather])
)
same("text behind a call", told.text, TEXT)
same("the call", told.automatic_function_calling_history[1].parts[0].function_call.args, {"place": "Oslo"})
declared = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            parameters=types.Schema(type="OBJECT", properties={"place": types.Schema(type="STRING")}),
        )
    ]
)
pieces = list(
    client.models.generate_content_stream(
        model="small", contents="Oslo?", config=types.GenerateContentConfig(tools=[declared])
    )
)
calls = [call for piece in pieces for call in piece.function_calls or []]
same("a streamed call", [(call.name, call.args) for call in calls], [("get_weather", {"place": "Oslo"})])

told = client.models.generate_content(
    model="small",
    contents="Who?",
    config=types.GenerateContentConfig(
        response_mime_type="application/json",
        response_json_schema={"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}},
    ),
)
same("by a schema", told.parsed, PERSON)
picture = types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png")
same("with a picture", client.models.generate_content(model="small", contents=["What is it?", picture]).text, TEXT)

chat = client.chats.create(model="small")
chat.send_message("Hello.")
same("a conversation", chat.send_message("Go on.").text, TEXT)
same("its turns", len(chat.get_history()), 4)

same("tokens", client.models.count_tokens(model="small", contents="Say hello.").total_tokens > 0, True)
told = client.models.embed_content(model="embed", contents=["a", "b"])
same("vectors", [vector.values for vector in told.embeddings], [[1.0, -0.5], [1.0, -0.5]])
one = client.models.embed_content(
    model="embed",
    contents="a",
    config=types.EmbedContentConfig(task_type="RETRIEVAL_QUERY", output_dimensionality=2),
)
same("one vector", [vector.values for vector in one.embeddings], [[1.0, -0.5]])

names = [model.name for model in client.models.list(config={"page_size": 2})]
same("models, by pages", {"models/small", "models/claude", "models/embed"} <= set(names), True)
same("a model", client.models.get(model="small").name, "models/small")

same("429", refused("429", errors.ClientError, lambda: client.models.generate_content(model="broken", contents="a")).code, 429)
error = refused("404", errors.ClientError, lambda: client.models.get(model="nobody"))
same("an unknown model", (error.code, error.status), (404, "NOT_FOUND"))
stranger = genai.Client(api_key="sk-stranger", http_options=types.HttpOptions(base_url=URL))
error = refused("a stranger", errors.ClientError, lambda: stranger.models.generate_content(model="small", contents="a"))
same("a stranger", (error.code, error.status), (401, "UNAUTHENTICATED"))


async def later():
    told = await client.aio.models.generate_content(model="small", contents="Say hello.")
    same("async", told.text, TEXT)
    stream = await client.aio.models.generate_content_stream(model="small", contents="Say hello.")
    same("async pieces", "".join([piece.text or "" async for piece in stream]), TEXT)


asyncio.run(later())

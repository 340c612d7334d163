"""Mistral's SDK, to whatever model: its API is nearly OpenAI's."""

import asyncio

from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from told import KEY, TEXT, URL, refused, same

client = Mistral(api_key=KEY, server_url=URL)
question = [{"role": "user", "content": "Say hello."}]
tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}]

for model in ["small", "claude"]:
    told = client.chat.complete(model=model, messages=question, temperature=0.5, max_tokens=50)
    same(f"text of {model}", told.choices[0].message.content, TEXT)
    same(f"usage of {model}", told.usage.total_tokens, 17)
    pieces = [event.data for event in client.chat.stream(model=model, messages=question)]
    texts = [piece.choices[0].delta.content or "" for piece in pieces if piece.choices]
    same(f"pieces of {model}", "".join(texts), TEXT)
    told = client.chat.complete(model=model, messages=question, tools=tools, tool_choice="auto")
    same(f"a call of {model}", told.choices[0].message.tool_calls[0].function.name, "get_weather")

told = client.embeddings.create(model="embed", inputs=["a", "b"])
same("vectors", [one.embedding for one in told.data], [[1.0, -0.5], [1.0, -0.5]])
models = {model.id: model for model in client.models.list().data}
same("a model's type", models["small"].type, "base")
same("what it can", models["small"].capabilities.completion_chat, True)
same("one model", client.models.retrieve(model_id="small").id, "small")
error = refused("429", SDKError, lambda: client.chat.complete(model="broken", messages=question))
same("429", error.status_code, 429)
stranger = Mistral(api_key="sk-stranger", server_url=URL)
same("a stranger", refused("401", SDKError, lambda: stranger.models.list()).status_code, 401)


async def later():
    told = await client.chat.complete_async(model="small", messages=question)
    same("async", told.choices[0].message.content, TEXT)


asyncio.run(later())

"""Ollama's SDK, through the provider's own path."""

import ollama

from told import KEY, TEXT, URL, refused, same

client = ollama.Client(host=f"{URL}/ollama", headers={"Authorization": f"Bearer {KEY}"})
question = [{"role": "user", "content": "Say hello."}]

told = client.chat(model="llama", messages=question)
same("text", (told.message.content, told.prompt_eval_count, told.eval_count), (TEXT, 12, 5))
pieces = list(client.chat(model="llama", messages=question, stream=True))
same("pieces", "".join(piece.message.content for piece in pieces), TEXT)
same("the last piece", pieces[-1].done, True)


def get_weather(place: str) -> str:
    """The weather at a place."""
    return place


told = client.chat(model="llama", messages=question, tools=[get_weather])
same("a call", [(call.function.name, call.function.arguments) for call in told.message.tool_calls], [("get_weather", {"place": "Oslo"})])
same("vectors", client.embed(model="llama", input=["a", "b"]).embeddings, [[1.0, -0.5], [1.0, -0.5]])
same("models", [model.model for model in client.list().models], ["llama3.2:latest"])
stranger = ollama.Client(host=f"{URL}/ollama", headers={"Authorization": "Bearer sk-stranger"})
same("a stranger", refused("401", ollama.ResponseError, lambda: stranger.list()).status_code, 401)

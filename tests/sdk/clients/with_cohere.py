"""Cohere's SDK, through the provider's own path."""

import cohere

from told import KEY, TEXT, URL, refused, same

client = cohere.ClientV2(api_key=KEY, base_url=f"{URL}/cohere")
question = [{"role": "user", "content": "Say hello."}]

told = client.chat(model="command", messages=question)
same("text", told.message.content[0].text, TEXT)
same("usage", told.usage.tokens.input_tokens, 12)
events = list(client.chat_stream(model="command", messages=question))
texts = [event.delta.message.content.text for event in events if event.type == "content-delta"]
same("pieces", "".join(texts), TEXT)
same("the last event", events[-1].type, "message-end")

tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}]
told = client.chat(model="command", messages=question, tools=tools)
same("a call", told.message.tool_calls[0].function.name, "get_weather")
told = client.embed(model="embed", texts=["a", "b"], input_type="search_query", embedding_types=["float"])
same("vectors", told.embeddings.float_, [[1.0, -0.5], [1.0, -0.5]])
told = client.rerank(model="ranker", query="b", documents=["a", "b"], top_n=1)
same("ranks", [(rank.index, rank.relevance_score) for rank in told.results], [(1, 0.9)])

# The same from the gateway's own path for ranks, with whatever provider behind it.
own = cohere.ClientV2(api_key=KEY, base_url=URL)
told = own.rerank(model="ranker", query="b", documents=["a", "b"], top_n=1)
same("ranks of the gateway", [(rank.index, rank.relevance_score) for rank in told.results], [(1, 0.9)])

stranger = cohere.ClientV2(api_key="sk-stranger", base_url=f"{URL}/cohere")
refused("a stranger", cohere.UnauthorizedError, lambda: stranger.chat(model="command", messages=question))

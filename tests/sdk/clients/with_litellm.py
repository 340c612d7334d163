"""LiteLLM's own SDK, with the gateway as its proxy."""

import asyncio
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

from told import KEY, TEXT, URL, refused, same

litellm.telemetry = False
to = {"api_base": URL, "api_key": KEY}
question = [{"role": "user", "content": "Say hello."}]
tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}]

for model in ["litellm_proxy/small", "litellm_proxy/claude", "openai/small"]:
    base = to if model.startswith("litellm") else {**to, "api_base": f"{URL}/v1"}
    told = litellm.completion(model=model, messages=question, num_retries=0, **base)
    same(f"text of {model}", told.choices[0].message.content, TEXT)
    same(f"usage of {model}", told.usage.total_tokens, 17)
    pieces = list(litellm.completion(model=model, messages=question, stream=True, stream_options={"include_usage": True}, **base))
    same(f"pieces of {model}", "".join(p.choices[0].delta.content or "" for p in pieces if p.choices), TEXT)
    same(f"usage of a stream of {model}", pieces[-1].usage.total_tokens, 17)
    told = litellm.completion(model=model, messages=question, tools=tools, **base)
    same(f"a call of {model}", told.choices[0].message.tool_calls[0].function.name, "get_weather")

told = litellm.completion(model="anthropic/claude", messages=question, api_base=URL, api_key=KEY)
same("as an Anthropic", told.choices[0].message.content, TEXT)
told = litellm.embedding(model="litellm_proxy/embed", input=["a", "b"], **to)
same("vectors", [one["embedding"] for one in told.data], [[1.0, -0.5], [1.0, -0.5]])
told = litellm.rerank(model="litellm_proxy/ranker", query="b", documents=["a", "b"], top_n=1, **to)
same("ranks", [(rank["index"], rank["relevance_score"]) for rank in told.results], [(1, 0.9)])
told = litellm.responses(model="litellm_proxy/small", input="Say hello.", **to)
same("a response", told.output[-1].content[0].text, TEXT)
events = [event.type for event in litellm.responses(model="litellm_proxy/claude", input="Say hello.", stream=True, **to)]
same("its last event", events[-1], "response.completed")
refused("429", litellm.RateLimitError, lambda: litellm.completion(model="litellm_proxy/broken", messages=question, num_retries=0, **to))
stranger = {**to, "api_key": "sk-stranger"}
refused("401", litellm.AuthenticationError, lambda: litellm.completion(model="litellm_proxy/small", messages=question, **stranger))
same("async", asyncio.run(litellm.acompletion(model="litellm_proxy/small", messages=question, **to)).choices[0].message.content, TEXT)

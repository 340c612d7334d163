"""LlamaIndex, by what it has for APIs like OpenAI's."""

import asyncio

import openai
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from told import KEY, PERSON, TEXT, URL, refused, same


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def get_weather(place: str) -> str:
    """The weather at a place."""
    return place


def llm(model):
    return OpenAILike(
        model=model, api_base=f"{URL}/v1", api_key=KEY, is_chat_model=True, is_function_calling_model=True, max_retries=0
    )


question = [ChatMessage(role="user", content="Say hello.")]
for model in ["small", "claude"]:
    same(f"text of {model}", llm(model).chat(question).message.content, TEXT)
    same(f"completed by {model}", llm(model).complete("Say hello.").text, TEXT)
    same(f"pieces of {model}", list(llm(model).stream_chat(question))[-1].message.content, TEXT)
    told = llm(model).chat_with_tools([FunctionTool.from_defaults(get_weather)], user_msg="The weather in Oslo?")
    calls = llm(model).get_tool_calls_from_response(told)
    same(f"a call of {model}", [(c.tool_name, c.tool_kwargs) for c in calls], [("get_weather", {"place": "Oslo"})])
    person = llm(model).as_structured_llm(Person).complete("Who?").raw
    same(f"{model} by a schema", person.model_dump(), PERSON)

vectors = OpenAIEmbedding(model_name="embed", api_base=f"{URL}/v1", api_key=KEY, max_retries=0)
same("vectors", vectors.get_text_embedding_batch(["a", "b"]), [[1.0, -0.5], [1.0, -0.5]])
refused("429", openai.RateLimitError, lambda: llm("broken").chat(question))
same("async", asyncio.run(llm("small").achat(question)).message.content, TEXT)

"""LangChain, by its clients of OpenAI and of Anthropic."""

import asyncio

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from told import KEY, PERSON, TEXT, URL, refused, same


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@tool
def get_weather(place: str) -> str:
    """The weather at a place."""
    return f"sunny in {place}"


def of_openai(model, **more):
    return ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key=KEY, max_retries=0, stream_usage=True, **more)


def of_anthropic(model):
    return ChatAnthropic(model=model, base_url=URL, api_key=KEY, max_retries=0, max_tokens=100)


def through(what, chat):
    told = chat.invoke("Say hello.")
    same(f"{what}: text", told.text, TEXT)
    same(f"{what}: usage", (told.usage_metadata["input_tokens"], told.usage_metadata["output_tokens"]), (12, 5))
    pieces = list(chat.stream("Say hello."))
    same(f"{what}: pieces", "".join(piece.text for piece in pieces), TEXT)
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece
    same(f"{what}: usage of a stream", whole.usage_metadata["total_tokens"], 17)
    armed = chat.bind_tools([get_weather])
    asked = armed.invoke("The weather in Oslo?")
    same(f"{what}: a call", [(c["name"], c["args"]) for c in asked.tool_calls], [("get_weather", {"place": "Oslo"})])
    seen = ToolMessage(get_weather.invoke(asked.tool_calls[0]["args"]), tool_call_id=asked.tool_calls[0]["id"])
    same(f"{what}: behind a call", armed.invoke([("user", "The weather in Oslo?"), asked, seen]).text, TEXT)
    person = chat.with_structured_output(Person).invoke("Who?")
    same(f"{what}: by a schema", person.model_dump(), PERSON)


for model in ["small", "claude"]:
    through(f"OpenAI to {model}", of_openai(model))
    through(f"Anthropic to {model}", of_anthropic(model))
    through(f"Responses to {model}", of_openai(model, use_responses_api=True))

vectors = OpenAIEmbeddings(model="embed", base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False)
same("vectors", vectors.embed_documents(["a", "b"]), [[1.0, -0.5], [1.0, -0.5]])
refused("429", openai.RateLimitError, lambda: of_openai("broken").invoke("a"))
refused("429 of Anthropic", anthropic.RateLimitError, lambda: of_anthropic("broken").invoke("a"))
same("async", asyncio.run(of_openai("small").ainvoke("Say hello.")).text, TEXT)

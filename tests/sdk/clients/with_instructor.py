"""instructor: answers by a schema, in the ways that it has of asking for them."""

import anthropic
import instructor
import openai
from pydantic import BaseModel

from told import KEY, PERSON, URL, same


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


asked = {"response_model": Person, "messages": [{"role": "user", "content": "Who?"}], "max_retries": 0}
plain = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
for model in ["small", "claude"]:
    for mode in [instructor.Mode.TOOLS, instructor.Mode.JSON, instructor.Mode.JSON_SCHEMA, instructor.Mode.MD_JSON]:
        client = instructor.from_openai(plain, mode=mode)
        same(f"{mode} of {model}", client.chat.completions.create(model=model, **asked).model_dump(), PERSON)
    client = instructor.from_openai(plain)
    pieces = list(client.chat.completions.create_partial(model=model, **asked))
    same(f"in parts of {model}", pieces[-1].model_dump(), PERSON)
    own = instructor.from_anthropic(anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0))
    same(f"Anthropic's of {model}", own.messages.create(model=model, max_tokens=100, **asked).model_dump(), PERSON)

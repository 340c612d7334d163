"""What the scripts beside this one have in common: each plays one SDK against the gateway, and says what it finds wrong.

Usage: python with_NAME.py
Environment: GATEWAY_URL (without a path), API_KEY (a valid gateway key).
Exit: 0 all of it held, 1 something did not (standard error says what).

The gateway serves the models `small` (OpenAI's API), `claude` (Anthropic's), `embed`, `broken` (429, always), `ranker` and
`command` (Cohere's) and `llama` (Ollama's). All of them say "Hello über there" for 12 + 5 tokens; asked with tools, they
call the first one (`get_weather` with {"place": "Oslo"}, `Person` with {"name": "Ada", "age": 36}), and speak when they see
its result. Asked for a schema, they answer {"name": "Ada", "age": 36}. A text is embedded as [1.0, -0.5].
"""

import os

URL = os.environ["GATEWAY_URL"]
KEY = os.environ["API_KEY"]
TEXT = "Hello über there"
PERSON = {"name": "Ada", "age": 36}


def same(what, got, wanted):
    if got != wanted:
        raise SystemExit(f"{what}: got {got!r}, wanted {wanted!r}")


def refused(what, kind, action):
    """The error of that class, or one below it, that the action must raise."""
    try:
        outcome = action()
    except kind as error:
        return error
    raise SystemExit(f"{what}: no {kind.__name__}, but {outcome!r}")

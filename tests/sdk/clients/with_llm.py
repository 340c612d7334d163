"""The `llm` program, with models of the gateway among its own."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from told import KEY, PERSON, TEXT, URL, same

PROGRAM = str(pathlib.Path(sys.executable).parent / "llm")

with tempfile.TemporaryDirectory() as home:
    entries = [
        {
            "model_id": name,
            "model_name": name,
            "api_base": f"{URL}/v1",
            "api_key_name": "gateway",
            "supports_tools": True,
            "supports_schema": True,
        }
        for name in ["small", "claude", "broken"]
    ]
    # YAML takes JSON.
    pathlib.Path(home, "extra-openai-models.yaml").write_text(json.dumps(entries))
    pathlib.Path(home, "keys.json").write_text(json.dumps({"gateway": KEY}))

    def run(*words):
        environment = {**os.environ, "LLM_USER_PATH": home, "HOME": home}
        return subprocess.run([PROGRAM, *words], env=environment, capture_output=True, text=True, timeout=120)

    def said(*words):
        ended = run(*words)
        same(f"{words}: exit ({ended.stderr})", ended.returncode, 0)
        return ended.stdout.strip()

    for model in ["small", "claude"]:
        same(f"text of {model}", said("-m", model, "--no-stream", "Say hello."), TEXT)
        same(f"pieces of {model}", said("-m", model, "Say hello."), TEXT)
    same("by a schema", json.loads(said("-m", "small", "--schema", "name, age int", "Who?")), PERSON)
    same("by a tool", said("-m", "small", "--functions", "def get_weather(place: str) -> str:\n    return place", "Oslo?"), TEXT)
    ended = run("-m", "broken", "Say hello.")
    same("429", (ended.returncode, "429" in ended.stderr), (1, True))

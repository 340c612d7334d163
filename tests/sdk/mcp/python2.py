"""The gateway as an MCP server, seen by the official Python SDK, 2.x: once as it finds the revision out, once in an old one.

Environment: URL (of the gateway), API_KEY (a key that sees the reference server `every`).
Exit: 0 all held, 1 something did not (stderr says what).
"""

import asyncio
import os

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

URL = os.environ["URL"]
HEADERS = {"Authorization": f"Bearer {os.environ['API_KEY']}"}


async def holds(mode):
    heard = []

    async def progress(done, total, message):
        heard.append(done)

    async with httpx2.AsyncClient(headers=HEADERS, timeout=30) as http:
        async with Client(streamable_http_client(f"{URL}/mcp", http_client=http), mode=mode) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert "every-echo" in names, names
            said = await client.call_tool("every-echo", {"message": "über"})
            assert said.content[0].text == "Echo: über", said
            slow = {"duration": 0.2, "steps": 2}
            await client.call_tool("every-trigger-long-running-operation", slow, progress_callback=progress)
            assert heard == [1, 2], heard
            prompt = await client.get_prompt("every-args-prompt", {"city": "Oslo"})
            assert "Oslo" in prompt.messages[0].content.text, prompt
            resources = (await client.list_resources()).resources
            assert (await client.read_resource(resources[0].uri)).contents[0].text
            try:
                nothing = await client.call_tool("every-nothing", {})
                assert nothing.is_error, nothing
            except MCPError as error:
                assert error.code == -32602, error
            return client.protocol_version


assert asyncio.run(holds("auto")) == "2026-07-28"
assert asyncio.run(holds("legacy")) == "2025-11-25"

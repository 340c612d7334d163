"""The gateway as an MCP server, seen by the official Python SDK, 1.x: streamable HTTP, and the old SSE.

Environment: URL (of the gateway), API_KEY (a key that sees the reference server `every`).
Exit: 0 all held, 1 something did not (stderr says what).
"""

import asyncio
import os

from mcp import ClientSession, McpError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamablehttp_client

URL = os.environ["URL"]
HEADERS = {"Authorization": f"Bearer {os.environ['API_KEY']}"}


async def holds(session, prefix):
    await session.initialize()
    names = [tool.name for tool in (await session.list_tools()).tools]
    assert prefix + "echo" in names, names
    said = await session.call_tool(prefix + "echo", {"message": "über"})
    assert said.content[0].text == "Echo: über" and not said.isError, said
    found = await session.call_tool(prefix + "get-structured-content", {"location": "New York"})
    assert found.structuredContent["temperature"], found
    image = await session.call_tool(prefix + "get-tiny-image", {})
    assert any(part.type == "image" for part in image.content), image
    wrong = await session.call_tool(prefix + "get-sum", {"a": "no", "b": 2})
    assert wrong.isError, wrong
    try:
        nothing = await session.call_tool(prefix + "nothing", {})
        assert nothing.isError, nothing
    except McpError as error:
        assert error.error.code == -32602, error.error


async def streamable():
    heard = []

    async def progress(done, total, message):
        heard.append((done, total))

    async with streamablehttp_client(f"{URL}/mcp", headers=HEADERS) as (read, write, _):
        async with ClientSession(read, write) as session:
            await holds(session, "every-")
            slow = {"duration": 0.2, "steps": 2}
            await session.call_tool("every-trigger-long-running-operation", slow, progress_callback=progress)
            assert [done for done, _ in heard] == [1, 2], heard
            prompts = [prompt.name for prompt in (await session.list_prompts()).prompts]
            assert "every-args-prompt" in prompts, prompts
            prompt = await session.get_prompt("every-args-prompt", {"city": "Oslo"})
            assert "Oslo" in prompt.messages[0].content.text, prompt
            resources = (await session.list_resources()).resources
            read_one = await session.read_resource(resources[0].uri)
            assert read_one.contents[0].text, read_one
            assert (await session.list_resource_templates()).resourceTemplates
            await session.send_ping()
    # One server alone has its tools' own names.
    async with streamablehttp_client(f"{URL}/every/mcp", headers=HEADERS) as (read, write, _):
        async with ClientSession(read, write) as session:
            await holds(session, "")


async def old():
    async with sse_client(f"{URL}/sse", headers=HEADERS) as (read, write):
        async with ClientSession(read, write) as session:
            await holds(session, "every-")


asyncio.run(streamable())
asyncio.run(old())

// The gateway as an MCP server, seen by the official TypeScript SDK, 1.x: streamable HTTP, and the old SSE.
//
// Environment: URL (of the gateway), API_KEY (a key that sees the reference server `every`), GATEWAY_SDK_MCP (a directory
// with node_modules). Exit: 0 all held, else stderr says what did not.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.GATEWAY_SDK_MCP}/`);
const { Client } = await import(require.resolve("@modelcontextprotocol/sdk/client/index.js"));
const http = await import(require.resolve("@modelcontextprotocol/sdk/client/streamableHttp.js"));
const sse = await import(require.resolve("@modelcontextprotocol/sdk/client/sse.js"));

const { URL: url, API_KEY: key } = process.env;
const requestInit = { headers: { Authorization: `Bearer ${key}` } };

async function holds(transport, prefix) {
  const client = new Client({ name: "test", version: "1" });
  await client.connect(transport);
  const { tools } = await client.listTools();
  assert(tools.some((tool) => tool.name === `${prefix}echo`), JSON.stringify(tools.map((tool) => tool.name)));
  const said = await client.callTool({ name: `${prefix}echo`, arguments: { message: "über" } });
  assert.equal(said.content[0].text, "Echo: über");
  const wrong = await client.callTool({ name: `${prefix}get-sum`, arguments: { a: "no", b: 2 } });
  assert.equal(wrong.isError, true);
  await assert.rejects(client.callTool({ name: `${prefix}nothing`, arguments: {} }), { code: -32602 });
  const heard = [];
  await client.callTool(
    { name: `${prefix}trigger-long-running-operation`, arguments: { duration: 0.3, steps: 3 } },
    undefined,
    { onprogress: (progress) => heard.push(progress.progress) },
  );
  // The SDK forgets whom to tell as soon as it sees the result: the last note may come to nothing.
  assert.deepEqual(heard.slice(0, 2), [1, 2]);
  const prompt = await client.getPrompt({ name: `${prefix}args-prompt`, arguments: { city: "Oslo" } });
  assert.match(prompt.messages[0].content.text, /Oslo/);
  const { resources } = await client.listResources();
  const read = await client.readResource({ uri: resources[0].uri });
  assert(read.contents[0].text.length > 0);
  const completed = await client.complete({
    ref: { type: "ref/prompt", name: `${prefix}completable-prompt` },
    argument: { name: "department", value: "E" },
  });
  assert.deepEqual(completed.completion.values, ["Engineering"]);
  await client.ping();
  // A call that is given up ends at once.
  const stop = new AbortController();
  const slow = { name: `${prefix}trigger-long-running-operation`, arguments: { duration: 60, steps: 2 } };
  const given = client.callTool(slow, undefined, { signal: stop.signal });
  stop.abort();
  await assert.rejects(given);
  await client.close();
}

const streamable = (path) => new http.StreamableHTTPClientTransport(new URL(`${url}${path}`), { requestInit });
await holds(streamable("/mcp"), "every-");
await holds(streamable("/mcp/every"), "");
const eventSourceInit = {
  fetch: (to, init) => fetch(to, { ...init, headers: { ...init.headers, ...requestInit.headers } }),
};
await holds(new sse.SSEClientTransport(new URL(`${url}/sse`), { requestInit, eventSourceInit }), "every-");
process.exit(0);

// The gateway as an MCP server, seen by the official TypeScript SDK, 2.x: once as it finds the revision out, once in an
// old one.
//
// Environment: URL (of the gateway), API_KEY (a key that sees the reference server `every`), GATEWAY_SDK_MCP (a directory
// with node_modules). Exit: 0 all held, else stderr says what did not.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.GATEWAY_SDK_MCP}/`);
const { Client, StreamableHTTPClientTransport } = await import(
  `${process.env.GATEWAY_SDK_MCP}/node_modules/@modelcontextprotocol/client/dist/index.mjs`
);

const { URL: url, API_KEY: key } = process.env;
const requestInit = { headers: { Authorization: `Bearer ${key}` } };

async function holds(options) {
  const client = new Client({ name: "test", version: "1" }, options);
  await client.connect(new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit }));
  const { tools } = await client.listTools();
  assert(tools.some((tool) => tool.name === "every-echo"), JSON.stringify(tools.map((tool) => tool.name)));
  const said = await client.callTool({ name: "every-echo", arguments: { message: "über" } });
  assert.equal(said.content[0].text, "Echo: über");
  const heard = [];
  await client.callTool(
    { name: "every-trigger-long-running-operation", arguments: { duration: 0.3, steps: 3 } },
    { onprogress: (progress) => heard.push(progress.progress) },
  );
  // The SDK forgets whom to tell as soon as it sees the result: the last note may come to nothing.
  assert.deepEqual(heard.slice(0, 2), [1, 2]);
  const prompt = await client.getPrompt({ name: "every-args-prompt", arguments: { city: "Oslo" } });
  assert.match(prompt.messages[0].content.text, /Oslo/);
  const { resources } = await client.listResources();
  assert((await client.readResource({ uri: resources[0].uri })).contents[0].text.length > 0);
  const version = client.getNegotiatedProtocolVersion();
  await client.close();
  return version;
}

assert.equal(await holds({ versionNegotiation: { mode: "auto" } }), "2026-07-28");
assert.equal(await holds({}), "2025-11-25");
process.exit(0);

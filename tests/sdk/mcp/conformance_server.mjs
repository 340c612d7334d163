// What the conformance suite wants of a server of tools, with the official TypeScript SDK, 1.x: the gateway stands before it.
//
// Environment: GATEWAY_SDK_MCP (a directory with node_modules). Prints its address; ends with its standard input.

import { createRequire } from "node:module";

const require = createRequire(`${process.env.GATEWAY_SDK_MCP}/`);
const { McpServer, ResourceTemplate } = await import(require.resolve("@modelcontextprotocol/sdk/server/mcp.js"));
const { StreamableHTTPServerTransport } = await import(
  require.resolve("@modelcontextprotocol/sdk/server/streamableHttp.js")
);
const types = await import(require.resolve("@modelcontextprotocol/sdk/types.js"));
const { completable } = await import(require.resolve("@modelcontextprotocol/sdk/server/completable.js"));
const { z } = await import(require.resolve("zod"));
const http = await import("node:http");
const { randomUUID } = await import("node:crypto");

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";
const SCHEMA = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  $defs: { address: { type: "object", properties: { street: { type: "string" }, city: { type: "string" } } } },
  properties: { name: { type: "string" }, address: { $ref: "#/$defs/address" } },
  additionalProperties: false,
};
const text = (said) => ({ type: "text", text: said });
const image = { type: "image", data: PNG, mimeType: "image/png" };
const pause = () => new Promise((go) => setTimeout(go, 20));

function made() {
  const server = new McpServer(
    { name: "conformance", version: "1" },
    { capabilities: { logging: {}, resources: { subscribe: true } } },
  );
  const tool = (name, description, run, inputSchema = {}) =>
    server.registerTool(name, { description, inputSchema }, run);
  tool("test_simple_text", "Says something", async () => ({
    content: [text("This is a simple text response for testing.")],
  }));
  tool("test_image_content", "Shows an image", async () => ({ content: [image] }));
  tool("test_audio_content", "Plays a sound", async () => ({
    content: [{ type: "audio", data: WAV, mimeType: "audio/wav" }],
  }));
  tool("test_embedded_resource", "Gives a resource", async () => ({
    content: [
      {
        type: "resource",
        resource: { uri: "test://embedded-resource", mimeType: "text/plain", text: "This is an embedded resource." },
      },
    ],
  }));
  tool("test_multiple_content_types", "Gives all of them", async () => ({
    content: [
      text("Multiple content types test:"),
      image,
      {
        type: "resource",
        resource: { uri: "test://mixed-content-resource", mimeType: "application/json", text: '{"test":"data"}' },
      },
    ],
  }));
  tool("test_tool_with_logging", "Says what it does", async (_, { sendNotification }) => {
    for (const data of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
      await sendNotification({ method: "notifications/message", params: { level: "info", data } });
      await pause();
    }
    return { content: [text("Logged.")] };
  });
  tool("test_tool_with_progress", "Says how far it is", async (_, { sendNotification, _meta }) => {
    for (const progress of [0, 50, 100]) {
      const params = { progressToken: _meta.progressToken, progress, total: 100 };
      await sendNotification({ method: "notifications/progress", params });
      await pause();
    }
    return { content: [text(String(_meta.progressToken))] };
  });
  tool("test_error_handling", "Fails", async () => {
    throw new Error("This tool intentionally returns an error for testing");
  });
  const asks = (name, send) =>
    tool(name, "Asks its client", async (_, { sendRequest }) => {
      const answer = await send(sendRequest);
      return { content: [text(`The client answers: ${JSON.stringify(answer)}`)] };
    }, { prompt: z.string().optional(), message: z.string().optional() });
  asks("test_sampling", (send) =>
    send(
      {
        method: "sampling/createMessage",
        params: { messages: [{ role: "user", content: text("Say something.") }], maxTokens: 100 },
      },
      types.CreateMessageResultSchema,
    ));
  const elicits = (name, properties) =>
    asks(name, (send) =>
      send(
        { method: "elicitation/create", params: { message: "?", requestedSchema: { type: "object", properties } } },
        types.ElicitResultSchema,
      ));
  elicits("test_elicitation", { username: { type: "string" }, email: { type: "string" } });
  elicits("test_elicitation_sep1034_defaults", {
    name: { type: "string", default: "John Doe" },
    age: { type: "integer", default: 30 },
    score: { type: "number", default: 95.5 },
    status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
    verified: { type: "boolean", default: true },
  });
  const words = ["one", "two", "three"];
  const titled = words.map((word) => ({ const: word, title: word.toUpperCase() }));
  elicits("test_elicitation_sep1330_enums", {
    untitledSingle: { type: "string", enum: words },
    titledSingle: { type: "string", oneOf: titled },
    legacyEnum: { type: "string", enum: words, enumNames: words },
    untitledMulti: { type: "array", items: { type: "string", enum: words } },
    titledMulti: { type: "array", items: { anyOf: titled } },
  });
  tool("test_reconnection", "Ends its stream", async (_, { closeSSEStream }) => {
    closeSSEStream?.();
    await pause();
    return { content: [text("Reconnection test completed successfully.")] };
  });
  const fixed = (name, uri, mimeType, contents) =>
    server.registerResource(name, uri, { description: name, mimeType }, async () => ({ contents: [contents] }));
  const static_text = { uri: "test://static-text", mimeType: "text/plain", text: "This is the content of the text." };
  fixed("static-text", "test://static-text", "text/plain", static_text);
  fixed("static-binary", "test://static-binary", "image/png", {
    uri: "test://static-binary",
    mimeType: "image/png",
    blob: PNG,
  });
  fixed("watched", "test://watched-resource", "text/plain", { uri: "test://watched-resource", text: "watched" });
  server.registerResource(
    "template",
    new ResourceTemplate("test://template/{id}/data", { list: undefined }),
    { description: "A template", mimeType: "application/json" },
    async (uri, { id }) => ({
      contents: [{ uri: uri.href, mimeType: "application/json", text: JSON.stringify({ id, data: `Data for ${id}` }) }],
    }),
  );
  // A schema as it stands; the SDK makes its own of zod alone.
  const listed = server.server._requestHandlers.get("tools/list");
  server.server.setRequestHandler(types.ListToolsRequestSchema, async (...asked) => {
    const { tools } = await listed(...asked);
    return { tools: [...tools, { name: "json_schema_2020_12_tool", description: "Of 2020-12", inputSchema: SCHEMA }] };
  });
  server.server.setRequestHandler(types.SubscribeRequestSchema, async () => ({}));
  server.server.setRequestHandler(types.UnsubscribeRequestSchema, async () => ({}));
  const user = (content) => ({ messages: [{ role: "user", content }] });
  server.registerPrompt("test_simple_prompt", { description: "Plain" }, async () =>
    user(text("This is a simple prompt for testing.")));
  server.registerPrompt(
    "test_prompt_with_arguments",
    {
      description: "With arguments",
      argsSchema: {
        arg1: completable(z.string(), (value) => ["paris", "park", "party"].filter((city) => city.startsWith(value))),
        arg2: z.string(),
      },
    },
    async ({ arg1, arg2 }) => user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
  );
  server.registerPrompt(
    "test_prompt_with_embedded_resource",
    { description: "With a resource", argsSchema: { resourceUri: z.string() } },
    async ({ resourceUri }) => ({
      messages: [
        user({ type: "resource", resource: { uri: resourceUri, mimeType: "text/plain", text: "Embedded." } }).messages[0],
        user(text("Please process the embedded resource above.")).messages[0],
      ],
    }),
  );
  server.registerPrompt("test_prompt_with_image", { description: "With an image" }, async () => ({
    messages: [user(image).messages[0], user(text("Please analyze the image above.")).messages[0]],
  }));
  return server;
}

const sessions = new Map();
const listener = http.createServer(async (request, response) => {
  const id = request.headers["mcp-session-id"];
  let transport = sessions.get(id);
  if (id && !transport) {
    response.writeHead(404).end();
    return;
  }
  if (!transport) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (name) => sessions.set(name, transport),
    });
    await made().connect(transport);
  }
  await transport.handleRequest(request, response);
});
listener.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${listener.address().port}/mcp`));
process.stdin.resume().on("end", () => process.exit(0));

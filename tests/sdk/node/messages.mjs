// Anthropic's Messages through the gateway, seen by the official Anthropic SDK for Node.
//
// Usage: node messages.mjs SCENARIO        node messages.mjs --list prints the scenarios, one a line.
// Environment: GATEWAY_SDK_NODE (the directory with node_modules), BASE_URL (the gateway's root), API_KEY (a valid
// gateway key), MODEL (a model of the gateway; default "sdk-model").
// Exit: 0 the scenario held, 1 it did not (stderr says why), 2 wrong use.
//
// The upstream is played by the caller, in Anthropic's format or in OpenAI's. What it must do is the comment of each
// scenario, one reply a call, in order:
//
//   WHOLE   200, a message of one text "Hello über there", stopped at its end, 12 tokens in and 5 out
//   PIECES  the same as a stream

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const TEXT = "Hello über there";
const THOUGHT = "The user wants two places, so I ask for both.";
const MESSAGES = [{ role: "user", content: "Say hello." }];
const WEATHER = {
  name: "get_weather",
  description: "The weather of a place",
  input_schema: { type: "object", properties: { place: { type: "string" } }, required: ["place"] },
};
const THINKING = { type: "enabled", budget_tokens: 1024 };

const missing = ["GATEWAY_SDK_NODE", "BASE_URL", "API_KEY"].filter((name) => !process.env[name]);
const listing = process.argv[2] === "--list";
if (missing.length > 0 && !listing) {
  console.error(`messages.mjs: not set: ${missing.join(" ")}`);
  process.exit(2);
}

// The SDK lies outside the source tree, where a plain `import` would not look.
const load = listing ? undefined : createRequire(join(process.env.GATEWAY_SDK_NODE, "package.json"));
const Anthropic = load?.("@anthropic-ai/sdk").Anthropic;

/** No retries unless a scenario is about them. */
function client(more) {
  const { BASE_URL: baseURL, API_KEY: apiKey } = process.env;
  return new Anthropic({ baseURL, apiKey, maxRetries: 0, timeout: 20_000, ...more });
}

function model() {
  return process.env.MODEL ?? "sdk-model";
}

function ask(more) {
  return { model: model(), max_tokens: 2000, messages: MESSAGES, ...more };
}

async function collect(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

/** The error of class `kind` that `action` must raise; any other outcome is a mismatch. */
async function refused(kind, action) {
  let outcome;
  try {
    outcome = await action();
  } catch (error) {
    assert.equal(error.constructor.name, kind.name, `class of the error: ${error}`);
    return error;
  }
  assert.fail(`no ${kind.name}, but ${JSON.stringify(outcome)}`);
}

/** The error of the answer, in Anthropic's envelope. */
function bodyOf(error, kind) {
  assert.equal(error.error?.type, "error", `no error envelope: ${JSON.stringify(error.error)}`);
  assert.equal(error.error.error.type, kind);
  return error.error.error;
}

function checkWhole(answer) {
  assert.deepEqual([answer.type, answer.role], ["message", "assistant"]);
  assert.deepEqual(answer.content.map((block) => block.text), [TEXT]);
  assert.equal(answer.stop_reason, "end_turn");
  assert.deepEqual([answer.usage.input_tokens, answer.usage.output_tokens], [12, 5]);
}

/** Reads a stream that must end in an error after "Hello über"; returns the error. */
async function brokenStream() {
  let text = "";
  try {
    for await (const event of await client().messages.create(ask({ stream: true }))) text += event.delta?.text ?? "";
  } catch (error) {
    assert.ok(error instanceof Anthropic.AnthropicError, `${error}`);
    assert.equal(text, "Hello über", "text before the error");
    return error;
  }
  assert.fail("no error");
}

const scenarios = {
  // Upstream: WHOLE.
  async whole() {
    checkWhole(await client().messages.create(ask({ system: "Be brief." })));
  },

  // Upstream: PIECES, twice.
  async stream() {
    const texts = [];
    const stream = client().messages.stream(ask()).on("text", (text) => texts.push(text));
    checkWhole(await stream.finalMessage());
    assert.equal(texts.join(""), TEXT);
    const events = await collect(await client().messages.create(ask({ stream: true })));
    const kinds = events.map((event) => event.type).filter((kind) => kind !== "ping");
    assert.deepEqual(kinds.slice(0, 2), ["message_start", "content_block_start"]);
    assert.deepEqual(kinds.slice(-2), ["message_delta", "message_stop"]);
  },

  // Upstream, first call: a stream of THOUGHT, the text "I look." and two calls of `get_weather` (ids "toolu_oslo" and
  // "toolu_rome", their inputs cut into several pieces). Second call (must carry the turn back as it was, and both
  // results): PIECES.
  async tools() {
    const api = client().messages;
    const answer = await api.stream(ask({ tools: [WEATHER], thinking: THINKING })).finalMessage();
    assert.deepEqual(answer.content.map((block) => block.type), ["thinking", "text", "tool_use", "tool_use"]);
    assert.equal(answer.content[0].thinking, THOUGHT);
    assert.equal(answer.stop_reason, "tool_use");
    const calls = answer.content.slice(2);
    assert.deepEqual(calls.map((call) => call.id), ["toolu_oslo", "toolu_rome"]);
    assert.deepEqual(calls.map((call) => call.input), [{ place: "Oslo" }, { place: "Rome" }]);
    const results = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "4 degrees" }));
    const messages = [
      ...MESSAGES,
      { role: "assistant", content: answer.content },
      { role: "user", content: results },
    ];
    checkWhole(await api.stream(ask({ messages, tools: [WEATHER], thinking: THINKING })).finalMessage());
  },

  // Upstream: a turn that calls the tool `look` of the server `house`, which says "milk and bread"; then PIECES; then the
  // text whole.
  async served_tools() {
    const more = {
      mcp_servers: [{ type: "url", name: "house", url: "litellm_proxy/mcp/house" }],
      tools: [{ type: "mcp_toolset", mcp_server_name: "house" }],
      betas: ["mcp-client-2025-11-20"],
    };
    const api = client().beta.messages;
    const answer = await api.stream(ask(more)).finalMessage();
    assert.deepEqual(answer.content.map((block) => block.type), ["mcp_tool_use", "mcp_tool_result", "text"]);
    const [call, result, text] = answer.content;
    assert.deepEqual([call.name, call.server_name, call.input], ["look", "house", {}]);
    assert.deepEqual([result.tool_use_id, result.content[0].text], [call.id, "milk and bread"]);
    assert.deepEqual([text.text, answer.stop_reason], [TEXT, "end_turn"]);
    const messages = [...MESSAGES, { role: "assistant", content: answer.content }, { role: "user", content: "And?" }];
    assert.equal((await api.create({ ...ask(more), messages })).content[0].text, TEXT);
  },

  // Upstream: a whole answer of THOUGHT and the text.
  async thinking() {
    const answer = await client().messages.create(ask({ thinking: THINKING }));
    assert.deepEqual(answer.content.map((block) => block.type), ["thinking", "text"]);
    assert.deepEqual([answer.content[0].thinking, answer.content[1].text], [THOUGHT, TEXT]);
  },

  // Upstream: `{"input_tokens":42}` in Anthropic's format; never called in OpenAI's.
  async count_tokens() {
    const counted = await client().messages.countTokens({ model: model(), messages: MESSAGES, tools: [WEATHER] });
    assert.ok(counted.input_tokens >= 10 && counted.input_tokens <= 200, `a strange count: ${counted.input_tokens}`);
  },

  // Upstream: WHOLE. The key is shown as a bearer.
  async bearer() {
    const api = client({ apiKey: null, authToken: process.env.API_KEY });
    checkWhole(await api.messages.create(ask()));
  },

  // Upstream: never called.
  async unknown_model() {
    const error = await refused(Anthropic.BadRequestError, () =>
      client().messages.create(ask({ model: "no-such-model" })),
    );
    assert.match(bodyOf(error, "invalid_request_error").message, /no-such-model/);
  },

  // Upstream: never called.
  async wrong_key() {
    const api = client({ apiKey: "sk-wrong-key-0123456789" });
    const error = await refused(Anthropic.AuthenticationError, () => api.messages.create(ask()));
    bodyOf(error, "authentication_error");
    assert.doesNotMatch(error.message, /sk-wrong-key-0123456789/);
  },

  // Upstream: 429 with `retry-after: 7`.
  async rate_limited() {
    const error = await refused(Anthropic.RateLimitError, () => client().messages.create(ask()));
    bodyOf(error, "rate_limit_error");
    assert.equal(error.headers.get("retry-after"), "7");
  },

  // Upstream: 429 with `retry-after: 0.1`, then WHOLE. The SDK (or a gateway that retries) asks again.
  async retried() {
    checkWhole(await client({ maxRetries: 1 }).messages.create(ask()));
  },

  // Upstream: 500 to a request with `stream`: the error is a status, not an event.
  async server_error() {
    const error = await refused(Anthropic.InternalServerError, () => client().messages.create(ask({ stream: true })));
    bodyOf(error, "api_error");
  },

  // Upstream: never called.
  async models() {
    const ids = (await collect(client().models.list({ limit: 1 }))).map((entry) => entry.id);
    assert.equal(ids.filter((id) => id === model()).length, 1, `${model()} is not listed once: ${ids}`);
    const entry = await client().models.retrieve(model());
    assert.deepEqual([entry.id, entry.type], [model(), "model"]);
  },

  // Upstream: WHOLE.
  async headers() {
    const { data, response, request_id } = await client().messages.create(ask()).withResponse();
    checkWhole(data);
    assert.match(request_id, /^req_/);
    assert.ok(Number(response.headers.get("x-litellm-response-cost")) > 0, "no cost");
  },

  // Upstream: "Hello", " über", then an error event "The model fell over." and the end of the stream.
  async error_event() {
    assert.match((await brokenStream()).message, /The model fell over\./);
  },

  // Upstream: "Hello", " über", then the connection breaks.
  async cut_stream() {
    assert.match((await brokenStream()).message, /broke off/);
  },
};

const [name, ...rest] = process.argv.slice(2);
if (listing) {
  console.log(Object.keys(scenarios).join("\n"));
} else if (rest.length > 0 || !Object.hasOwn(scenarios, name)) {
  console.error(`usage: messages.mjs SCENARIO, one of: ${Object.keys(scenarios).join(" ")}`);
  process.exitCode = 2;
} else {
  // The SDK's own time limit ends with the headers: a stream that stalls would keep it waiting for ever.
  const limit = setTimeout(() => {
    console.error(`messages.mjs ${name}: not done after 30 s`);
    process.exit(1);
  }, 30_000);
  limit.unref();
  try {
    await scenarios[name]();
  } catch (error) {
    console.error(`messages.mjs ${name}: ${error.stack}`);
    process.exitCode = 1;
  }
}

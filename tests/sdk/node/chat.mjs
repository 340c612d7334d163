// Chat completions through the gateway, seen by the official OpenAI SDK for Node.
//
// Usage: node chat.mjs SCENARIO        node chat.mjs --list prints the scenarios, one a line.
// Environment: GATEWAY_SDK_NODE (the directory with node_modules), BASE_URL (ending in /v1), API_KEY (a valid gateway
// key), MODEL (a model of the gateway; default "sdk-model").
// Exit: 0 the scenario held, 1 it did not (stderr says why), 2 wrong use.
//
// The upstream is played by the caller. What it must do is the comment of each scenario, one reply a call, in order:
//
//   WHOLE   200, one chat.completion: content "Hello über there", finish_reason "stop", usage 12 + 5 = 17
//   PIECES  200, an event stream: a chunk with the role, then "Hello", " über", " there", a chunk with
//           finish_reason "stop", a chunk with empty `choices` and usage 12 + 5 = 17, [DONE]

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const TEXT = "Hello über there";
const MESSAGES = [{ role: "user", content: "Say hello." }];

const missing = ["GATEWAY_SDK_NODE", "BASE_URL", "API_KEY"].filter((name) => !process.env[name]);
const listing = process.argv[2] === "--list";
if (missing.length > 0 && !listing) {
  console.error(`chat.mjs: not set: ${missing.join(" ")}`);
  process.exit(2);
}

// The SDK lies outside the source tree, where a plain `import` would not look.
const OpenAI = listing ? undefined : createRequire(join(process.env.GATEWAY_SDK_NODE, "package.json"))("openai");

/** No retries unless a scenario is about them. */
function client(more) {
  const { BASE_URL: baseURL, API_KEY: apiKey } = process.env;
  return new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000, ...more });
}

function chat(more, options) {
  return client(options).chat.completions.create({ model: model(), messages: MESSAGES, ...more });
}

function model() {
  return process.env.MODEL ?? "sdk-model";
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
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

/** The error object of the answer: all four members present, `message` and `type` text. */
function bodyOf(error) {
  const body = error.error;
  for (const member of ["message", "type", "param", "code"]) {
    assert.ok(member in body, `the error has no \`${member}\`: ${JSON.stringify(body)}`);
  }
  for (const member of ["message", "type"]) {
    assert.ok(typeof body[member] === "string" && body[member], `\`${member}\` is no text: ${JSON.stringify(body)}`);
  }
  return body;
}

function checkWhole(answer) {
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.choices[0].message.content, TEXT);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.equal(answer.usage.total_tokens, 17);
}

/** Every chunk has one choice and no usage, as of a client that did not ask for usage. */
function checkPieces(chunks) {
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), TEXT);
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
  assert.deepEqual(chunks.filter((chunk) => chunk.usage), [], "usage that was not asked for");
}

/** Reads a stream that must end in an error after "Hello über"; returns the error's object. */
async function brokenStream() {
  let text = "";
  const error = await refused(OpenAI.APIError, async () => {
    for await (const chunk of await chat({ stream: true })) text += chunk.choices[0].delta.content ?? "";
  });
  assert.equal(text, "Hello über", "text before the error");
  return bodyOf(error);
}

const scenarios = {
  // Upstream: WHOLE.
  async whole() {
    checkWhole(await chat());
  },

  // Upstream: PIECES. It is asked for usage (the gateway wants it), the client is not shown it.
  async stream() {
    checkPieces(await collect(await chat({ stream: true })));
  },

  // Upstream: PIECES.
  async stream_usage() {
    const chunks = await collect(await chat({ stream: true, stream_options: { include_usage: true } }));
    const last = chunks.pop();
    checkPieces(chunks);
    assert.deepEqual(last.choices, []);
    assert.deepEqual([last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens], [12, 5, 17]);
  },

  // Upstream, first call (one tool, `get_weather`): a stream with two tool calls, index 0 id "call_oslo" and index 1 id
  // "call_rome", their arguments {"place":"Oslo"} and {"place":"Rome"} each cut into several deltas, finish_reason
  // "tool_calls", [DONE].
  // Second call (must carry the assistant's two tool calls and a `tool` message for each id): PIECES.
  async tools() {
    const places = [];
    const get_weather = {
      name: "get_weather",
      description: "The weather of a place",
      parameters: { type: "object", properties: { place: { type: "string" } }, required: ["place"] },
      parse: JSON.parse,
      function: ({ place }) => {
        places.push(place);
        return "4 degrees";
      },
    };
    const runner = client().chat.completions.runTools({
      model: model(),
      messages: [...MESSAGES],
      stream: true,
      tools: [{ type: "function", function: get_weather }],
    });
    assert.equal(await runner.finalContent(), TEXT);
    assert.deepEqual(places, ["Oslo", "Rome"]);
    const calls = runner.messages.flatMap((message) => message.tool_calls ?? []);
    assert.deepEqual(calls.map((call) => call.id), ["call_oslo", "call_rome"]);
    assert.deepEqual(calls.map((call) => call.function.arguments), ['{"place":"Oslo"}', '{"place":"Rome"}']);
  },

  // Upstream: an Anthropic. First call: a stream of thinking, the text "I look." and two calls as in `tools` (ids
  // "toolu_oslo" and "toolu_rome"). Second call (must carry the thinking with its signature): PIECES. Each of them uses
  // 12 tokens at 3 dollars a million and 5 at 15.
  async thinking() {
    const parameters = { type: "object", properties: { place: { type: "string" } }, required: ["place"] };
    const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
    const more = { tools, reasoning_effort: "low", stream: true, stream_options: { include_usage: true } };
    const message = { role: "assistant", content: "", tool_calls: [], thinking_blocks: [] };
    const { tool_calls: calls, thinking_blocks: blocks } = message;
    const first = await collect(await chat(more));
    assert.equal(first.pop().usage.cost, 0.000111);
    for (const { choices } of first) {
      const { delta } = choices[0];
      message.content += delta.content ?? "";
      for (const piece of delta.thinking_blocks ?? []) {
        if (!blocks.length || blocks.at(-1).signature) blocks.push({ type: "thinking", thinking: "", signature: "" });
        for (const member of ["thinking", "signature"]) blocks.at(-1)[member] += piece[member];
      }
      for (const { index, id, function: { name, arguments: piece } } of delta.tool_calls ?? []) {
        calls[index] ??= { id, type: "function", function: { name, arguments: "" } };
        calls[index].function.arguments += piece ?? "";
      }
    }
    assert.deepEqual(calls.map((call) => call.id), ["toolu_oslo", "toolu_rome"]);
    const results = calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "4 degrees" }));
    const second = await collect(await chat({ ...more, messages: [...MESSAGES, message, ...results] }));
    assert.equal(second.pop().usage.cost, 0.000111);
    checkPieces(second);
  },

  // Upstream: never called.
  async unknown_model() {
    const error = await refused(OpenAI.BadRequestError, () => chat({ model: "no-such-model" }));
    assert.equal(bodyOf(error).code, "400");
    assert.match(error.message, /no-such-model/);
  },

  // Upstream: never called.
  async wrong_key() {
    const error = await refused(OpenAI.AuthenticationError, () => chat({}, { apiKey: "sk-wrong-key-0123456789" }));
    assert.equal(bodyOf(error).code, "401");
    assert.doesNotMatch(error.message, /sk-wrong-key-0123456789/);
  },

  // Upstream: 401 with code "invalid_api_key": the provider does not know the gateway's own key.
  async provider_key_failed() {
    const error = await refused(OpenAI.AuthenticationError, () => chat());
    assert.equal(typeof bodyOf(error).code, "string");
    assert.match(error.message, /provider/i);
  },

  // Upstream: 429 with code "rate_limit_exceeded" and `retry-after: 7`.
  async rate_limited() {
    const error = await refused(OpenAI.RateLimitError, () => chat());
    assert.equal(bodyOf(error).code, "rate_limit_exceeded");
    assert.equal(error.headers.get("retry-after"), "7");
  },

  // Upstream: 429 with `retry-after: 0.1`, then WHOLE. The SDK (or a gateway that retries) asks again.
  async retried() {
    checkWhole(await chat({}, { maxRetries: 1 }));
  },

  // Upstream: 500 with code "server_error".
  async server_error() {
    const error = await refused(OpenAI.InternalServerError, () => chat());
    assert.equal(error.status, 500);
    assert.equal(bodyOf(error).code, "server_error");
  },

  // Upstream: 500 with code "server_error", to a request with `stream`: the error is a status, not an event.
  async server_error_stream() {
    const error = await refused(OpenAI.InternalServerError, async () => collect(await chat({ stream: true })));
    assert.equal(bodyOf(error).code, "server_error");
  },

  // Upstream: never called.
  async models() {
    const ids = (await collect(client().models.list())).map((entry) => entry.id);
    assert.equal(ids.filter((id) => id === model()).length, 1, `${model()} is not listed once: ${ids}`);
    assert.equal(new Set(ids).size, ids.length, `an id is listed twice: ${ids}`);
    const entry = await client().models.retrieve(model());
    assert.deepEqual([entry.id, entry.object], [model(), "model"]);
  },

  // Upstream: WHOLE, then PIECES.
  async headers() {
    const whole = await chat().withResponse();
    checkWhole(whole.data);
    const streamed = await chat({ stream: true }).withResponse();
    checkPieces(await collect(streamed.data));
    const ids = [whole, streamed].map(({ response }) => response.headers.get("x-litellm-call-id"));
    assert.ok(ids.every(Boolean) && ids[0] !== ids[1], `x-litellm-call-id is missing or not of its own: ${ids}`);
  },

  // Upstream: reads the request and says nothing; its connection must be closed by the gateway.
  async timeout() {
    await refused(OpenAI.APIConnectionTimeoutError, () => chat({}, { timeout: 400 }));
  },

  // Upstream: the role chunk and "Hello", then silence with the connection open, until the gateway closes it; only then
  // may the second call be answered, with WHOLE. This process stays alive meanwhile, so closing it was the SDK's doing.
  async cancelled() {
    for await (const chunk of await chat({ stream: true })) {
      if (chunk.choices[0].delta.content) break;
    }
    checkWhole(await chat());
  },

  // Upstream: the role chunk, "Hello", " über", then the event {"error":{"message":"The model fell over.","type":
  // "server_error","param":null,"code":"overloaded"}} and the end of the stream.
  async error_event() {
    const body = await brokenStream();
    assert.equal(body.code, "overloaded");
    assert.match(body.message, /The model fell over\./);
  },

  // Upstream: the role chunk, "Hello", " über", then the connection breaks, without [DONE].
  async cut_stream() {
    assert.equal(typeof (await brokenStream()).code, "string");
  },
};

const [name, ...rest] = process.argv.slice(2);
if (listing) {
  console.log(Object.keys(scenarios).join("\n"));
} else if (rest.length > 0 || !Object.hasOwn(scenarios, name)) {
  console.error(`usage: chat.mjs SCENARIO, one of: ${Object.keys(scenarios).join(" ")}`);
  process.exitCode = 2;
} else {
  // The SDK's own time limit ends with the headers: a stream that stalls would keep it waiting for ever.
  const limit = setTimeout(() => {
    console.error(`chat.mjs ${name}: not done after 30 s`);
    process.exit(1);
  }, 30_000);
  limit.unref();
  try {
    await scenarios[name]();
  } catch (error) {
    console.error(`chat.mjs ${name}: ${error.stack}`);
    process.exitCode = 1;
  }
}

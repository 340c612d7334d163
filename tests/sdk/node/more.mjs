// Audio, pictures, embeddings and Responses through the gateway, seen by the official OpenAI SDK for Node.
//
// Usage, environment and exit are those of chat.mjs. The upstream is played by the caller: see more.py, whose scenarios
// these are.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const listing = process.argv[2] === "--list";
const model = process.env.MODEL ?? "sdk-model";
const OpenAI = listing ? undefined : createRequire(join(process.env.GATEWAY_SDK_NODE, "package.json"))("openai");

function client() {
  const { BASE_URL: baseURL, API_KEY: apiKey } = process.env;
  return new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
}

const sound = () => OpenAI.toFile(Buffer.concat([Buffer.from("RIFF"), Buffer.alloc(600_000, "x")]), "speech.wav");

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const scenarios = {
  async transcription() {
    const told = await client().audio.transcriptions.create({
      model,
      file: await sound(),
      response_format: "json",
      timestamp_granularities: ["word", "segment"],
    });
    assert.equal(told.text, "hello");
    assert.equal(told.usage.seconds, 2);
  },

  async transcription_as_text() {
    const told = await client().audio.transcriptions.create({ model, file: await sound(), response_format: "text" });
    assert.equal(told, "hello\n");
  },

  async transcription_streamed() {
    const events = await all(await client().audio.transcriptions.create({ model, file: await sound(), stream: true }));
    const deltas = events.filter((event) => event.type === "transcript.text.delta").map((event) => event.delta);
    assert.deepEqual(deltas, ["hel", "lo"]);
    assert.equal(events.at(-1).text, "hello");
  },

  async translation() {
    assert.equal((await client().audio.translations.create({ model, file: await sound() })).text, "hello");
  },

  async speech() {
    const answer = await client().audio.speech.create({ model, voice: "alloy", input: "Hello" });
    assert.equal(answer.headers.get("content-type"), "audio/mpeg");
    assert.equal(Buffer.from(await answer.arrayBuffer()).toString(), "onetwo");
  },

  async picture() {
    assert.equal((await client().images.generate({ model, prompt: "a cat" })).data[0].b64_json, "AA==");
  },

  async picture_edited() {
    const file = (name) => OpenAI.toFile(Buffer.from(name), name, { type: "image/png" });
    const image = [await file("one.png"), await file("two.png")];
    const told = await client().images.edit({ model, prompt: "a cat", image, mask: await file("mask.png") });
    assert.equal(told.data[0].b64_json, "AA==");
  },

  async embeddings() {
    const told = await client().embeddings.create({ model, input: ["a", "b"], dimensions: 2 });
    assert.deepEqual(told.data.map((one) => [...one.embedding]), [[1, -0.5], [0, 0.25]]);
    const float = await client().embeddings.create({ model, input: "a", encoding_format: "float" });
    assert.deepEqual(float.data[0].embedding, [1, -0.5]);
  },

  async response() {
    const told = await client().responses.create({ model, input: "Say hello." });
    assert.equal(told.output_text, "Hello über there");
    assert.deepEqual([told.usage.input_tokens, told.usage.output_tokens], [12, 5]);
    assert.equal((await client().responses.retrieve(told.id)).output_text, "Hello über there");
  },

  async response_streamed() {
    const stream = client().responses.stream({ model, input: "Say hello." });
    const events = await all(stream);
    const deltas = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
    assert.equal(deltas.join(""), "Hello über there");
    assert.equal((await stream.finalResponse()).output_text, "Hello über there");
  },

  async response_with_tools() {
    const tools = [
      { type: "mcp", server_label: "house", server_url: "litellm_proxy/mcp/house", require_approval: "never" },
    ];
    const stream = client().responses.stream({ model, input: "What is there?", tools });
    const events = await all(stream);
    const told = await stream.finalResponse();
    assert.deepEqual(told.output.map((item) => item.type), ["mcp_list_tools", "mcp_call", "message"]);
    const call = told.output[1];
    assert.deepEqual([call.name, call.server_label, call.output, call.error], ["look", "house", "milk and bread", null]);
    assert.ok(events.some((event) => event.type === "response.mcp_call.completed"));
    assert.equal(told.output_text, "Hello über there");
    const next = { model, input: "And?", tools, previous_response_id: told.id };
    assert.deepEqual((await client().responses.create(next)).output.map((item) => item.type), ["message"]);
  },

  async response_in_the_background() {
    let told = await client().responses.create({ model, input: "Say hello.", background: true });
    assert.equal(told.status, "queued");
    for (let i = 0; i < 1000; i++) {
      told = await client().responses.retrieve(told.id);
      if (told.status !== "in_progress") break;
    }
    assert.deepEqual([told.status, told.output_text], ["completed", "Hello über there"]);
    assert.equal((await client().responses.cancel(told.id)).status, "completed");
  },

  async refused() {
    const call = client().audio.transcriptions.create({ model, file: await sound() });
    await assert.rejects(call, (error) => error instanceof OpenAI.BadRequestError && error.type === "invalid_request_error");
  },
};

const [name, ...rest] = process.argv.slice(2);
if (listing) {
  console.log(Object.keys(scenarios).join("\n"));
} else if (rest.length > 0 || !Object.hasOwn(scenarios, name)) {
  console.error(`usage: more.mjs SCENARIO, one of: ${Object.keys(scenarios).join(" ")}`);
  process.exitCode = 2;
} else {
  try {
    await scenarios[name]();
  } catch (error) {
    console.error(`more.mjs ${name}: ${error.stack}`);
    process.exitCode = 1;
  }
}

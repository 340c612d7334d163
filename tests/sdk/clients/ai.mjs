// The Vercel AI SDK, by its clients of OpenAI, of what is like it, of Anthropic and of Google.
//
// Usage, environment, exit and what is served: told.py. GATEWAY_SDK_NODE is the directory with node_modules.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.GATEWAY_SDK_NODE, "package.json"));
const { embedMany, generateObject, generateText, isStepCount, jsonSchema, stepCountIs, streamText, tool } = require("ai");
const { createOpenAI } = require("@ai-sdk/openai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");
const { createAnthropic } = require("@ai-sdk/anthropic");
const { createGoogleGenerativeAI } = require("@ai-sdk/google");

const { GATEWAY_URL: url, API_KEY: apiKey } = process.env;
const TEXT = "Hello über there";
const PERSON = { name: "Ada", age: 36 };
const quiet = { maxRetries: 0 };
const object = (properties) => jsonSchema({ type: "object", properties, required: Object.keys(properties) });

const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey });
const like = createOpenAICompatible({ name: "gateway", baseURL: `${url}/v1`, apiKey, includeUsage: true });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey });
const google = createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey });
const steps = isStepCount ?? stepCountIs;

for (const [name, model] of [
  ["chat", (model) => openai.chat(model)],
  ["Responses", (model) => openai.responses(model)],
  ["like OpenAI", (model) => like(model)],
  ["Anthropic", (model) => anthropic(model)],
  ["Google", (model) => google(model)],
]) {
  for (const behind of ["small", "claude"]) {
    const what = `${name} to ${behind}`;
    const told = await generateText({ model: model(behind), prompt: "Say hello.", ...quiet });
    assert.equal(told.text, TEXT, what);
    assert.deepEqual([told.usage.inputTokens, told.usage.outputTokens], [12, 5], what);
    const stream = streamText({ model: model(behind), prompt: "Say hello.", ...quiet });
    let pieces = "";
    for await (const piece of stream.textStream) pieces += piece;
    assert.equal(pieces, TEXT, what);
    assert.equal((await stream.usage).outputTokens, 5, what);
    const places = [];
    const get_weather = tool({
      description: "The weather at a place.",
      inputSchema: object({ place: { type: "string" } }),
      execute: async ({ place }) => places.push(place),
    });
    const tools = { get_weather };
    const acted = await generateText({ model: model(behind), prompt: "Oslo?", tools, stopWhen: steps(3), ...quiet });
    assert.deepEqual([acted.text, places], [TEXT, ["Oslo"]], what);
    const schema = object({ name: { type: "string" }, age: { type: "integer" } });
    const made = await generateObject({ model: model(behind), schema, prompt: "Who?", ...quiet });
    assert.deepEqual(made.object, PERSON, what);
  }
  const refused = await generateText({ model: model("broken"), prompt: "a", ...quiet }).catch((error) => error);
  assert.equal(refused.statusCode, 429, `${name}: ${refused}`);
}

for (const model of [openai.embedding("embed"), google.textEmbeddingModel("embed")]) {
  const { embeddings } = await embedMany({ model, values: ["a", "b"], ...quiet });
  assert.deepEqual(embeddings, [[1, -0.5], [1, -0.5]]);
}

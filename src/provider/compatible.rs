//! The providers, nearly all of which speak OpenAI's own wire format: one row each, and three ways to find a row.
//!
//! An ordinary provider is one line: name, base URL, variables of the key, variables of the base URL, quirks. The rows
//! are built-in defaults of a world that drifts; configuration overrides any of it for a single deployment.

use super::{
    Auth, Cloud, Dialect, FOREIGN, Family, Inside, KeyNeed, Language, Metadata, ModelQuirks, Path, Provider, Quirks,
    StreamUsage,
};
use crate::pattern;
use actix_web::http::Uri;
use std::cmp::Reverse;

/// A host of other vendors' models: it wants `max_tokens`, knows no `developer` role and answers once.
const HOST: Quirks = Quirks { rename: &[("max_completion_tokens", "max_tokens")], ..RESELLER };

/// A host that hands calls on to several vendors, OpenAI among them. Both spellings of the token limit pass as they
/// came: OpenAI's reasoning models behind it refuse `max_tokens`.
const RESELLER: Quirks = Quirks { developer_role: false, many_choices: false, ..Quirks::NONE };

/// As [`HOST`], and must not be sent `stream_options`.
const HOST_UNASKED: Quirks = Quirks { stream_usage: StreamUsage::Unasked, ..HOST };

/// As [`HOST`], and serves `n` greater than 1.
const HOST_MANY: Quirks = Quirks { many_choices: true, ..HOST };

/// Mistral's own API, which refuses members it does not know.
const MISTRAL: Quirks = Quirks {
    unsupported: &["user", "logprobs", "top_logprobs", "logit_bias"],
    rename: &[("max_completion_tokens", "max_tokens"), ("seed", "random_seed")],
    values: &[("tool_choice", r#""required""#, r#""any""#)],
    inside: Inside {
        no_keywords: &["$id", "$schema", "additionalProperties", "strict"],
        named_roles: &["tool"],
        short_ids: true,
        marks_prefix: true,
        ..Inside::PLAIN
    },
    content_parts: true,
    ..HOST_UNASKED
};

/// Schemas are hints there, and what would make them more is refused.
const NO_STRICT: Inside = Inside { no_keywords: &["strict"], ..Inside::PLAIN };

/// Texts only, whoever speaks.
const TEXTS: Inside = Inside { text_roles: &["system", "developer", "user", "assistant", "tool"], ..Inside::PLAIN };

const ZAI: Quirks = Quirks {
    unsupported: &["presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "seed", "user"],
    refused_values: &[("tool_choice", "required"), ("tool_choice", "none"), ("tool_choice", "function")],
    ..HOST
};

const OPENAI: Quirks = Quirks { models: OPENAI_REASONING, metadata: Metadata::WhenStored, ..Quirks::NONE };

/// OpenAI's models behind someone else's door, in company: the other models there want `max_tokens`.
const GITHUB: Quirks = Quirks {
    developer_role: false,
    models: &[
        ModelQuirks { patterns: &["openai/gpt-5.*"], unsupported: &[], rename: NEW_LIMIT },
        ModelQuirks { patterns: &["openai/gpt-5-chat*", "openai/gpt-4*"], unsupported: &[], rename: &[] },
        ModelQuirks {
            patterns: &["openai/o1*", "openai/o3*", "openai/o4*", "openai/gpt-5*"],
            unsupported: SAMPLING,
            rename: NEW_LIMIT,
        },
        ModelQuirks { patterns: &["*"], unsupported: &[], rename: HOST.rename },
    ],
    ..Quirks::NONE
};

/// The escape hatches: what the client sent, its `metadata` too. OpenAI itself is sent none: it refuses `metadata` from
/// whoever does not also ask it to `store`.
const AS_SENT: Quirks = Quirks { metadata: Metadata::Theirs, ..Quirks::NONE };

/// Spoken to in its own language; what its models take of OpenAI's parameters is the translation's to know.
const ANTHROPIC: Quirks = Quirks {
    language: Language::Anthropic,
    headers: &[("anthropic-version", "2023-06-01")],
    metadata: Metadata::Theirs,
    base_path: "/v1",
    stream_usage: StreamUsage::Unasked,
    ..Quirks::NONE
};

/// A language of its own: what of OpenAI's parameters its models take is the translation's to know.
const OWN_LANGUAGE: Quirks = Quirks { metadata: Metadata::Theirs, stream_usage: StreamUsage::Unasked, ..Quirks::NONE };

const COHERE: Quirks = Quirks { language: Language::Cohere, base_path: "/v2", ..OWN_LANGUAGE };

/// Texts in, text out.
const REPLICATE: Quirks = Quirks {
    language: Language::Replicate,
    base_path: "/v1",
    unsupported: &["tools", "tool_choice", "functions", "function_call"],
    inside: TEXTS,
    ..OWN_LANGUAGE
};

/// Audio alone. What goes into their queries and forms is told by the translation.
const DEEPGRAM: Quirks = Quirks { language: Language::Deepgram, base_path: "/v1", ..OWN_LANGUAGE };

const ELEVENLABS: Quirks = Quirks { language: Language::ElevenLabs, ..OWN_LANGUAGE };

const OLLAMA: Quirks = Quirks { language: Language::Ollama, ..OWN_LANGUAGE };

const BEDROCK: Quirks = Quirks { language: Language::Bedrock, cloud: Some(Cloud::Aws), ..OWN_LANGUAGE };

/// Google's own models, and those of others, each by the API of its vendor or by OpenAI's.
const VERTEX: Quirks = Quirks {
    language: Language::Gemini,
    path: Path::Behind("publishers/google/"),
    families: &[
        Family {
            patterns: &["claude-*", "anthropic/claude-*"],
            dialect: Dialect {
                language: Language::Anthropic,
                path: Path::VertexRaw("anthropic"),
                auth: Auth::Bearer,
                headers: &[],
            },
        },
        Family {
            patterns: &["mistral-*", "codestral-*"],
            dialect: Dialect {
                language: Language::OpenAi,
                path: Path::VertexRaw("mistralai"),
                auth: Auth::Bearer,
                headers: &[],
            },
        },
        Family {
            patterns: &["meta/*", "deepseek-ai/*", "qwen/*", "openai/*", "moonshotai/*", "minimaxai/*", "zai-org/*"],
            dialect: Dialect {
                language: Language::OpenAi,
                path: Path::Behind("endpoints/openapi/"),
                auth: Auth::Bearer,
                headers: &[],
            },
        },
    ],
    cloud: Some(Cloud::Google),
    ..OWN_LANGUAGE
};

/// OpenAI's own models behind Azure's door. `user` and the rest are theirs; the name of a deployment says nothing about its
/// model, which `base_model` does.
const AZURE: Quirks = Quirks {
    path: Path::AzureDeployment,
    cloud: Some(Cloud::Azure),
    models: OPENAI_REASONING,
    metadata: Metadata::WhenStored,
    ..Quirks::NONE
};

const AZURE_AI: Quirks = Quirks {
    cloud: Some(Cloud::AzureAi),
    families: &[Family {
        patterns: &["claude-*"],
        dialect: Dialect {
            language: Language::Anthropic,
            path: Path::Behind("anthropic/v1/"),
            auth: Auth::Header("x-api-key"),
            headers: &[("anthropic-version", "2023-06-01")],
        },
    }],
    ..HOST
};

const WATSONX: Quirks = Quirks {
    path: Path::Watsonx,
    cloud: Some(Cloud::Ibm),
    unsupported: &["user", "parallel_tool_calls", "logit_bias"],
    ..HOST_UNASKED
};

/// What of several vendors stands behind the endpoints of a workspace.
const DATABRICKS: Quirks = Quirks {
    path: Path::Invocations,
    cloud: Some(Cloud::Databricks),
    unsupported: &["presence_penalty", "frequency_penalty", "seed", "logprobs", "top_logprobs", "parallel_tool_calls"],
    content_parts: true,
    ..HOST_UNASKED
};

/// OpenCode's: each family of models in the language of its vendor, with the same key.
const ZEN: Quirks = Quirks {
    families: &[
        Family {
            patterns: &["claude-*"],
            dialect: Dialect {
                language: Language::Anthropic,
                path: Path::OWN,
                auth: Auth::Header("x-api-key"),
                headers: &[("anthropic-version", "2023-06-01")],
            },
        },
        Family {
            patterns: &["gemini-*"],
            dialect: Dialect {
                language: Language::Gemini,
                path: Path::OWN,
                auth: Auth::Header("x-goog-api-key"),
                headers: &[],
            },
        },
    ],
    ..RESELLER
};

const GEMINI: Quirks = Quirks { language: Language::Gemini, base_path: "/v1beta", ..OWN_LANGUAGE };

const NEW_LIMIT: &[(&str, &str)] = &[("max_tokens", "max_completion_tokens")];

/// What a model that reasons does not let the caller choose.
const SAMPLING: &[&str] =
    &["temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"];

/// OpenAI's models that reason. The first rule that fits holds, so the exceptions come first: `gpt-5-chat` does not
/// reason, and from gpt-5.1 on sampling is allowed where the effort is `none`, which is also the default of several of
/// these models. Only OpenAI knows which, so its own answer decides there.
const OPENAI_REASONING: &[ModelQuirks] = &[
    ModelQuirks { patterns: &["gpt-5-chat*"], unsupported: &[], rename: &[] },
    ModelQuirks { patterns: &["gpt-5.*"], unsupported: &[], rename: NEW_LIMIT },
    ModelQuirks { patterns: &["o1*", "o3*", "o4*", "gpt-5*", "ft:o4-*"], unsupported: SAMPLING, rename: NEW_LIMIT },
];

const XAI_MODELS: &[ModelQuirks] = &[
    ModelQuirks {
        patterns: &["grok-4*", "grok-code*"],
        unsupported: &["stop", "presence_penalty", "frequency_penalty"],
        rename: &[],
    },
    ModelQuirks { patterns: &["grok-3-mini*"], unsupported: &["stop"], rename: &[] },
];

const KIMI_THINKING: &[&str] = &["kimi-thinking*", "kimi-k2-thinking*", "kimi-k2.5*", "kimi-k2.6*"];

/// These refuse any temperature but the one that fits their mode, which is the default.
const MOONSHOT_MODELS: &[ModelQuirks] =
    &[ModelQuirks { patterns: KIMI_THINKING, unsupported: &["temperature"], rename: &[] }];

const SONAR: &[ModelQuirks] = &[ModelQuirks {
    patterns: &["sonar*"],
    unsupported: &["tools", "tool_choice", "parallel_tool_calls", "stop", "logprobs", "top_logprobs", "seed"],
    rename: &[],
}];

/// A provider on the internet, whose key is required.
const fn hosted(
    name: &'static str,
    base_url: &'static str,
    key_env: &'static [&'static str],
    base_env: &'static [&'static str],
    quirks: Quirks,
) -> Provider {
    Provider {
        name,
        synonyms: &[],
        base_url: Some(base_url),
        key_env,
        base_env,
        auth: Auth::Bearer,
        key: KeyNeed::Required,
        quirks,
    }
}

/// A server of the operator's own, which usually asks for no key.
const fn local(
    name: &'static str,
    base_url: &'static str,
    key_env: &'static [&'static str],
    base_env: &'static [&'static str],
    quirks: Quirks,
) -> Provider {
    Provider { key: KeyNeed::Optional, ..hosted(name, base_url, key_env, base_env, quirks) }
}

/// Every OpenAI-compatible provider. Where two rows share a base URL, the earlier is the one that the URL means.
#[rustfmt::skip]
pub static PROVIDERS: &[Provider] = &[
    // OpenAI, and the escape hatches, which pass on what the client sent.
    hosted("openai", "https://api.openai.com/v1", &["OPENAI_API_KEY"], &["OPENAI_BASE_URL", "OPENAI_API_BASE"], OPENAI),
    hosted("text-completion-openai", "https://api.openai.com/v1", &["OPENAI_API_KEY"], &["OPENAI_BASE_URL", "OPENAI_API_BASE"], Quirks::NONE),
    Provider { base_url: None, synonyms: &["custom_openai"], ..local("openai_like", "", &[], &[], AS_SENT) },
    Provider { base_url: None, ..local("litellm_proxy", "", &["LITELLM_PROXY_API_KEY"], &["LITELLM_PROXY_API_BASE"], AS_SENT) },

    // Its own language.
    Provider { auth: Auth::Anthropic, ..hosted("anthropic", "https://api.anthropic.com/v1", &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"], &["ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"], ANTHROPIC) },

    Provider { synonyms: &["cohere"], ..hosted("cohere_chat", "https://api.cohere.com/v2", &["COHERE_API_KEY", "CO_API_KEY"], &["COHERE_API_BASE"], COHERE) },
    Provider { synonyms: &["bedrock_converse"], base_url: None, ..local("bedrock", "", &["AWS_BEARER_TOKEN_BEDROCK"], &["AWS_BEDROCK_RUNTIME_ENDPOINT"], BEDROCK) },
    Provider { synonyms: &["vertex_ai_beta"], base_url: None, auth: Auth::Header("x-goog-api-key"), ..local("vertex_ai", "", &["VERTEXAI_API_KEY"], &["VERTEXAI_API_BASE"], VERTEX) },
    Provider { synonyms: &["azure_text"], base_url: None, auth: Auth::Header("api-key"), ..local("azure", "", &["AZURE_API_KEY", "AZURE_OPENAI_API_KEY"], &["AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"], AZURE) },
    Provider { base_url: None, ..local("azure_ai", "", &["AZURE_AI_API_KEY"], &["AZURE_AI_API_BASE"], AZURE_AI) },
    Provider { base_url: None, ..local("watsonx", "", &["WATSONX_TOKEN"], &["WATSONX_API_BASE", "WATSONX_URL"], WATSONX) },
    Provider { auth: Auth::Header("x-goog-api-key"), ..hosted("gemini", "https://generativelanguage.googleapis.com/v1beta", &["GEMINI_API_KEY", "GOOGLE_API_KEY"], &["GEMINI_API_BASE"], GEMINI) },

    hosted("replicate", "https://api.replicate.com/v1", &["REPLICATE_API_KEY", "REPLICATE_API_TOKEN"], &["REPLICATE_API_BASE"], REPLICATE),
    Provider { auth: Auth::Scheme("Token"), ..hosted("deepgram", "https://api.deepgram.com/v1", &["DEEPGRAM_API_KEY"], &["DEEPGRAM_API_BASE"], DEEPGRAM) },
    Provider { auth: Auth::Header("xi-api-key"), ..hosted("elevenlabs", "https://api.elevenlabs.io", &["ELEVENLABS_API_KEY"], &["ELEVENLABS_API_BASE"], ELEVENLABS) },

    // Hosted.
    // Embeddings and reranking alone.
    hosted("voyage", "https://api.voyageai.com/v1", &["VOYAGE_API_KEY", "VOYAGE_AI_API_KEY"], &["VOYAGE_API_BASE"], HOST),
    hosted("jina_ai", "https://api.jina.ai/v1", &["JINA_AI_API_KEY", "JINA_API_KEY"], &["JINA_AI_API_BASE"], HOST),
    hosted("mistral", "https://api.mistral.ai/v1", &["MISTRAL_API_KEY"], &["MISTRAL_API_BASE"], MISTRAL),
    hosted("codestral", "https://codestral.mistral.ai/v1", &["CODESTRAL_API_KEY"], &[], MISTRAL),
    hosted("groq", "https://api.groq.com/openai/v1", &["GROQ_API_KEY"], &["GROQ_API_BASE"], Quirks {
        unsupported: &["logprobs", "top_logprobs", "logit_bias"],
        inside: Inside { no_nulls: true, ..Inside::PLAIN },
        ..HOST
    }),
    hosted("deepseek", "https://api.deepseek.com", &["DEEPSEEK_API_KEY"], &["DEEPSEEK_API_BASE"], Quirks {
        inside: Inside { recalls: &["deepseek-reasoner*"], ..TEXTS },
        ..HOST
    }),
    hosted("xai", "https://api.x.ai/v1", &["XAI_API_KEY"], &["XAI_API_BASE"], Quirks {
        models: XAI_MODELS,
        inside: Inside { named_roles: &["user"], ..NO_STRICT },
        ..HOST_MANY
    }),
    hosted("together_ai", "https://api.together.ai/v1", &["TOGETHER_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_API_KEY"], &[], HOST_MANY),
    // `usage` asks for the true cost; the title is how OpenRouter names the calling application.
    hosted("openrouter", "https://openrouter.ai/api/v1", &["OPENROUTER_API_KEY", "OR_API_KEY"], &["OPENROUTER_API_BASE"], Quirks {
        values: &[("reasoning_effort", r#""max""#, r#""xhigh""#)],
        force: &[("usage", r#"{"include":true}"#)],
        headers: &[("x-title", "Gateway")],
        ..RESELLER
    }),
    hosted("perplexity", "https://api.perplexity.ai", &["PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"], &[], Quirks { models: SONAR, ..HOST_UNASKED }),
    hosted("fireworks_ai", "https://api.fireworks.ai/inference/v1", &["FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"], &["FIREWORKS_API_BASE"], Quirks {
        values: &[("tool_choice", r#""required""#, r#""any""#)],
        model_prefix: "accounts/fireworks/models/",
        inside: NO_STRICT,
        ..HOST_MANY
    }),
    hosted("cerebras", "https://api.cerebras.ai/v1", &["CEREBRAS_API_KEY"], &["CEREBRAS_API_BASE"], Quirks { unsupported: &["presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs"], ..HOST_UNASKED }),
    hosted("nvidia_nim", "https://integrate.api.nvidia.com/v1", &["NVIDIA_NIM_API_KEY", "NVIDIA_API_KEY"], &["NVIDIA_NIM_API_BASE"], HOST_UNASKED),
    hosted("sambanova", "https://api.sambanova.ai/v1", &["SAMBANOVA_API_KEY"], &[], Quirks {
        unsupported: &["presence_penalty", "frequency_penalty", "seed", "logprobs", "top_logprobs"],
        inside: Inside { text_roles: &["tool"], ..Inside::PLAIN },
        ..HOST
    }),
    Provider { synonyms: &["ai21_chat"], ..hosted("ai21", "https://api.ai21.com/studio/v1", &["AI21_API_KEY"], &["AI21_API_BASE"], Quirks { unsupported: &["presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "parallel_tool_calls"], ..HOST_UNASKED }) },
    hosted("deepinfra", "https://api.deepinfra.com/v1/openai", &["DEEPINFRA_API_KEY"], &["DEEPINFRA_API_BASE"], Quirks {
        many_choices: true,
        refused_values: &[("tool_choice", "required"), ("tool_choice", "function")],
        ..HOST_UNASKED
    }),
    hosted("github", "https://models.github.ai/inference", &["GITHUB_API_KEY", "GITHUB_TOKEN"], &[], GITHUB),
    // The token of the device flow is the operator's to give; without the name of an editor it is refused.
    hosted("github_copilot", "https://api.githubcopilot.com", &[], &[], Quirks {
        headers: &[("editor-version", concat!("gateway/", env!("CARGO_PKG_VERSION"))), ("copilot-integration-id", "vscode-chat")],
        developer_role: false,
        cloud: Some(Cloud::GithubCopilot),
        ..OPENAI
    }),
    Provider { base_url: None, ..local("databricks", "", &["DATABRICKS_API_KEY", "DATABRICKS_TOKEN"], &["DATABRICKS_API_BASE", "DATABRICKS_HOST"], DATABRICKS) },
    hosted("huggingface", "https://router.huggingface.co/v1", &["HF_TOKEN", "HUGGINGFACE_API_KEY"], &["HF_API_BASE"], HOST),
    Provider { synonyms: &["qwencloud", "qwen_ai_platform"], ..hosted("dashscope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", &["DASHSCOPE_API_KEY"], &["DASHSCOPE_API_BASE"], HOST) },
    hosted("moonshot", "https://api.moonshot.ai/v1", &["MOONSHOT_API_KEY"], &["MOONSHOT_API_BASE"], Quirks {
        models: MOONSHOT_MODELS,
        refused_values: &[("tool_choice", "required")],
        inside: Inside { recalls: KIMI_THINKING, ..Inside::PLAIN },
        ..HOST_MANY
    }),
    hosted("zai", "https://api.z.ai/api/paas/v4", &["ZAI_API_KEY"], &["ZAI_API_BASE"], ZAI),
    // No base variable: the one of its sister would send the mainland's models abroad.
    hosted("bigmodel", "https://open.bigmodel.cn/api/paas/v4", &["ZAI_API_KEY"], &[], ZAI),
    hosted("minimax", "https://api.minimax.io/v1", &["MINIMAX_API_KEY"], &["MINIMAX_API_BASE"], HOST),
    hosted("volcengine", "https://ark.cn-beijing.volces.com/api/v3", &["ARK_API_KEY", "VOLCENGINE_API_KEY"], &[], HOST),
    hosted("tencent", "https://tokenhub-intl.tencentcloudmaas.com/v1", &["TENCENT_API_KEY"], &[], HOST),
    hosted("modelscope", "https://api-inference.modelscope.cn/v1", &["MODELSCOPE_API_KEY"], &[], HOST),
    hosted("xiaomi_mimo", "https://api.xiaomimimo.com/v1", &["XIAOMI_MIMO_API_KEY"], &[], HOST),
    hosted("novita", "https://api.novita.ai/v3/openai", &["NOVITA_API_KEY"], &[], HOST),
    hosted("nebius", "https://api.studio.nebius.ai/v1", &["NEBIUS_API_KEY"], &[], HOST),
    hosted("hyperbolic", "https://api.hyperbolic.xyz/v1", &["HYPERBOLIC_API_KEY"], &[], HOST_UNASKED),
    hosted("lambda_ai", "https://api.lambda.ai/v1", &["LAMBDA_API_KEY"], &[], HOST),
    hosted("featherless_ai", "https://api.featherless.ai/v1", &["FEATHERLESS_AI_API_KEY"], &[], HOST_UNASKED),
    hosted("nscale", "https://inference.api.nscale.com/v1", &["NSCALE_API_KEY"], &[], HOST_UNASKED),
    hosted("friendliai", "https://api.friendli.ai/serverless/v1", &["FRIENDLI_TOKEN", "FRIENDLIAI_API_KEY"], &[], HOST),
    hosted("baseten", "https://inference.baseten.co/v1", &["BASETEN_API_KEY"], &[], HOST),
    hosted("meta_llama", "https://api.llama.com/compat/v1", &["LLAMA_API_KEY"], &[], HOST),
    hosted("vercel_ai_gateway", "https://ai-gateway.vercel.sh/v1", &["AI_GATEWAY_API_KEY", "VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"], &[], RESELLER),
    hosted("opencode", "https://opencode.ai/zen/v1", &["OPENCODE_API_KEY", "OPENCODE_ZEN_API_KEY"], &[], ZEN),
    hosted("opencode_go", "https://opencode.ai/zen/go/v1", &["OPENCODE_GO_API_KEY", "OPENCODE_API_KEY"], &[], ZEN),
    hosted("aiml", "https://api.aimlapi.com/v1", &["AIML_API_KEY", "AIMLAPI_KEY"], &[], RESELLER),
    hosted("cometapi", "https://api.cometapi.com/v1", &["COMETAPI_KEY", "COMETAPI_API_KEY"], &[], RESELLER),
    hosted("aihubmix", "https://aihubmix.com/v1", &["AIHUBMIX_API_KEY"], &[], RESELLER),
    hosted("edenai", "https://api.edenai.run/v3", &["EDENAI_API_KEY"], &[], RESELLER),
    hosted("v0", "https://api.v0.dev/v1", &["V0_API_KEY"], &[], Quirks {
        unsupported: &[
            "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "presence_penalty", "frequency_penalty",
            "logit_bias", "logprobs", "top_logprobs", "response_format", "parallel_tool_calls", "reasoning_effort", "user",
        ],
        rename: &[],
        ..HOST_UNASKED
    }),
    hosted("morph", "https://api.morphllm.com/v1", &["MORPH_API_KEY"], &[], HOST),
    hosted("inception", "https://api.inceptionlabs.ai/v1", &["INCEPTION_API_KEY"], &[], Quirks { unsupported: &["presence_penalty", "frequency_penalty", "seed", "top_p"], ..HOST }),
    hosted("wandb", "https://api.inference.wandb.ai/v1", &["WANDB_API_KEY"], &[], HOST),
    // Serves a trickle to anyone.
    Provider { key: KeyNeed::Optional, ..hosted("ovhcloud", "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1", &["OVHCLOUD_API_KEY"], &[], HOST) },
    hosted("scaleway", "https://api.scaleway.ai/v1", &["SCW_SECRET_KEY"], &[], HOST),
    hosted("gradient_ai", "https://inference.do-ai.run/v1", &["GRADIENT_AI_API_KEY"], &[], HOST),
    hosted("heroku", "https://us.inference.heroku.com/v1", &["HEROKU_API_KEY"], &["HEROKU_API_BASE"], Quirks { base_path: "/v1", ..HOST }),
    hosted("clarifai", "https://api.clarifai.com/v2/ext/openai/v1", &["CLARIFAI_API_KEY", "CLARIFAI_PAT"], &[], HOST),
    hosted("datarobot", "https://app.datarobot.com/api/v2/genai/llmgw", &["DATAROBOT_API_TOKEN"], &["DATAROBOT_ENDPOINT"], HOST),
    hosted("amazon_nova", "https://api.nova.amazon.com/v1", &["AMAZON_NOVA_API_KEY"], &[], Quirks { unsupported: &["presence_penalty", "frequency_penalty", "seed"], ..HOST }),
    hosted("bedrock_mantle", "https://bedrock-mantle.{AWS_REGION_NAME}.api.aws/v1", &["BEDROCK_MANTLE_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"], &[], HOST),
    hosted("compactifai", "https://api.compactif.ai/v1", &["COMPACTIFAI_API_KEY"], &[], HOST),
    hosted("publicai", "https://api.publicai.co/v1", &["PUBLICAI_API_KEY"], &[], Quirks { inside: TEXTS, ..HOST }),
    hosted("helicone", "https://ai-gateway.helicone.ai", &["HELICONE_API_KEY"], &[], RESELLER),
    Provider { synonyms: &["veniceai"], ..hosted("venice", "https://api.venice.ai/api/v1", &["VENICE_AI_API_KEY"], &[], HOST) },
    hosted("synthetic", "https://api.synthetic.new/openai/v1", &["SYNTHETIC_API_KEY"], &[], HOST),
    hosted("nano-gpt", "https://nano-gpt.com/api/v1", &["NANOGPT_API_KEY"], &[], HOST),
    hosted("poe", "https://api.poe.com/v1", &["POE_API_KEY"], &[], HOST),
    hosted("chutes", "https://llm.chutes.ai/v1", &["CHUTES_API_KEY"], &[], HOST),
    hosted("gmi", "https://api.gmi-serving.com/v1", &["GMI_API_KEY"], &[], HOST),
    hosted("parasail", "https://api.parasail.io/v1", &["PARASAIL_API_KEY"], &[], Quirks { force: &[("store", "false")], ..HOST }),
    hosted("crusoe", "https://api.inference.crusoecloud.com/v1", &["CRUSOE_API_KEY"], &[], HOST),
    Provider { auth: Auth::Header("api-subscription-key"), ..hosted("sarvam", "https://api.sarvam.ai/v1", &["SARVAM_API_KEY"], &[], HOST) },
    hosted("assemblyai", "https://llm-gateway.assemblyai.com/v1", &["ASSEMBLYAI_API_KEY"], &[], HOST),
    hosted("reka", "https://api.reka.ai/v1", &["REKA_API_KEY"], &[], HOST),
    hosted("cognition", "https://api.cognition.ai/v1", &["COGNITION_API_KEY"], &[], HOST),
    hosted("cortecs", "https://api.cortecs.ai/v1", &["CORTECS_API_KEY"], &[], RESELLER),
    hosted("apertis", "https://api.stima.tech/v1", &["STIMA_API_KEY"], &[], HOST),
    hosted("anyscale", "https://api.endpoints.anyscale.com/v1", &["ANYSCALE_API_KEY"], &[], HOST),
    hosted("galadriel", "https://api.galadriel.com/v1", &["GALADRIEL_API_KEY"], &[], HOST),

    // Clouds with an address per account.
    hosted("cloudflare", "https://api.cloudflare.com/client/v4/accounts/{CLOUDFLARE_ACCOUNT_ID}/ai/v1", &["CLOUDFLARE_API_KEY"], &[], HOST),
    // The header that names the kind of token is left out: Snowflake tells a key-pair JWT from an access token by itself.
    hosted("snowflake", "https://{SNOWFLAKE_ACCOUNT_ID}.snowflakecomputing.com/api/v2/cortex/v1", &["SNOWFLAKE_JWT"], &[], RESELLER),

    // Small resellers and hosts.
    hosted("abliteration", "https://api.abliteration.ai/v1", &["ABLITERATION_API_KEY"], &["ABLITERATION_API_BASE"], RESELLER),
    hosted("aiand", "https://api.aiand.com/v1", &["AIAND_API_KEY"], &["AIAND_API_BASE"], RESELLER),
    hosted("charity_engine", "https://api.charityengine.services/remotejobs/v2/inference", &["CHARITY_ENGINE_API_KEY"], &["CHARITY_ENGINE_API_BASE"], HOST),
    hosted("coralbricks", "https://inference.coralbricks.ai/v1", &["CORALBRICKS_API_KEY"], &["CORALBRICKS_API_BASE"], RESELLER),
    hosted("darkbloom", "https://api.darkbloom.dev/v1", &["DARKBLOOM_API_KEY"], &["DARKBLOOM_API_BASE"], HOST),
    hosted("empiriolabs", "https://api.empiriolabs.ai/v1", &["EMPIRIOLABS_API_KEY"], &["EMPIRIOLABS_API_BASE"], HOST),
    hosted("empower", "https://app.empower.dev/api/v1", &["EMPOWER_API_KEY"], &["EMPOWER_API_BASE"], RESELLER),
    hosted("hostinger_router", "https://router.hostinger.com/v1", &["HOSTINGER_ROUTER_API_KEY"], &["HOSTINGER_ROUTER_API_BASE"], RESELLER),
    hosted("inferenceapis", "https://api.inferenceapis.com/v1", &["INFERENCEAPIS_API_KEY"], &["INFERENCEAPIS_API_BASE"], RESELLER),
    hosted("kyma", "https://kymaapi.com/v1", &["KYMA_API_KEY"], &["KYMA_API_BASE"], RESELLER),
    hosted("libertai", "https://api.libertai.io/v1", &["LIBERTAI_API_KEY"], &["LIBERTAI_API_BASE"], HOST),
    hosted("llamagate", "https://api.llamagate.dev/v1", &["LLAMAGATE_API_KEY"], &["LLAMAGATE_API_BASE"], HOST),
    hosted("meta", "https://api.meta.ai/v1", &["META_API_KEY"], &["META_API_BASE"], RESELLER),
    hosted("neosantara", "https://api.neosantara.xyz/v1", &["NEOSANTARA_API_KEY"], &["NEOSANTARA_API_BASE"], HOST),
    hosted("openinfer", "https://api.openinfer.ai/v1", &["OPENINFER_API_KEY"], &["OPENINFER_API_BASE"], RESELLER),
    hosted("pinstripes", "https://pinstripes.io/v1", &["PINSTRIPES_API_KEY"], &["PINSTRIPES_API_BASE"], HOST),
    hosted("prism", "https://api.prisminference.com/v1", &["PRISM_API_KEY"], &["PRISM_API_BASE"], RESELLER),
    hosted("refuseless", "https://api.refuseless.com/v1", &["REFUSELESS_API_KEY"], &["REFUSELESS_API_BASE"], RESELLER),
    hosted("sail", "https://api.sailresearch.com/v1", &["SAIL_API_KEY"], &["SAIL_API_BASE"], RESELLER),
    // Its temperature ends just below OpenAI's.
    hosted("scx-ai", "https://api.scx.ai/v1", &["SCX_API_KEY"], &["SCX_API_BASE"], Quirks { values: &[("temperature", "2", "1.99"), ("temperature", "2.0", "1.99")], ..HOST }),
    hosted("streamlake", "https://vanchin.streamlake.ai/api/gateway/v1/endpoints", &["STREAMLAKE_API_KEY"], &["STREAMLAKE_API_BASE"], Quirks { rename: NEW_LIMIT, ..HOST }),
    hosted("tensormesh", "https://serverless.tensormesh.ai/v1", &["TENSORMESH_INFERENCE_API_KEY"], &["TENSORMESH_INFERENCE_API_BASE"], HOST),
    hosted("zerogpu", "https://api.zerogpu.ai/v1", &["ZEROGPU_API_KEY"], &["ZEROGPU_API_BASE"], RESELLER),

    // Self-hosted.
    Provider { base_url: None, synonyms: &["vllm"], ..local("hosted_vllm", "", &["HOSTED_VLLM_API_KEY"], &["HOSTED_VLLM_API_BASE"], Quirks { inside: Inside { no_keywords: &["strict", "additionalProperties"], ..Inside::PLAIN }, ..HOST_MANY }) },
    local("lm_studio", "http://localhost:1234/v1", &["LM_STUDIO_API_KEY"], &["LM_STUDIO_API_BASE"], Quirks { refused_values: &[("response_format", "json_object")], ..HOST }),
    local("llamafile", "http://127.0.0.1:8080/v1", &["LLAMAFILE_API_KEY"], &["LLAMAFILE_API_BASE"], HOST),
    local("llama_cpp", "http://localhost:8080/v1", &[], &[], HOST),
    Provider { synonyms: &["ollama_chat"], ..local("ollama", "http://localhost:11434", &["OLLAMA_API_KEY"], &["OLLAMA_API_BASE"], OLLAMA) },
    Provider { base_url: None, ..local("infinity", "", &["INFINITY_API_KEY"], &["INFINITY_API_BASE"], HOST) },
    local("localai", "http://localhost:8080/v1", &["LOCALAI_API_KEY"], &[], HOST),
    local("xinference", "http://127.0.0.1:9997/v1", &["XINFERENCE_API_KEY"], &["XINFERENCE_API_BASE"], HOST),
    local("docker_model_runner", "http://localhost:12434/engines/llama.cpp/v1", &[], &[], HOST),
    local("lemonade", "http://localhost:8000/api/v1", &["LEMONADE_API_KEY"], &[], HOST),
    local("sglang", "http://localhost:30000/v1", &[], &[], HOST_MANY),
    local("tgi", "http://localhost:8080/v1", &[], &[], HOST),
    local("lmdeploy", "http://localhost:23333/v1", &[], &[], HOST),
    local("koboldcpp", "http://localhost:5001/v1", &[], &[], HOST),
    local("tabbyapi", "http://localhost:5000/v1", &[], &[], HOST),
    Provider { synonyms: &["oobabooga"], ..local("text-generation-webui", "http://localhost:5000/v1", &[], &[], HOST) },
];

/// Further addresses at which a provider serves the same API to the same keys, with the provider's name.
const OTHER_URLS: &[(&str, &str)] = &[
    ("https://api.together.xyz/v1", "together_ai"),
    ("https://models.inference.ai.azure.com", "github"),
    ("https://dashscope.aliyuncs.com/compatible-mode/v1", "dashscope"),
    ("https://api.moonshot.cn/v1", "moonshot"),
    ("https://api.minimaxi.com/v1", "minimax"),
    ("https://api.tokenfactory.nebius.com/v1", "nebius"),
    ("https://opencode.ai/inference/openai/v1", "opencode"),
    ("https://opencode.ai/inference/go/openai/v1", "opencode_go"),
    ("http://model-runner.docker.internal/engines/llama.cpp/v1", "docker_model_runner"),
];

/// The provider of exactly this name or synonym.
#[must_use]
pub fn find(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name || provider.synonyms.contains(&name))
}

/// Where a model of its own address stands, and what it is called there: Baseten's dedicated deployments have eight
/// letters and digits for a name, and a host of their own; at Hugging Face's router the host of a model that LiteLLM
/// writes in front of it, `novita/org/model`, stands behind it.
#[must_use]
pub fn place(provider: &Provider, model: &str) -> (Option<String>, Option<String>) {
    let parts: Vec<&str> = model.split('/').collect();
    match (provider.name, &parts[..]) {
        ("baseten", [id]) if id.len() == 8 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) => {
            (Some(format!("https://model-{id}.api.baseten.co/environments/production/sync/v1")), None)
        }
        ("huggingface", [host, org, name]) if !name.contains(':') => (None, Some(format!("{org}/{name}:{host}"))),
        _ => (None, None),
    }
}

/// The provider that is known to listen at `url`: scheme, host and port are the same, and its path is the beginning of
/// the URL's, whole segments only. The longest such path wins.
///
/// A key follows from the answer, so whatever is not plainly the provider's own address is `None`: a URL that does not
/// parse, one that carries credentials, and any host that only looks like a known one.
#[must_use]
pub fn by_base_url(url: &str) -> Option<&'static Provider> {
    let given: Uri = url.parse().ok()?;
    if given.authority()?.as_str().contains('@') {
        return None;
    }
    let own = PROVIDERS.iter().filter_map(|provider| Some((provider.base_url?, provider)));
    let other = OTHER_URLS.iter().filter_map(|&(url, name)| Some((url, find(name)?)));
    own.chain(other)
        .filter_map(|(base, provider)| Some((covered_segments(&base.parse().ok()?, &given)?, provider)))
        .min_by_key(|&(depth, _)| Reverse(depth))
        .map(|(_, provider)| provider)
}

/// The provider name most like `name`, served or only known, for an error message; `None` where nothing comes near.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    pattern::nearest(name, PROVIDERS.iter().flat_map(names).chain(FOREIGN.iter().copied()))
}

fn names(provider: &Provider) -> impl Iterator<Item = &'static str> {
    std::iter::once(provider.name).chain(provider.synonyms.iter().copied())
}

/// How many path segments of `base` the address `given` repeats; `None` where it does not lie below `base`.
///
/// A base whose host has a `{NAME}` part is no URI and never gets here: whose host that is cannot be told from the URL.
fn covered_segments(base: &Uri, given: &Uri) -> Option<usize> {
    let same_place = base.scheme() == given.scheme()
        && base.host()?.eq_ignore_ascii_case(given.host()?)
        && port(base) == port(given);
    let mut rest = segments(given);
    let below = segments(base).all(|part| rest.next().is_some_and(|other| part == other || is_placeholder(part)));
    (same_place && below).then(|| segments(base).count())
}

fn segments(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.path().split('/').filter(|segment| !segment.is_empty())
}

fn is_placeholder(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}')
}

/// The port that a connection would go to.
fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn name_at(url: &str) -> Option<&'static str> {
        by_base_url(url).map(|provider| provider.name)
    }

    #[test]
    fn names_and_synonyms_are_unique_and_lower_case() {
        let mut seen = HashSet::new();
        for name in PROVIDERS.iter().flat_map(names) {
            assert!(seen.insert(name), "{name} occurs twice");
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
            assert!(!name.is_empty() && name.chars().all(plain), "{name:?}");
        }
    }

    #[test]
    fn every_row_of_the_reference_is_here() {
        // Hosted (zai and bigmodel are two, the two escape hatches one), clouds, small ones, servers (the agent
        // frameworks, which serve no plain chat, are left out).
        assert!(PROVIDERS.len() >= 78 + 2 + 23 + 15, "{} rows", PROVIDERS.len());
    }

    #[test]
    fn base_urls_are_https_or_loopback_and_end_without_a_slash() {
        let urls = PROVIDERS.iter().filter_map(|p| p.base_url).chain(OTHER_URLS.iter().map(|&(url, _)| url));
        for url in urls {
            let near = ["http://localhost:", "http://127.0.0.1:", "http://model-runner.docker.internal/"];
            assert!(url.starts_with("https://") || near.iter().any(|start| url.starts_with(start)), "{url}");
            assert!(!url.ends_with('/') && !url.contains(char::is_whitespace), "{url}");
        }
    }

    #[test]
    fn only_local_rows_and_escape_hatches_go_without_a_base_url_or_a_key() {
        for provider in PROVIDERS {
            let name = provider.name;
            if provider.base_url.is_none() {
                let open = ["openai_like", "litellm_proxy", "databricks", "hosted_vllm", "infinity"].contains(&name);
                assert!(open || provider.quirks.cloud.is_some(), "{name}");
            }
            if provider.base_url.is_some_and(|url| url.starts_with("http://")) {
                assert_eq!(provider.key, KeyNeed::Optional, "{name}");
            }
            if provider.key == KeyNeed::Required && name != "github_copilot" {
                assert!(!provider.key_env.is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn variables_are_spelt_as_variables() {
        for provider in PROVIDERS {
            for variable in provider.key_env.iter().chain(provider.base_env) {
                let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
                assert!(!variable.is_empty() && variable.chars().all(plain), "{}: {variable:?}", provider.name);
            }
        }
    }

    #[test]
    fn quirks_hold_no_empty_text_and_no_broken_json() {
        for Provider { name, quirks, .. } in PROVIDERS {
            let rules = quirks.models;
            let unsupported = quirks.unsupported.iter().chain(rules.iter().flat_map(|rule| rule.unsupported));
            assert!(unsupported.into_iter().all(|member| !member.is_empty()), "{name}");
            for (from, to) in quirks.rename.iter().chain(rules.iter().flat_map(|rule| rule.rename)) {
                assert!(!from.is_empty() && !to.is_empty() && from != to, "{name}");
            }
            for (member, from, to) in quirks.values {
                assert!(!member.is_empty() && from != to, "{name}");
                assert!(is_json(from) && is_json(to), "{name}: {from} {to}");
            }
            for (member, value) in quirks.force {
                assert!(!member.is_empty() && is_json(value), "{name}: {value}");
            }
            for (header, value) in quirks.headers {
                assert!(!value.is_empty() && header.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            }
            assert!(rules.iter().all(|rule| !rule.patterns.is_empty()), "{name}");
            for pattern in rules.iter().flat_map(|rule| rule.patterns) {
                assert!(!pattern.is_empty() && pattern.matches('*').count() <= 1, "{name}: {pattern}");
            }
        }
    }

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<serde_json::Value>(text).is_ok()
    }

    #[test]
    fn a_member_is_never_refused_and_renamed_at_once() {
        for Provider { name, quirks, .. } in PROVIDERS {
            for (from, to) in quirks.rename {
                assert!(!quirks.unsupported.contains(from) && !quirks.unsupported.contains(to), "{name}");
                assert!(quirks.rename.iter().all(|(other, _)| other != to), "{name} renames in a circle");
            }
            for rule in quirks.models {
                for (from, to) in rule.rename {
                    assert!(!quirks.rename.contains(&(to, from)), "{name} renames {from} back and forth");
                }
            }
        }
    }

    #[test]
    fn only_openai_and_the_escape_hatches_know_the_developer_role() {
        let spoken = PROVIDERS.iter().filter(|p| p.quirks.language == Language::OpenAi);
        let knowing: Vec<_> = spoken.filter(|p| p.quirks.developer_role).map(|p| p.name).collect();
        assert_eq!(knowing, ["openai", "text-completion-openai", "openai_like", "litellm_proxy", "azure"]);
    }

    #[test]
    fn openais_reasoning_models_choose_for_themselves() {
        let rule = |provider: &str, model: &str| {
            let quirks = &find(provider).unwrap().quirks;
            let fits = |rule: &&ModelQuirks| rule.patterns.iter().any(|p| pattern::capture(p, model).is_some());
            quirks
                .models
                .iter()
                .find(fits)
                .map(|rule| (rule.unsupported.contains(&"temperature"), rule.rename == NEW_LIMIT))
        };
        for model in ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-mini", "gpt-5-2025-08-07"] {
            assert_eq!(rule("openai", model), Some((true, true)), "{model}");
            assert_eq!(rule("github", &format!("openai/{model}")), Some((true, true)), "{model}");
        }
        for model in ["gpt-5.1", "gpt-5.2-chat-latest", "gpt-5.1-codex"] {
            assert_eq!(rule("openai", model), Some((false, true)), "{model}");
        }
        assert_eq!(rule("openai", "gpt-5-chat-latest"), Some((false, false)));
        assert_eq!(rule("openai", "gpt-4o"), None);
        assert_eq!(rule("github", "openai/gpt-4o"), Some((false, false)));
    }

    #[test]
    fn a_provider_is_found_by_its_exact_name_or_synonym() {
        assert_eq!(find("groq").map(|p| p.name), Some("groq"));
        assert_eq!(find("custom_openai").map(|p| p.name), Some("openai_like"));
        assert_eq!(find("veniceai").map(|p| p.name), Some("venice"));
        for name in ["Groq", "groq/", "", "gro", "unknown"] {
            assert!(find(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn models_of_their_own_address_are_found_there() {
        let place = |provider: &str, model: &str| place(find(provider).unwrap(), model);
        let (base, model) = place("baseten", "abcd1234");
        assert_eq!(base.as_deref(), Some("https://model-abcd1234.api.baseten.co/environments/production/sync/v1"));
        assert_eq!(model, None);
        assert_eq!(place("baseten", "deepseek-ai/DeepSeek-V3"), (None, None));
        assert_eq!(place("huggingface", "novita/org/m"), (None, Some("org/m:novita".to_owned())));
        assert_eq!(place("huggingface", "org/m:novita"), (None, None));
        assert_eq!(place("openai", "abcd1234"), (None, None));
    }

    #[test]
    fn every_base_url_leads_back_to_its_provider_or_to_an_earlier_row() {
        for provider in PROVIDERS {
            let Some(base) = provider.base_url.filter(|base| !base.contains("//{") && !base.contains(".{")) else {
                continue;
            };
            let found = by_base_url(&format!("{base}/chat/completions")).unwrap();
            assert_eq!(found.base_url, provider.base_url, "{}", provider.name);
        }
        for (url, name) in OTHER_URLS {
            assert_eq!(name_at(url), Some(*name));
        }
    }

    #[test]
    fn a_base_url_is_compared_by_parts() {
        assert_eq!(name_at("https://api.groq.com/openai/v1"), Some("groq"));
        assert_eq!(name_at("https://API.GROQ.com:443/openai/v1/"), Some("groq"));
        assert_eq!(name_at("HTTPS://api.groq.com/openai/v1/chat/completions?x=1"), Some("groq"));
        assert_eq!(name_at("https://api.deepseek.com/beta"), Some("deepseek"));
        assert_eq!(name_at("https://api.openai.com/v1"), Some("openai"));
        assert_eq!(name_at("http://localhost:1234/v1"), Some("lm_studio"));
        assert_eq!(name_at("https://api.cloudflare.com/client/v4/accounts/0a1b/ai/v1"), Some("cloudflare"));
    }

    #[test]
    fn a_lookalike_gets_nobodys_key() {
        let lookalikes = [
            "https://evil.example/api.groq.com/openai/v1",
            "https://evil.example/?u=https://api.groq.com/openai/v1",
            "https://api.groq.com@evil.example/openai/v1",
            "https://api.groq.com:443@evil.example/openai/v1",
            "https://api.groq.com%40evil.example/openai/v1",
            "https://api.groq.com\\@evil.example/openai/v1",
            "https://user:pass@api.groq.com/openai/v1",
            "https://api.groq.com.evil.example/openai/v1",
            "https://evil-api.groq.com/openai/v1",
            "https://api.groq.com./openai/v1",
            "https://api.groq.com:8443/openai/v1",
            "http://api.groq.com/openai/v1",
            "http://api.groq.com:443/openai/v1",
            "ftp://api.groq.com/openai/v1",
            "//api.groq.com/openai/v1",
            "api.groq.com/openai/v1",
            "https://api.groq.com/openai/v1x",
            "https://api.groq.com/openai",
            "https://api.groq.com",
            "https://api.groq.com/x/openai/v1",
            "https://\u{430}pi.groq.com/openai/v1",
            " https://api.groq.com/openai/v1",
            "https://api.cloudflare.com/client/v4/accounts/ai/v1",
            "https://evil.snowflakecomputing.com/api/v2/cortex/v1",
            "https://bedrock-mantle.evil.api.aws/v1",
            "http://localhost/v1",
            "",
        ];
        for url in lookalikes {
            assert_eq!(name_at(url), None, "{url:?}");
        }
    }

    #[test]
    fn the_longest_path_wins() {
        let at = |base: &str, url: &str| covered_segments(&base.parse().unwrap(), &url.parse().unwrap());
        assert_eq!(at("https://opencode.ai/zen/v1", "https://opencode.ai/zen/v1/models"), Some(2));
        assert_eq!(at("https://opencode.ai/zen/go/v1", "https://opencode.ai/zen/go/v1"), Some(3));
        assert_eq!(at("https://opencode.ai/zen/v1", "https://opencode.ai/zen/go/v1"), None);
        assert_eq!(at("https://api.perplexity.ai", "https://api.perplexity.ai/chat/completions"), Some(0));
        assert_eq!(name_at("https://opencode.ai/inference/go/openai/v1"), Some("opencode_go"));
    }

    #[test]
    fn the_nearest_name_is_a_slip_away_or_none() {
        assert_eq!(nearest("grok"), Some("groq"));
        assert_eq!(nearest("OpenAI"), Some("openai"));
        assert_eq!(nearest("together"), Some("together_ai"));
        assert_eq!(nearest("lmstudio"), Some("lm_studio"));
        assert_eq!(nearest("mistal"), Some("mistral"));
        assert_eq!(nearest("open-router"), Some("openrouter"));
        assert_eq!(nearest("antropic"), Some("anthropic"));
        for name in ["", "x", "banana", "my-local-llm"] {
            assert_eq!(nearest(name), None, "{name:?}");
        }
    }
}

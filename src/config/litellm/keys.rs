//! Every LiteLLM setting we know, and what becomes of it: one flat table, which `docs/litellm.md` explains.
//!
//! A key may hold `*` at either end, or within, for any text.

/// What becomes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It means the same here.
    Carried,
    /// Known, without effect for now: the reason, shown as a warning.
    NotYet(&'static str),
    /// Known, never to be served: the reason, shown as a warning.
    Refused(&'static str),
    /// Nothing is lost without it: the reason, shown in the documentation alone.
    NoNeed(&'static str),
}

use Fate::{Carried, NoNeed, NotYet, Refused};

pub const TOP: &str = "";
pub const ENTRY: &str = "model_list[]";
pub const PARAMS: &str = "model_list[].litellm_params";
pub const INFO: &str = "model_list[].model_info";
pub const ROUTER: &str = "router_settings";
pub const LITELLM: &str = "litellm_settings";
pub const CACHE: &str = "litellm_settings.cache_params";
pub const GENERAL: &str = "general_settings";
pub const MCP: &str = "mcp_servers.*";

const END_USERS: &str =
    "a budget for all end users is not looked up by its id: write `max_end_user_budget`, or give it to each customer";
const CACHING: &str = "response caching is not served yet";
const CALLBACKS: &str = "callbacks and exporters are not served yet";
const REDIS: &str = "keys are remembered by each gateway itself";
const STORE: &str =
    "the pool is set by `connection_limit` and `pool_timeout` in database_url; models can always be stored";
const LEDGER: &str = "the ledger keeps failures always";
const CRON: &str =
    "what is too old is taken away at an interval, in small steps: set maximum_spend_logs_retention_interval";
const USERS: &str = "settings of callbacks by team are not served yet";
const ALERTS: &str = "alerts are not served yet";
const TAGS: &str = "routing by tags is not served yet";
const MCP_OWN: &str = "callers bring no credentials of their own, unless `extra_headers` of a server names the header";
const MCP_RANGES: &str =
    "where a caller comes from makes no difference yet: whoever holds the key sees what it is granted";
const MCP_SIGN_IN: &str = "the gateway signs in by itself, with client_id and client_secret at token_url";
const SSO: &str = "sign-in by JWT, OAuth or single sign-on is not served yet";
const ADDRESSES: &str =
    "lists of addresses and routes are not served yet: whoever holds the key may call from anywhere";
const FORCED: &str = "a model forced on a route is not served yet: the model of the request counts";
const FORWARD: &str = "headers of the caller are not sent upstream yet";
const VAULT: &str =
    "secret managers are not served yet: use `os.environ/NAME` with an env file or a systemd credential";
const PYTHON: &str = "it names Python code, which this gateway does not run";
const AZURE: &str = "of Azure's credentials, keys, tokens, Entra applications and managed identities are served";
const AWS: &str = "of AWS's settings, region, keys, profile, role, web identity and endpoints are served";
const VERTEX: &str = "of Vertex AI's settings, project, location and credentials are served";
const GUARDRAILS: &str = "guardrails are not served yet";
const SHOWN: &str = "shown in the model's facts, but without effect yet";
const MEMBER: &str = "it belongs to a request, not to a deployment; it is not sent upstream";

/// Section, key, fate.
pub const KEYS: &[(&str, &str, Fate)] = &[
    (TOP, "model_list", Carried),
    (TOP, "litellm_settings", Carried),
    (TOP, "general_settings", Carried),
    (TOP, "router_settings", Carried),
    (TOP, "environment_variables", Carried),
    (TOP, "include", Carried),
    (TOP, "mcp_servers", Carried),
    (TOP, "mcp_tools", Refused("tools of Python code are not run here; give them a server of their own")),
    (TOP, "credential_list", Carried),
    (TOP, "guardrails", NotYet(GUARDRAILS)),
    (TOP, "prompts", NotYet("stored prompts are not served yet")),
    (TOP, "search_tools", NotYet("search tools are not served yet")),
    (TOP, "vector_store_registry", NotYet("vector stores are not served yet")),
    (TOP, "callback_settings", NotYet(CALLBACKS)),
    (TOP, "files_settings", NotYet("files and batches go to the accounts of the configured models")),
    (TOP, "finetune_settings", NotYet("the fine-tuning endpoint is not served yet")),
    (ENTRY, "model_name", Carried),
    (ENTRY, "litellm_params", Carried),
    (ENTRY, "model_info", Carried),
    (PARAMS, "model", Carried),
    (PARAMS, "custom_llm_provider", Carried),
    (PARAMS, "api_key", Carried),
    (PARAMS, "api_base", Carried),
    (PARAMS, "base_url", Carried),
    (PARAMS, "organization", Carried),
    (PARAMS, "timeout", Carried),
    (PARAMS, "stream_timeout", Carried),
    (PARAMS, "drop_params", Carried),
    (PARAMS, "additional_drop_params", Carried),
    (PARAMS, "allowed_openai_params", Carried),
    (PARAMS, "extra_headers", Carried),
    (PARAMS, "extra_body", Carried),
    (PARAMS, "rust", NoNeed("this gateway is written in Rust already")),
    (PARAMS, "litellm_credential_name", Carried),
    (PARAMS, "api_version", Carried),
    (PARAMS, "azure_ad_token", Carried),
    (PARAMS, "azure_scope", Carried),
    (PARAMS, "tenant_id", Carried),
    (PARAMS, "client_id", Carried),
    (PARAMS, "client_secret", Carried),
    (PARAMS, "aws_region_name", Carried),
    (PARAMS, "region_name", Carried),
    (PARAMS, "aws_access_key_id", Carried),
    (PARAMS, "aws_secret_access_key", Carried),
    (PARAMS, "aws_session_token", Carried),
    (PARAMS, "aws_profile_name", Carried),
    (PARAMS, "aws_role_name", Carried),
    (PARAMS, "aws_session_name", Carried),
    (PARAMS, "aws_external_id", Carried),
    (PARAMS, "aws_web_identity_token", Carried),
    (PARAMS, "aws_sts_endpoint", Carried),
    (PARAMS, "aws_bedrock_runtime_endpoint", Carried),
    (PARAMS, "vertex_project", Carried),
    (PARAMS, "vertex_ai_project", Carried),
    (PARAMS, "vertex_location", Carried),
    (PARAMS, "vertex_ai_location", Carried),
    (PARAMS, "vertex_credentials", Carried),
    (PARAMS, "vertex_ai_credentials", Carried),
    (PARAMS, "azure_*", NotYet(AZURE)),
    (PARAMS, "aws_*", NotYet(AWS)),
    (PARAMS, "vertex_*", NotYet(VERTEX)),
    (PARAMS, "headers", NotYet("write `extra_headers`")),
    (PARAMS, "rpm", Carried),
    (PARAMS, "tpm", Carried),
    (PARAMS, "weight", Carried),
    (PARAMS, "order", Carried),
    (PARAMS, "max_parallel_requests", Carried),
    (PARAMS, "num_retries", Carried),
    (PARAMS, "max_retries", Carried),
    (PARAMS, "cooldown_time", Carried),
    (PARAMS, "fallbacks", Carried),
    (PARAMS, "context_window_fallback_dict", NotYet("write `context_window_fallbacks` in router_settings")),
    (PARAMS, "tags", Carried),
    (PARAMS, "*_cost_per_*", Carried),
    (PARAMS, "*_token_cost", Carried),
    (PARAMS, "*_token_cost_above_*", Carried),
    (PARAMS, "max_budget", Carried),
    (PARAMS, "budget_duration", Carried),
    (PARAMS, "guardrails", NotYet(GUARDRAILS)),
    (PARAMS, "cache", NotYet(CACHING)),
    (PARAMS, "caching", NotYet(CACHING)),
    (PARAMS, "ttl", NotYet(CACHING)),
    (PARAMS, "mock_response", Carried),
    (PARAMS, "mock_tool_calls", Carried),
    (PARAMS, "mock_delay", Carried),
    (PARAMS, "mock_timeout", Carried),
    (PARAMS, "merge_reasoning_content_in_choices", NotYet("reasoning stays where the upstream puts it")),
    (PARAMS, "use_chat_completions_api", NotYet("a choice between Responses and chat upstream is not served yet")),
    (PARAMS, "use_in_pass_through", NoNeed("the accounts of all models serve the providers' own paths")),
    (
        PARAMS,
        "configurable_clientside_auth_params",
        NotYet("keys and addresses given by the caller are not served yet"),
    ),
    (
        PARAMS,
        "ssl_verify",
        Refused("certificates are always checked; name your own authority with `ca_file` in gateway.toml"),
    ),
    (PARAMS, "messages", Refused(MEMBER)),
    (PARAMS, "stream", Refused(MEMBER)),
    (INFO, "id", Carried),
    (INFO, "mode", Carried),
    (INFO, "max_input_tokens", Carried),
    (INFO, "max_output_tokens", Carried),
    (INFO, "max_tokens", Carried),
    (INFO, "supports_*", Carried),
    (INFO, "base_model", Carried),
    (INFO, "*_cost_per_*", Carried),
    (INFO, "*_token_cost", Carried),
    (INFO, "*_token_cost_above_*", Carried),
    (INFO, "access_groups", Carried),
    (INFO, "health_check_model", Carried),
    (INFO, "health_check_timeout", Carried),
    (INFO, "health_check_max_tokens", Carried),
    (INFO, "disable_background_health_check", Carried),
    (INFO, "supported_environments", NotYet(SHOWN)),
    (INFO, "team_id", NotYet(SHOWN)),
    (ROUTER, "timeout", Carried),
    (ROUTER, "stream_timeout", Carried),
    (ROUTER, "routing_strategy", Carried),
    (ROUTER, "routing_strategy_args", Carried),
    (ROUTER, "num_retries", Carried),
    (ROUTER, "retry_after", Carried),
    (ROUTER, "retry_policy", Carried),
    (ROUTER, "model_group_retry_policy", Carried),
    (ROUTER, "allowed_fails", Carried),
    (ROUTER, "allowed_fails_policy", Carried),
    (ROUTER, "cooldown_time", Carried),
    (ROUTER, "disable_cooldowns", Carried),
    (ROUTER, "fallbacks", Carried),
    (ROUTER, "context_window_fallbacks", Carried),
    (ROUTER, "content_policy_fallbacks", Carried),
    (ROUTER, "default_fallbacks", Carried),
    (ROUTER, "max_fallbacks", Carried),
    (ROUTER, "model_group_alias", Carried),
    (ROUTER, "enable_pre_call_checks", Carried),
    (ROUTER, "optional_pre_call_checks", Carried),
    (ROUTER, "enable_tag_filtering", Carried),
    (ROUTER, "tag_filtering_match_any", Carried),
    (ROUTER, "provider_budget_config", Carried),
    (ROUTER, "default_max_parallel_requests", Carried),
    (ROUTER, "default_litellm_params", Carried),
    (ROUTER, "default_priority", Carried),
    (ROUTER, "polling_interval", NoNeed("who waits in the queue is called, and does not poll")),
    (ROUTER, "cache_responses", NotYet(CACHING)),
    (ROUTER, "cache_kwargs", NotYet(CACHING)),
    (ROUTER, "caching_groups", NotYet(CACHING)),
    (ROUTER, "client_ttl", NoNeed("connections upstream are kept by the gateway itself")),
    (ROUTER, "debug_level", NoNeed("one log level for all: `[log]`")),
    (ROUTER, "set_verbose", NoNeed("one log level for all: `[log]`")),
    (ROUTER, "enable_health_check_routing", Carried),
    (ROUTER, "health_check_staleness_threshold", NoNeed("a check counts for three of its intervals")),
    (ROUTER, "health_check_ignore_transient_errors", NotYet("each failed check counts")),
    (ROUTER, "redis_host", Carried),
    (ROUTER, "redis_port", Carried),
    (ROUTER, "redis_password", Carried),
    (ROUTER, "redis_db", Carried),
    (ROUTER, "redis_url", Carried),
    (LITELLM, "drop_params", Carried),
    (LITELLM, "request_timeout", Carried),
    (LITELLM, "json_logs", Carried),
    (LITELLM, "check_provider_endpoint", Carried),
    (LITELLM, "database_url", Carried),
    (LITELLM, "set_verbose", NoNeed("deprecated there; the log level is in `[log]`")),
    (LITELLM, "suppress_debug_info", NoNeed("nothing is printed beside the log")),
    (LITELLM, "telemetry", NoNeed("this gateway reports to nobody")),
    (
        LITELLM,
        "modify_params",
        NotYet("requests are not repaired yet: what a provider does not take is refused or dropped"),
    ),
    (LITELLM, "num_retries", Carried),
    (LITELLM, "fallbacks", Carried),
    (LITELLM, "context_window_fallbacks", Carried),
    (LITELLM, "content_policy_fallbacks", Carried),
    (LITELLM, "default_fallbacks", Carried),
    (LITELLM, "allowed_fails", Carried),
    (LITELLM, "cache", NotYet(CACHING)),
    (LITELLM, "cache_params", NotYet(CACHING)),
    (LITELLM, "enable_redis_auth_cache", NotYet(REDIS)),
    (LITELLM, "callbacks", NotYet(CALLBACKS)),
    (LITELLM, "success_callback", NotYet(CALLBACKS)),
    (LITELLM, "failure_callback", NotYet(CALLBACKS)),
    (LITELLM, "service_callbacks", NotYet(CALLBACKS)),
    (LITELLM, "langfuse_default_tags", NotYet(CALLBACKS)),
    (LITELLM, "turn_off_message_logging", Carried),
    (LITELLM, "redact_user_api_key_info", NoNeed("keys are never logged")),
    (LITELLM, "max_budget", Carried),
    (LITELLM, "budget_duration", Carried),
    (LITELLM, "max_internal_user_budget", Carried),
    (LITELLM, "max_end_user_budget", Carried),
    (LITELLM, "tag_budget_config", Carried),
    (LITELLM, "max_end_user_budget_id", NotYet(END_USERS)),
    (LITELLM, "internal_user_budget_duration", Carried),
    (LITELLM, "timezone", Carried),
    (LITELLM, "disable_end_user_cost_tracking", NotYet("costs of end users are not kept yet")),
    (LITELLM, "cost_discount_config", NotYet("discounts are not applied yet")),
    (LITELLM, "cost_margin_config", NotYet("margins are not applied yet")),
    (LITELLM, "default_key_generate_params", Carried),
    (LITELLM, "upperbound_key_generate_params", Carried),
    (LITELLM, "key_generation_settings", Carried),
    (LITELLM, "default_internal_user_params", Carried),
    (LITELLM, "default_team_settings", NotYet(USERS)),
    (LITELLM, "public_model_groups", NotYet("a public list of models is not served yet")),
    (LITELLM, "mcp_aliases", Carried),
    (LITELLM, "guardrails", NotYet(GUARDRAILS)),
    (LITELLM, "enable_json_schema_validation", NotYet("answers are not checked against the caller's schema yet")),
    (LITELLM, "force_ipv4", NotYet("the choice of an address family is not served yet")),
    (
        LITELLM,
        "ssl_verify",
        Refused("certificates are always checked; name your own authority with `ca_file` in gateway.toml"),
    ),
    (LITELLM, "network_mock", Refused("an aid for testing LiteLLM itself; `gateway demo` answers without any network")),
    (LITELLM, "custom_provider_map", Refused(PYTHON)),
    (CACHE, "type", NotYet(CACHING)),
    (CACHE, "host", NotYet(CACHING)),
    (CACHE, "port", NotYet(CACHING)),
    (CACHE, "password", NotYet(CACHING)),
    (CACHE, "username", NotYet(CACHING)),
    (CACHE, "url", NotYet(CACHING)),
    (CACHE, "db", NotYet(CACHING)),
    (CACHE, "ssl", NotYet(CACHING)),
    (CACHE, "ssl_*", NotYet(CACHING)),
    (CACHE, "namespace", NotYet(CACHING)),
    (CACHE, "max_connections", NotYet(CACHING)),
    (CACHE, "redis_startup_nodes", NotYet(CACHING)),
    (CACHE, "sentinel_nodes", NotYet(CACHING)),
    (CACHE, "sentinel_password", NotYet(CACHING)),
    (CACHE, "service_name", NotYet(CACHING)),
    (CACHE, "ttl", NotYet(CACHING)),
    (CACHE, "default_in_memory_ttl", NotYet(CACHING)),
    (CACHE, "default_in_redis_ttl", NotYet(CACHING)),
    (CACHE, "mode", NotYet(CACHING)),
    (CACHE, "supported_call_types", NotYet(CACHING)),
    (CACHE, "similarity_threshold", NotYet(CACHING)),
    (CACHE, "disk_cache_dir", NotYet(CACHING)),
    (CACHE, "redis_*", NotYet(CACHING)),
    (CACHE, "qdrant_*", NotYet(CACHING)),
    (CACHE, "s3_*", NotYet(CACHING)),
    (CACHE, "gcs_*", NotYet(CACHING)),
    (CACHE, "gcp_*", NotYet(CACHING)),
    (GENERAL, "master_key", Carried),
    (GENERAL, "database_url", Carried),
    (GENERAL, "litellm_key_header_name", Carried),
    (GENERAL, "max_request_size_mb", Carried),
    (GENERAL, "max_response_size_mb", Carried),
    (GENERAL, "max_budget", Carried),
    (GENERAL, "budget_duration", Carried),
    (GENERAL, "database_connection_pool_limit", NotYet(STORE)),
    (GENERAL, "database_connection_timeout", NotYet(STORE)),
    (GENERAL, "store_model_in_db", NoNeed("models can always be stored")),
    (GENERAL, "supported_db_objects", NotYet(STORE)),
    (GENERAL, "allow_requests_on_db_unavailable", Carried),
    (GENERAL, "disable_prisma_schema_update", NoNeed("there is no Prisma")),
    (GENERAL, "disable_spend_logs", Carried),
    (GENERAL, "disable_spend_updates", Carried),
    (GENERAL, "disable_error_logs", NotYet(LEDGER)),
    (GENERAL, "store_prompts_in_spend_logs", Carried),
    (GENERAL, "maximum_spend_logs_retention_period", Carried),
    (GENERAL, "maximum_spend_logs_retention_interval", Carried),
    (GENERAL, "maximum_spend_logs_cleanup_cron", NotYet(CRON)),
    (GENERAL, "spend_report_frequency", NotYet(ALERTS)),
    (GENERAL, "proxy_batch_write_at", NoNeed("the ledger writes spend as it happens, in batches of its own")),
    (GENERAL, "proxy_budget_rescheduler_min_time", NoNeed("budgets begin anew on time, without a scheduler")),
    (GENERAL, "proxy_budget_rescheduler_max_time", NoNeed("budgets begin anew on time, without a scheduler")),
    (GENERAL, "user_api_key_cache_ttl", Carried),
    (GENERAL, "use_redis_transaction_buffer", NoNeed("the ledger keeps a spool on disk")),
    (GENERAL, "disable_master_key_return", NoNeed("the master key is never shown")),
    (GENERAL, "max_parallel_requests", Carried),
    (GENERAL, "global_max_parallel_requests", Carried),
    (GENERAL, "token_rate_limit_type", Carried),
    (GENERAL, "dangerously_allow_mock_testing_request_params", Carried),
    (GENERAL, "background_health_checks", Carried),
    (GENERAL, "health_check_interval", Carried),
    (GENERAL, "health_check_concurrency", Carried),
    (GENERAL, "health_check_details", NotYet("GET /health always gives the details")),
    (GENERAL, "alerting", NotYet(ALERTS)),
    (GENERAL, "alerting_threshold", NotYet(ALERTS)),
    (GENERAL, "alerting_args", NotYet(ALERTS)),
    (GENERAL, "alert_types", NotYet(ALERTS)),
    (GENERAL, "alert_to_webhook_url", NotYet(ALERTS)),
    (GENERAL, "enforce_user_param", NotYet("required request members are not served yet")),
    (GENERAL, "enforced_params", NotYet("required request members are not served yet")),
    (GENERAL, "reject_clientside_metadata_tags", NotYet(TAGS)),
    (GENERAL, "forward_client_headers_to_llm_api", NotYet(FORWARD)),
    (GENERAL, "forward_openai_org_id", NotYet(FORWARD)),
    (GENERAL, "user_header_name", Carried),
    (GENERAL, "user_header_mappings", Carried),
    (GENERAL, "allowed_ips", NotYet(ADDRESSES)),
    (GENERAL, "allowed_routes", NotYet(ADDRESSES)),
    (GENERAL, "public_routes", NotYet(ADDRESSES)),
    (GENERAL, "admin_only_routes", NotYet(ADDRESSES)),
    (GENERAL, "use_x_forwarded_for", Carried),
    (GENERAL, "enable_jwt_auth", NotYet(SSO)),
    (GENERAL, "litellm_jwtauth", NotYet(SSO)),
    (GENERAL, "enable_oauth2_auth", NotYet(SSO)),
    (GENERAL, "enable_oauth2_proxy_auth", NotYet(SSO)),
    (GENERAL, "oauth2_config_mappings", NotYet(SSO)),
    (GENERAL, "auto_redirect_ui_login_to_sso", NotYet(SSO)),
    (GENERAL, "ui_access_mode", NotYet("the admin UI is not served yet")),
    (GENERAL, "custom_auth", Refused(PYTHON)),
    (GENERAL, "custom_sso", Refused(PYTHON)),
    (GENERAL, "custom_key_generate", Refused(PYTHON)),
    (GENERAL, "litellm_license", NoNeed("nothing here needs a license")),
    (GENERAL, "completion_model", NotYet(FORCED)),
    (GENERAL, "embedding_model", NotYet(FORCED)),
    (GENERAL, "image_generation_model", NotYet(FORCED)),
    (GENERAL, "moderation_model", NotYet(FORCED)),
    (
        GENERAL,
        "infer_model_from_keys",
        NotYet("models are not made up from the keys found; write them down, or a wildcard"),
    ),
    (GENERAL, "allow_client_side_credentials", NotYet("keys and addresses given by the caller are not served yet")),
    (GENERAL, "pass_through_endpoints", Carried),
    (GENERAL, "mcp_client_side_auth_header_name", Refused(MCP_OWN)),
    (GENERAL, "mcp_internal_ip_ranges", NotYet(MCP_RANGES)),
    (GENERAL, "mcp_trusted_proxy_ranges", NotYet(MCP_RANGES)),
    (
        GENERAL,
        "user_mcp_management_mode",
        NoNeed("a server is seen by those whom it is granted, and by administrators"),
    ),
    (GENERAL, "enable_mcp_registry", NotYet("the public registry of MCP servers is not served yet")),
    (GENERAL, "key_management_system", NotYet(VAULT)),
    (GENERAL, "key_management_settings", NotYet(VAULT)),
    (GENERAL, "use_azure_key_vault", NotYet(VAULT)),
    (GENERAL, "use_google_kms", NotYet(VAULT)),
    (MCP, "url", Carried),
    (MCP, "command", Carried),
    (MCP, "args", Carried),
    (MCP, "env", Carried),
    (MCP, "transport", Carried),
    (MCP, "auth_type", Carried),
    (MCP, "auth_value", Carried),
    (MCP, "authentication_token", Carried),
    (MCP, "client_id", Carried),
    (MCP, "client_secret", Carried),
    (MCP, "scopes", Carried),
    (MCP, "token_url", Carried),
    (MCP, "static_headers", Carried),
    (MCP, "extra_headers", Carried),
    (MCP, "alias", Carried),
    (MCP, "description", Carried),
    (MCP, "instructions", Carried),
    (MCP, "allowed_tools", Carried),
    (MCP, "disallowed_tools", Carried),
    (MCP, "allowed_params", Carried),
    (MCP, "access_groups", Carried),
    (MCP, "allow_all_keys", Carried),
    (MCP, "mcp_info", Carried),
    (MCP, "tool_name_to_display_name", Carried),
    (MCP, "tool_name_to_description", Carried),
    (MCP, "timeout", Carried),
    (MCP, "authorization_url", NoNeed(MCP_SIGN_IN)),
    (MCP, "registration_url", NoNeed(MCP_SIGN_IN)),
    (MCP, "spec_path", NotYet("servers made of an OpenAPI document are not served yet")),
    (MCP, "aws_*", NotYet("MCP servers signed for AWS are not served yet")),
    (MCP, "available_on_public_internet", NotYet(MCP_RANGES)),
    (MCP, "server_id", NoNeed("the name is the id of a server of the configuration")),
];

/// Settings that are on unless told otherwise: there `false` says something, elsewhere it is what is so anyway.
pub const ON_BY_DEFAULT: &[&str] = &["health_check_details", "tag_filtering_match_any"];

/// Members of a chat request that may be given in `litellm_params` as defaults, beside any other.
const MEMBERS: &[&str] = &[
    "audio",
    "best_of",
    "cache_prompt",
    "chat_template_kwargs",
    "enable_thinking",
    "frequency_penalty",
    "function_call",
    "functions",
    "guided_json",
    "include_reasoning",
    "input_type",
    "keep_alive",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "min_p",
    "modalities",
    "n",
    "num_ctx",
    "num_predict",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "provider",
    "reasoning",
    "reasoning_effort",
    "repeat_penalty",
    "repetition_penalty",
    "response_format",
    "safety_identifier",
    "safety_settings",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream_options",
    "temperature",
    "think",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "transforms",
    "user",
    "verbosity",
    "web_search_options",
];

/// What becomes of a key; `None` if it is not known in that section.
pub fn fate(section: &str, key: &str) -> Option<Fate> {
    KEYS.iter().find(|(s, pattern, _)| *s == section && matches(pattern, key)).map(|(_, _, fate)| *fate)
}

/// Another section in which a key of that name is read, if there is one: settings are easily put a level off.
pub fn home(section: &str, key: &str) -> Option<&'static str> {
    let sections: &[&'static str] =
        if section == ENTRY { &[PARAMS, INFO] } else { &[LITELLM, GENERAL, ROUTER, PARAMS] };
    sections.iter().copied().find(|other| *other != section && KEYS.iter().any(|(s, k, _)| s == other && *k == key))
}

/// The known key of a section that an unknown one was probably meant to be; `None` for a known member of a request.
pub fn nearest(section: &str, key: &str) -> Option<&'static str> {
    let members: &[&str] = if section == PARAMS { MEMBERS } else { &[] };
    if members.contains(&key) {
        return None;
    }
    let allowed = (key.chars().count() / 4).clamp(1, 3);
    KEYS.iter()
        .filter(|(s, k, _)| *s == section && !k.contains('*'))
        .map(|(_, k, _)| *k)
        .chain(members.iter().copied().filter(|name| name.len() > 2))
        .map(|known| (strsim::osa_distance(known, key), known))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, known)| known)
}

fn matches(pattern: &str, key: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| key.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

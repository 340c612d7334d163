//! The route table, and nothing else.

mod address;
pub mod admin;
mod audio;
mod batches;
pub mod body;
mod call;
mod chat;
mod completions;
mod entry;
mod explain;
mod files;
mod form;
mod gemini;
mod health;
mod mcp;
mod messages;
mod models;
mod pass;
mod passage;
mod plain;
mod realtime;
mod reply;
mod responses;
mod spend;
mod stream;
mod tools;
mod utils;
mod wishes;

use actix_web::Route;
use actix_web::guard::{Any, Get, Head};
use actix_web::web::{self, ServiceConfig, post};

/// The routes in the order in which they are tried: calls first.
const CALLS: &[(&str, &str)] = &[
    ("POST", "/v1/chat/completions"),
    ("POST", "/chat/completions"),
    ("POST", "/openai/deployments/{model}/chat/completions"),
    ("POST", "/engines/{model}/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/completions"),
    ("POST", "/openai/deployments/{model}/completions"),
    ("POST", "/engines/{model}/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/embeddings"),
    ("POST", "/openai/deployments/{model}/embeddings"),
    ("POST", "/engines/{model}/embeddings"),
    ("POST", "/v1/rerank"),
    ("POST", "/v2/rerank"),
    ("POST", "/rerank"),
    ("POST", "/v1/moderations"),
    ("POST", "/moderations"),
    ("POST", "/v1/images/generations"),
    ("POST", "/images/generations"),
    ("POST", "/openai/deployments/{model}/images/generations"),
    ("POST", "/v1/images/edits"),
    ("POST", "/images/edits"),
    ("POST", "/openai/deployments/{model}/images/edits"),
    ("POST", "/v1/images/variations"),
    ("POST", "/images/variations"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/audio/transcriptions"),
    ("POST", "/openai/deployments/{model}/audio/transcriptions"),
    ("POST", "/v1/audio/translations"),
    ("POST", "/audio/translations"),
    ("POST", "/openai/deployments/{model}/audio/translations"),
    ("POST", "/v1/audio/speech"),
    ("POST", "/audio/speech"),
    ("POST", "/openai/deployments/{model}/audio/speech"),
    ("POST", "/v1/responses"),
    ("POST", "/responses"),
    ("POST", "/openai/v1/responses"),
    ("GET", "/v1/responses/{id}"),
    ("DELETE", "/v1/responses/{id}"),
    ("GET", "/responses/{id}"),
    ("DELETE", "/responses/{id}"),
    ("GET", "/openai/v1/responses/{id}"),
    ("DELETE", "/openai/v1/responses/{id}"),
    ("GET", "/v1/responses/{id}/input_items"),
    ("GET", "/responses/{id}/input_items"),
    ("GET", "/openai/v1/responses/{id}/input_items"),
    ("POST", "/v1/responses/{id}/cancel"),
    ("POST", "/responses/{id}/cancel"),
    ("POST", "/openai/v1/responses/{id}/cancel"),
    ("GET", "/v1/realtime"),
    ("GET", "/realtime"),
    ("GET", "/openai/realtime"),
    ("GET", "/openai/v1/realtime"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/{id}"),
    ("DELETE", "/v1/files/{id}"),
    ("GET", "/v1/files/{id}/content"),
    ("POST", "/files"),
    ("GET", "/files"),
    ("GET", "/files/{id}"),
    ("DELETE", "/files/{id}"),
    ("GET", "/files/{id}/content"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches"),
    ("GET", "/v1/batches/{id}"),
    ("POST", "/v1/batches/{id}/cancel"),
    ("POST", "/batches"),
    ("GET", "/batches"),
    ("GET", "/batches/{id}"),
    ("POST", "/batches/{id}/cancel"),
    ("POST", "/v1beta/models/{call}"),
    ("GET", "/v1beta/models/{call}"),
    ("GET", "/v1beta/models"),
    ("POST", "/v1/models/{id}"),
    ("POST", "/models/{id}"),
    ("POST", "/v1/messages"),
    ("POST", "/anthropic/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/anthropic/v1/messages/count_tokens"),
    ("POST", "/utils/token_counter"),
    ("POST", "/cost/estimate"),
    ("POST", "/spend/calculate"),
    ("GET", "/v1/models"),
    ("GET", "/models"),
    ("GET", "/v1/models/{id}"),
    ("GET", "/models/{id}"),
    ("GET", "/health/liveliness"),
    ("GET", "/health/liveness"),
    ("GET", "/health/readiness"),
    ("GET", "/health/latest"),
    ("GET", "/health/history"),
    ("GET", "/health/services"),
    ("POST", "/health/test_connection"),
    ("GET", "/health"),
    ("GET", "/model/info"),
    ("GET", "/v1/model/info"),
    ("GET", "/v2/model/info"),
    ("GET", "/model_group/info"),
    ("GET", "/spend/logs"),
    ("GET", "/spend/logs/ui"),
    ("GET", "/spend/logs/v2"),
    ("GET", "/spend/logs/session/ui"),
    ("GET", "/spend/logs/ui/{id}"),
    ("GET", "/spend/keys"),
    ("GET", "/spend/users"),
    ("GET", "/spend/tags"),
    ("GET", "/global/spend"),
    ("GET", "/global/spend/logs"),
    ("GET", "/global/spend/keys"),
    ("GET", "/global/spend/models"),
    ("GET", "/global/spend/provider"),
    ("GET", "/global/spend/end_users"),
    ("GET", "/global/spend/teams"),
    ("GET", "/global/spend/tags"),
    ("GET", "/global/spend/all_tag_names"),
    ("GET", "/global/spend/report"),
    ("POST", "/global/spend/reset"),
    ("GET", "/global/activity"),
    ("GET", "/global/activity/cache_hits"),
    ("GET", "/global/activity/model"),
    ("GET", "/user/daily/activity"),
    ("GET", "/user/daily/activity/aggregated"),
    ("GET", "/team/daily/activity"),
    ("GET", "/team/daily/activity/aggregated"),
    ("GET", "/tag/daily/activity"),
    ("GET", "/tag/daily/activity/aggregated"),
    ("GET", "/customer/daily/activity"),
    ("GET", "/customer/daily/activity/aggregated"),
    ("GET", "/end_user/daily/activity"),
    ("GET", "/end_user/daily/activity/aggregated"),
    ("GET", "/organization/daily/activity"),
    ("GET", "/organization/daily/activity/aggregated"),
    ("GET", "/v1/requests/{id}/explain"),
    ("GET", "/routes"),
    ("GET", "/"),
    ("POST", "/mcp"),
    ("POST", "/mcp/"),
    ("POST", "/mcp/{servers}"),
    ("POST", "/{servers}/mcp"),
    ("GET", "/sse"),
    ("GET", "/mcp/sse"),
    ("POST", "/mcp/sse/messages"),
    ("GET", "/mcp-rest/tools/list"),
    ("POST", "/mcp-rest/tools/call"),
    ("GET", "/v1/mcp/tools"),
    ("GET", "/v1/mcp/access_groups"),
];

/// All routes.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    CALLS.iter().chain(admin::all()).copied()
}

/// Registers every route under `root`, which is empty or `/prefix`.
pub fn routes(config: &mut ServiceConfig, root: &str) {
    let mut serve = |path: &str, route: fn() -> actix_web::Route| {
        // An id may hold slashes: `openai/gpt-4o`.
        let path = path.replace("{id}", "{id:.+}").replace("{model}", "{model:.+}").replace("{call}", "{call:.+}");
        config.service(
            web::resource(format!("{root}{path}")).route(route()).default_service(web::to(reply::wrong_method)),
        );
    };
    for (_, path) in &CALLS[..4] {
        serve(path, || post().to(chat::completions));
    }
    for path in
        ["/v1/completions", "/completions", "/openai/deployments/{model}/completions", "/engines/{model}/completions"]
    {
        serve(path, || post().to(completions::create));
    }
    for path in
        ["/v1/embeddings", "/embeddings", "/openai/deployments/{model}/embeddings", "/engines/{model}/embeddings"]
    {
        serve(path, || post().to(plain::embeddings));
    }
    for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
        serve(path, || post().to(plain::rerank));
    }
    for path in ["/v1/moderations", "/moderations"] {
        serve(path, || post().to(plain::moderations));
    }
    for path in ["/v1/images/generations", "/images/generations", "/openai/deployments/{model}/images/generations"] {
        serve(path, || post().to(plain::images));
    }
    for path in ["/v1/images/edits", "/images/edits", "/openai/deployments/{model}/images/edits"] {
        serve(path, || post().to(plain::image_edits));
    }
    for path in ["/v1/images/variations", "/images/variations"] {
        serve(path, || post().to(plain::image_variations));
    }
    for base in ["/v1/audio", "/audio", "/openai/deployments/{model}/audio"] {
        serve(&format!("{base}/transcriptions"), || post().to(audio::transcriptions));
        serve(&format!("{base}/translations"), || post().to(audio::translations));
        serve(&format!("{base}/speech"), || post().to(audio::speech));
    }
    for path in ["/v1/responses", "/responses", "/openai/v1/responses"] {
        serve(path, || post().to(responses::create));
        serve(&format!("{path}/{{id}}/input_items"), || get().to(responses::input_items));
        serve(&format!("{path}/{{id}}/cancel"), || post().to(responses::cancel));
    }
    serve("/v1beta/models", || get().to(gemini::list));
    for path in ["/v1/messages", "/anthropic/v1/messages"] {
        serve(path, || post().to(messages::create));
        serve(&format!("{path}/count_tokens"), || post().to(messages::count_tokens));
    }
    for path in ["/v1/models", "/models"] {
        serve(path, || get().to(models::list));
    }
    for path in ["/health/liveliness", "/health/liveness"] {
        serve(path, || get().to(health::alive));
    }
    for path in ["/v1/realtime", "/realtime", "/openai/realtime", "/openai/v1/realtime"] {
        serve(path, || get().to(realtime::connect));
    }
    serve("/utils/token_counter", || post().to(utils::token_counter));
    serve("/cost/estimate", || post().to(utils::estimate));
    serve("/spend/calculate", || post().to(utils::calculate));
    serve("/health/readiness", || get().to(health::ready));
    serve("/health/history", || get().to(health::state::history));
    serve("/health/services", || get().to(health::state::services));
    serve("/health/test_connection", || post().to(health::state::test_connection));
    serve("/health/latest", || get().to(health::state::latest));
    serve("/health", || get().to(health::check));
    for path in ["/model/info", "/v1/model/info"] {
        serve(path, || get().to(models::info));
    }
    serve("/v2/model/info", || get().to(models::pages));
    serve("/spend/logs", || get().to(spend::logs::list));
    for path in ["/spend/logs/ui", "/spend/logs/v2", "/spend/logs/session/ui"] {
        serve(path, || get().to(spend::logs::page));
    }
    serve("/spend/logs/ui/{id}", || get().to(spend::logs::one));
    serve("/spend/keys", || get().to(spend::totals::keys));
    serve("/spend/users", || get().to(spend::totals::users));
    for path in ["/spend/tags", "/global/spend/tags"] {
        serve(path, || get().to(spend::totals::tags));
    }
    serve("/global/spend", || get().to(spend::totals::all));
    serve("/global/spend/logs", || get().to(spend::totals::days));
    serve("/global/spend/keys", || get().to(spend::totals::top_keys));
    for path in ["/global/spend/models", "/global/spend/provider", "/global/spend/end_users"] {
        serve(path, || get().to(spend::totals::top));
    }
    serve("/global/spend/teams", || get().to(spend::totals::teams));
    serve("/global/spend/all_tag_names", || get().to(spend::totals::tag_names));
    serve("/global/spend/report", || get().to(spend::totals::report));
    serve("/global/spend/reset", || post().to(spend::totals::reset));
    for path in ["/global/activity", "/global/activity/cache_hits"] {
        serve(path, || get().to(spend::totals::activity));
    }
    serve("/global/activity/model", || get().to(spend::totals::activity_of_models));
    for family in ["user", "team", "tag", "customer", "end_user", "organization"] {
        serve(&format!("/{family}/daily/activity"), || get().to(spend::activity::daily));
        serve(&format!("/{family}/daily/activity/aggregated"), || get().to(spend::activity::daily));
    }
    serve("/model_group/info", || get().to(models::groups));
    serve("/v1/requests/{id}/explain", || get().to(explain::one));
    serve("/routes", || get().to(models::routes));
    serve("/", || get().to(models::welcome));
    admin::routes(&mut serve);
    serve("/mcp-rest/tools/list", || get().to(mcp::rest::list));
    serve("/mcp-rest/tools/call", || post().to(mcp::rest::call));
    serve("/v1/mcp/tools", || get().to(mcp::servers::tools));
    serve("/v1/mcp/access_groups", || get().to(mcp::servers::access_groups));
    for path in ["/sse", "/mcp/sse"] {
        serve(path, || get().to(mcp::sse));
    }
    serve("/mcp/sse/messages", || post().to(mcp::sse_message));
    for path in ["/v1/batches", "/batches"] {
        serve(&format!("{path}/{{id}}/cancel"), || post().to(batches::cancel));
        serve(&format!("{path}/{{id}}"), || get().to(batches::get));
    }
    for path in ["/v1/files", "/files"] {
        serve(&format!("{path}/{{id}}/content"), || get().to(files::content));
    }
    // One path, several methods.
    let mut both = |path: &str, first: Route, second: Route| {
        let path = path.replace("{id}", "{id:.+}");
        let resource = web::resource(format!("{root}{path}")).route(first).route(second);
        config.service(resource.default_service(web::to(reply::wrong_method)));
    };
    for path in ["/v1/batches", "/batches"] {
        both(path, post().to(batches::create), get().to(batches::list));
    }
    for path in ["/v1/files", "/files"] {
        both(path, post().to(files::create), get().to(files::list));
        both(&format!("{path}/{{id}}"), get().to(files::get), web::delete().to(files::delete));
    }
    config.service(
        web::resource(format!("{root}/v1beta/models/{{call:.+}}"))
            .route(post().to(gemini::create))
            .route(get().to(gemini::one))
            .default_service(web::to(reply::wrong_method)),
    );
    // Google's clients ask models under whatever version they are set to.
    for path in ["/v1/models/{id:.+}", "/models/{id:.+}"] {
        config.service(
            web::resource(format!("{root}{path}"))
                .route(get().to(models::one))
                .route(post().to(gemini::create))
                .default_service(web::to(reply::wrong_method)),
        );
    }
    for path in ["/v1/responses/{id}", "/responses/{id}", "/openai/v1/responses/{id}"] {
        config.service(
            web::resource(format!("{root}{path}"))
                .route(get().to(responses::get))
                .route(web::delete().to(responses::delete))
                .default_service(web::to(reply::wrong_method)),
        );
    }
    for path in ["/mcp", "/mcp/", "/mcp/{servers}", "/{servers}/mcp"] {
        let path = format!("{root}{path}");
        config.service(
            web::resource(path)
                .route(post().to(mcp::post))
                .route(get().to(mcp::get))
                .route(web::delete().to(mcp::delete))
                .default_service(web::to(reply::wrong_method)),
        );
    }
}

/// Whoever may read may ask for the head alone.
fn get() -> Route {
    web::route().guard(Any(Get()).or(Head()))
}

pub use batches::watch as open_batches;
pub use entry::REDACTED;
pub use pass::elsewhere;
pub use responses::background::Underway;

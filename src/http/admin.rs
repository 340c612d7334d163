//! The management API: keys, users, teams, budgets, customers, tags, organizations and access groups, with LiteLLM's requests and answers.

mod allocation;
mod budgets;
mod bundles;
mod customers;
mod desk;
pub mod fields;
mod keys;
mod mcp;
mod models;
mod organizations;
mod tags;
mod teams;
pub mod times;
mod users;

pub use keys::{hash_of, key_row, mode_of_key, new_text, routes_of_type};
pub use teams::{apply_team, team_row};
pub use users::shape::{apply as apply_user, role_of_user, row as user_row};

use actix_web::Route;
use actix_web::guard::{Any, Delete, Get, Head, Patch, Post, Put};
use actix_web::web::{self, delete, patch, post, put};

/// The routes of the management API.
pub fn all() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    [
        keys::ROUTES,
        users::ROUTES,
        teams::ROUTES,
        budgets::ROUTES,
        customers::ROUTES,
        tags::ROUTES,
        organizations::ROUTES,
        models::ROUTES,
        models::groups::ROUTES,
        bundles::ROUTES,
        mcp::ROUTES,
    ]
    .into_iter()
    .flatten()
}

/// Registers them.
pub fn routes(serve: &mut impl FnMut(&str, fn() -> Route)) {
    serve("/key/generate", || post().to(keys::generate));
    serve("/key/service-account/generate", || post().to(keys::generate_for_service));
    serve("/key/update", || post().to(keys::update));
    serve("/key/bulk_update", || post().to(keys::bulk_update));
    serve("/key/delete", || post().to(keys::delete));
    serve("/key/block", || post().to(keys::block));
    serve("/key/unblock", || post().to(keys::unblock));
    serve("/key/health", || post().to(keys::health));
    serve("/key/regenerate", || post().to(keys::regenerate));
    serve("/key/{key}/regenerate", || post().to(keys::regenerate));
    serve("/key/{key}/reset_spend", || post().to(keys::reset_spend));
    serve("/key/info", || super::get().to(keys::info));
    serve("/v2/key/info", || post().to(keys::infos));
    serve("/key/list", || super::get().to(keys::list));
    serve("/key/aliases", || super::get().to(keys::aliases));
    people(serve);
    models(serve);
    tools(serve);
    limits(serve);
}

fn models(serve: &mut impl FnMut(&str, fn() -> Route)) {
    serve("/model/new", || post().to(models::new));
    serve("/model/update", || post().to(models::update));
    serve("/model/{id}/update", || patch().to(models::patch));
    serve("/model/delete", || post().to(models::delete));
    // Under one path each method is another act.
    serve("/credentials", || web::route().guard(Any(Post()).or(Get()).or(Head())).to(models::credentials_at));
    serve("/credentials/by_name/{id}", || super::get().to(models::credential));
    serve("/credentials/{id}", || web::route().guard(Any(Patch()).or(Delete())).to(models::credential_at));
    serve("/fallback/{id}", || web::route().guard(Any(Get()).or(Head()).or(Delete())).to(models::fallback_at));
    serve("/router/settings", || super::get().to(models::router_settings));
    serve("/fallback", || post().to(models::new_fallback));
    serve("/config/field/update", || post().to(models::update_field));
    serve("/config/field/info", || super::get().to(models::field_info));
    serve("/config/field/delete", || post().to(models::delete_field));
    serve("/access_group/new", || post().to(models::groups::new));
    serve("/access_group/list", || super::get().to(models::groups::list));
    serve("/access_group/{id}/info", || super::get().to(models::groups::info));
    serve("/access_group/{id}/update", || put().to(models::groups::update));
    serve("/access_group/{id}/delete", || delete().to(models::groups::delete));
    serve("/v1/access_group", || web::route().guard(Any(Get()).or(Head()).or(Post())).to(bundles::all));
    serve("/v1/access_group/{id}", || {
        web::route().guard(Any(Get()).or(Head()).or(Put()).or(Delete())).to(bundles::one)
    });
}

fn tools(serve: &mut impl FnMut(&str, fn() -> Route)) {
    serve("/v1/mcp/server", || web::route().guard(Any(Get()).or(Head()).or(Post()).or(Put())).to(mcp::servers));
    serve("/v1/mcp/server/health", || super::get().to(super::mcp::servers::health));
    serve("/v1/mcp/server/{id}", || web::route().guard(Any(Get()).or(Head()).or(Delete())).to(mcp::server));
    serve("/v1/mcp/toolset", || web::route().guard(Any(Get()).or(Head()).or(Post()).or(Put())).to(mcp::toolsets));
    serve("/v1/mcp/toolset/{id}", || web::route().guard(Any(Get()).or(Head()).or(Delete())).to(mcp::toolset));
    serve("/mcp-rest/test/connection", || post().to(mcp::test_connection));
    serve("/mcp-rest/test/tools/list", || post().to(mcp::test_tools));
}

fn people(serve: &mut impl FnMut(&str, fn() -> Route)) {
    serve("/user/new", || post().to(users::new));
    serve("/user/update", || post().to(users::update));
    serve("/user/bulk_update", || post().to(users::bulk_update));
    serve("/user/delete", || post().to(users::delete));
    serve("/user/info", || super::get().to(users::info));
    serve("/v2/user/info", || super::get().to(users::one));
    serve("/user/list", || super::get().to(users::list));
    serve("/user/available_roles", || super::get().to(users::available_roles));
    serve("/team/new", || post().to(teams::new));
    serve("/team/update", || post().to(teams::update));
    serve("/team/delete", || post().to(teams::delete));
    serve("/team/block", || post().to(teams::block));
    serve("/team/unblock", || post().to(teams::unblock));
    serve("/team/member_add", || post().to(teams::member_add));
    serve("/team/member_update", || post().to(teams::member_update));
    serve("/team/member_delete", || post().to(teams::member_delete));
    serve("/team/permissions_update", || post().to(teams::permissions_update));
    serve("/team/permissions_list", || super::get().to(teams::permissions));
    serve("/team/info", || super::get().to(teams::info));
    serve("/team/list", || super::get().to(teams::list));
    serve("/v2/team/list", || super::get().to(teams::pages));
    serve("/team/available", || super::get().to(teams::available));
}

fn limits(serve: &mut impl FnMut(&str, fn() -> Route)) {
    serve("/budget/new", || post().to(budgets::new));
    serve("/budget/update", || post().to(budgets::update));
    serve("/budget/info", || post().to(budgets::info));
    serve("/budget/delete", || post().to(budgets::delete));
    serve("/budget/list", || super::get().to(budgets::list));
    serve("/budget/settings", || super::get().to(budgets::settings));
    serve("/tag/new", || post().to(tags::new));
    serve("/tag/update", || post().to(tags::update));
    serve("/tag/delete", || post().to(tags::delete));
    serve("/tag/info", || post().to(tags::info));
    serve("/tag/list", || super::get().to(tags::list));
    serve("/organization/new", || post().to(organizations::new));
    serve("/organization/update", || patch().to(organizations::update));
    serve("/organization/delete", || delete().to(organizations::delete));
    serve("/organization/info", || super::get().to(organizations::info));
    serve("/organization/list", || super::get().to(organizations::list));
    for family in ["/customer", "/end_user"] {
        serve(&format!("{family}/new"), || post().to(customers::new));
        serve(&format!("{family}/update"), || post().to(customers::update));
        serve(&format!("{family}/delete"), || post().to(customers::delete));
        serve(&format!("{family}/block"), || post().to(customers::block));
        serve(&format!("{family}/unblock"), || post().to(customers::unblock));
        serve(&format!("{family}/info"), || super::get().to(customers::info));
        serve(&format!("{family}/list"), || super::get().to(customers::list));
    }
}

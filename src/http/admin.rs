//! The management API: keys, users, teams, budgets and customers, with LiteLLM's requests and answers.

mod desk;
pub mod fields;
mod keys;
pub mod times;

use actix_web::Route;
use actix_web::web::post;

/// The routes of the management API.
pub const ROUTES: &[(&str, &str)] = keys::ROUTES;

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
}

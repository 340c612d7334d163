//! `gateway mcp`: servers of tools from the shell, spoken to by this process itself, whether a gateway runs or not.

use super::place::Place;
use super::sources;
use super::store::on_runtime;
use crate::auth::Caller;
use crate::config::stored::Stored;
use crate::config::{Config, Mode, Sources, load};
use crate::database;
use crate::gateway::Live;
use crate::mcp::{Asked, Mcp, Naming, grants, resume};
use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use std::sync::Arc;

#[derive(Args)]
pub struct Tools {
    #[command(subcommand)]
    act: Act,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand)]
enum Act {
    /// Ask each server how it is
    List,
    /// List the tools of all servers, or of one
    Tools { server: Option<String> },
    /// Call a tool
    Call {
        /// SERVER-TOOL, as `gateway mcp tools` names it
        tool: String,
        /// A JSON object; `-` reads it from standard input
        #[arg(default_value = "{}")]
        arguments: String,
    },
    /// Approve a call that waits for it; the next request that quotes it carries it out
    Approve {
        /// The call's id: call_gw_...
        id: String,
    },
}

/// Carries the command out.
///
/// # Errors
/// A text for the operator.
pub fn run(args: Tools) -> Result<String, String> {
    let (files, state_dir) = args.place.split();
    let sources = Sources { state_dir, ..sources(files).unwrap_or_default() };
    let mut config = load(&sources, Mode::Live)?;
    if let Act::Approve { id } = &args.act {
        return approve(&config, id);
    }
    if config.store.postgres.is_some() || config.state_dir.join(crate::config::store::FILE).exists() {
        match on_runtime(stored(&config)) {
            Ok(found) => {
                let mut warnings = Vec::new();
                crate::config::mcp::stored::add(&mut config.mcp, &found, &mut warnings);
                warnings.iter().chain(&found.problems).for_each(|warning| eprintln!("warning: {warning}"));
            }
            Err(why) => eprintln!("warning: servers that were made by the API are not shown: {why}"),
        }
    }
    actix_web::rt::System::new().block_on(async {
        let live = Live::new(0, config);
        let mcp = Mcp::new(Arc::default());
        let told = ask(&mcp, &live, args.act).await;
        mcp.close().await;
        told
    })
}

/// What was configured by the API.
async fn stored(config: &Config) -> Result<Stored, String> {
    let store = database::open(config, tokio::runtime::Handle::current())?;
    let rows = store.configured().await.map_err(|e| e.to_string())?;
    Ok(Stored::open(rows, &config.seals))
}

fn approve(config: &Config, id: &str) -> Result<String, String> {
    on_runtime(async {
        let store = database::open(config, tokio::runtime::Handle::current())?;
        store.migrate(database::now()).await.map_err(|e| e.to_string())?;
        let (name, arguments) = resume::approve(&store, id, config.mcp.tools.resume_age).await?;
        Ok(format!("approved: {name} {arguments}\n"))
    })
}

async fn ask(mcp: &Mcp, live: &Live, act: Act) -> Result<String, String> {
    let all = grants::of(live, &Caller::Master);
    let headers = actix_web::http::header::HeaderMap::new();
    let separator = live.config.mcp.tools.separator.clone();
    match act {
        Act::List => {
            let mut text = String::new();
            for grant in &all {
                let (how, what) = match mcp.probe(&grant.server).await {
                    Ok(tools) => ("up", crate::config::units::count(tools, "tool")),
                    Err(fault) => ("down", fault.to_string()),
                };
                text += &format!("{}\t{}\t{how}\t{what}\n", grant.server.name, grant.server.transport());
            }
            Ok(text)
        }
        Act::Tools { server } => {
            let chosen = match &server {
                Some(name) => grants::named(live, &all, name).map_err(|name| format!("there is no server '{name}'"))?,
                None => all,
            };
            let found = mcp.tools(&chosen, Naming::Protocol(&separator), &headers).await;
            for (server, fault) in &found.missing {
                eprintln!("{}: {fault}", server.name);
            }
            let line = |tool: &crate::mcp::Offered| {
                let first = tool.description().unwrap_or_default().lines().next().unwrap_or_default().to_owned();
                format!("{}\t{first}\n", tool.name)
            };
            Ok(found.tools.iter().map(line).collect())
        }
        Act::Call { tool, arguments } => {
            let text = match arguments.as_str() {
                "-" => std::io::read_to_string(std::io::stdin()).map_err(|e| format!("standard input: {e}"))?,
                _ => arguments,
            };
            let arguments: Map<String, Value> =
                serde_json::from_str(&text).map_err(|e| format!("the arguments are no JSON object: {e}"))?;
            let found = mcp.tools(&all, Naming::Protocol(&separator), &headers).await;
            let chosen = found.tools.iter().find(|offered| offered.name == tool).ok_or_else(|| {
                let near = crate::pattern::nearest(&tool, found.tools.iter().map(|offered| offered.name.as_str()));
                let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                format!("there is no tool '{tool}'{hint}")
            })?;
            let result = mcp.call(chosen, arguments, Asked::default()).await.map_err(|fault| fault.to_string())?;
            let told = serde_json::to_string_pretty(&result.told).map_err(|e| e.to_string())?;
            if result.is_error() { Err(format!("the tool has failed:\n{told}")) } else { Ok(told + "\n") }
        }
        Act::Approve { .. } => Ok(String::new()),
    }
}

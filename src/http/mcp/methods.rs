//! What a client may ask of the gateway, and how it is answered.

use super::Visit;
use super::answer::Answer;
use super::scope::Scope;
use crate::config::mcp::Server;
use crate::mcp::booking::Booking;
use crate::mcp::rpc::{self, Revision, RpcError, meta};
use crate::mcp::{Asked, Cancel, Fault, Notes, ToolResult};
use crate::store::LedgerRow;
use actix_web::http::header::HeaderMap;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A request's surroundings.
pub struct Session {
    pub visit: Visit,
    pub scope: Scope,
    pub revision: Revision,
    pub headers: HeaderMap,
    /// What the request says of itself, for the ledger.
    pub said: LedgerRow,
}

impl Session {
    /// Answers one request.
    pub async fn answer(&self, method: &str, mut params: Value, notes: Option<Notes>, cancel: Cancel) -> Answer {
        let result = match method {
            "initialize" if !self.revision.is_modern() => Ok(self.initialize(&params)),
            "server/discover" if self.revision.is_modern() => Ok(self.discover()),
            "ping" if !self.revision.is_modern() => Ok(json!({})),
            "logging/setLevel" if !self.revision.is_modern() => self.set_level(params).await,
            "tools/list" => Ok(self.tools().await),
            "tools/call" => self.call(&mut params, notes, cancel).await,
            "prompts/list" => self.gather("prompts", "prompts/list", "prompts", params).await,
            "resources/list" => self.gather("resources", "resources/list", "resources", params).await,
            "resources/templates/list" => {
                self.gather("resources", "resources/templates/list", "resourceTemplates", params).await
            }
            "prompts/get" => self.prompt(params, notes).await,
            "resources/read" => {
                let read = self.at_resource("resources/read", params, notes).await;
                read.map(|mut result| {
                    // What one key may read, another may not: no cache between the two may keep it.
                    result["cacheScope"] = "private".into();
                    if !result["ttlMs"].is_u64() {
                        result["ttlMs"] = 0.into();
                    }
                    result
                })
            }
            "resources/subscribe" if !self.revision.is_modern() => {
                self.at_resource("resources/subscribe", params, None).await
            }
            "resources/unsubscribe" if !self.revision.is_modern() => {
                self.at_resource("resources/unsubscribe", params, None).await
            }
            "completion/complete" => self.complete(params).await,
            other => {
                let shown = crate::envelope::shorten(other);
                Err(RpcError::new(rpc::NO_METHOD, format!("The method '{shown}' is not served.")))
            }
        };
        result.map(|result| self.fit(result))
    }

    /// A result as the client's revision wants it.
    fn fit(&self, mut result: Value) -> Value {
        let Some(members) = result.as_object_mut() else { return result };
        if self.revision.is_modern() {
            members.entry("resultType").or_insert_with(|| "complete".into());
            let meta = members.entry("_meta").or_insert_with(|| json!({}));
            if let Some(meta) = meta.as_object_mut() {
                meta.insert(meta::SERVER.to_owned(), rpc::our_name());
            }
        } else {
            for name in ["resultType", "ttlMs", "cacheScope"] {
                members.shift_remove(name);
            }
        }
        result
    }

    fn initialize(&self, params: &Value) -> Value {
        let asked = params["protocolVersion"].as_str().and_then(Revision::of).filter(|r| !r.is_modern());
        let mut result = json!({
            "protocolVersion": asked.unwrap_or(Revision::NEWEST_LEGACY).name(),
            "capabilities": self.capabilities(),
            "serverInfo": rpc::our_name(),
        });
        if let Some(text) = self.instructions() {
            result["instructions"] = text.into();
        }
        result
    }

    fn discover(&self) -> Value {
        let versions: Vec<&str> = Revision::ALL.into_iter().filter(|r| r.is_modern()).map(Revision::name).collect();
        let mut result = json!({
            "supportedVersions": versions,
            "capabilities": self.capabilities(),
            "ttlMs": 0,
            "cacheScope": "private",
        });
        if let Some(text) = self.instructions() {
            result["instructions"] = text.into();
        }
        result
    }

    /// One server's own, where it is known; of several, what any may have.
    fn capabilities(&self) -> Value {
        let health = self.visit.worker.gateway.mcp.health();
        let known = match (&self.scope.grants[..], self.scope.is_single) {
            ([grant], true) => {
                health.get(&grant.server.name).filter(|h| h.is_up.is_some() && h.capabilities.is_object())
            }
            _ => None,
        };
        let has = |what: &str| known.is_none_or(|health| health.capabilities.get(what).is_some());
        let mut capabilities = json!({"tools": {"listChanged": true}});
        for what in ["prompts", "resources"] {
            if has(what) {
                capabilities[what] = json!({"listChanged": true});
            }
        }
        if known.is_some_and(|health| health.capabilities["resources"]["subscribe"] == true) {
            capabilities["resources"]["subscribe"] = true.into();
        }
        if has("completions") {
            capabilities["completions"] = json!({});
        }
        if !self.revision.is_modern() && has("logging") {
            capabilities["logging"] = json!({});
        }
        capabilities
    }

    fn instructions(&self) -> Option<String> {
        let health = self.visit.worker.gateway.mcp.health();
        let of =
            |server: &Server| server.instructions.clone().or_else(|| health.get(&server.name)?.instructions.clone());
        if let ([grant], true) = (&self.scope.grants[..], self.scope.is_single) {
            return of(&grant.server);
        }
        let all: Vec<String> = self
            .scope
            .grants
            .iter()
            .filter_map(|grant| Some(format!("{}: {}", grant.server.prefix, of(&grant.server)?)))
            .collect();
        (!all.is_empty()).then(|| all.join("\n\n"))
    }

    async fn tools(&self) -> Value {
        let found = self.scope.tools(&self.visit, &self.headers).await;
        let tools: Vec<Value> = found.tools.iter().map(crate::mcp::Offered::told).collect();
        let mut result = json!({"tools": tools});
        if self.revision.is_modern() {
            (result["ttlMs"], result["cacheScope"]) = (0.into(), "private".into());
        }
        missing(&mut result, &found.missing);
        result
    }

    async fn call(&self, params: &mut Value, notes: Option<Notes>, cancel: Cancel) -> Answer {
        let Some(name) = params["name"].as_str().map(str::to_owned) else {
            return Err(RpcError::new(rpc::PARAMS, "'name' is missing: which tool is to be called?"));
        };
        let arguments = match params["arguments"].take() {
            Value::Null => Map::new(),
            Value::Object(arguments) => arguments,
            _ => return Err(RpcError::new(rpc::PARAMS, "'arguments' must be an object.")),
        };
        let (tool, found) = self.scope.tool(&self.visit, &name, &self.headers).await;
        let Some(tool) = tool else {
            let shown = crate::envelope::shorten(&name);
            let mut message = format!("Unknown tool: '{shown}'.");
            for (server, fault) in &found.missing {
                message += &format!(" The server '{}' is missing: {fault}.", server.prefix);
            }
            return Err(RpcError::new(rpc::PARAMS, message));
        };
        if let Some(name) = tool.forbidden(&arguments) {
            let shown = crate::envelope::shorten(name);
            return Err(RpcError::new(
                rpc::PARAMS,
                format!("The parameter '{shown}' of this tool may not be given here."),
            ));
        }
        self.check_mirrored(&tool, &arguments)?;
        let Visit { worker, live, caller } = &self.visit;
        let booking = Booking::open(worker, live, caller, &tool, &self.said).await;
        let mut booking = booking.map_err(|e| RpcError::new(rpc::INTERNAL, e.to_string()))?;
        trim_meta(params);
        let asked = Asked {
            meta: params.get("_meta").cloned(),
            headers: Some(&self.headers),
            notes,
            limit: None,
            cancel,
            ends_with_caller: self.revision.is_modern(),
        };
        let result = worker.gateway.mcp.call(&tool, arguments, asked).await;
        booking.end(&result);
        match result {
            Ok(ToolResult { told }) => Ok(told),
            Err(Fault::Rpc(error)) => Err(error),
            // The model is told, since it may go another way.
            Err(fault) => Ok(json!({
                "content": [{"type": "text", "text": format!("The server of tools '{}': {fault}.", tool.server.prefix)}],
                "isError": true,
            })),
        }
    }

    /// Arguments that the tool's schema wants repeated in headers must be there, and the same.
    fn check_mirrored(&self, tool: &crate::mcp::Offered, arguments: &Map<String, Value>) -> Result<(), RpcError> {
        if !self.revision.is_modern() {
            return Ok(());
        }
        for (path, header) in &tool.tool.mirrored {
            let mut value = arguments.get(path[0].as_str()).unwrap_or(&Value::Null);
            for name in &path[1..] {
                value = &value[name.as_str()];
            }
            let wanted = match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
                _ => None,
            };
            let said = super::text(&self.headers, &format!("mcp-param-{}", header.to_ascii_lowercase()));
            let said = said.map(|said| rpc::header_value(said).map(std::borrow::Cow::into_owned).unwrap_or_default());
            if said != wanted {
                return Err(RpcError::new(
                    rpc::HEADERS,
                    format!("The header Mcp-Param-{header} is missing, or differs."),
                ));
            }
        }
        Ok(())
    }

    /// The servers of which everything may be used; prompts and resources are not granted one by one.
    fn whole(&self) -> Vec<Arc<Server>> {
        self.scope.grants.iter().filter(|grant| grant.is_whole()).map(|grant| grant.server.clone()).collect()
    }

    /// The lists of all servers as one.
    async fn gather(&self, what: &'static str, method: &'static str, member: &str, mut params: Value) -> Answer {
        let servers = self.whole();
        // A cursor is one server's; of several the first pages are given.
        let cursor = params["cursor"].take();
        let params = match (self.scope.is_single, cursor) {
            (true, Value::String(cursor)) => json!({"cursor": cursor}),
            _ => json!({}),
        };
        let answers = self.visit.worker.gateway.mcp.ask_all(&servers, what, method, &params, &self.headers).await;
        let (mut all, mut absent, mut next) = (Vec::new(), Vec::new(), Value::Null);
        for (server, answer) in answers {
            match answer {
                Ok(mut answer) => {
                    let Value::Array(items) = answer[member].take() else { continue };
                    next = answer["nextCursor"].take();
                    for mut item in items {
                        if member == "prompts" && !self.scope.is_single {
                            let name = item["name"].as_str().unwrap_or_default();
                            item["name"] = format!("{}{}{name}", server.prefix, server.separator).into();
                        }
                        all.push(item);
                    }
                }
                Err(fault) if self.scope.is_single => return Err(told(&server, fault)),
                Err(fault) => absent.push((server, fault)),
            }
        }
        let mut result = Value::Object(Map::from_iter([(member.to_owned(), Value::Array(all))]));
        if self.scope.is_single && next.is_string() {
            result["nextCursor"] = next;
        }
        if self.revision.is_modern() {
            (result["ttlMs"], result["cacheScope"]) = (0.into(), "private".into());
        }
        missing(&mut result, &absent);
        Ok(result)
    }

    /// The server that a name means, and its own name for it.
    fn owner(&self, name: &str) -> Option<(Arc<Server>, String)> {
        let servers = self.whole();
        if self.scope.is_single {
            return servers.into_iter().next().map(|server| (server, name.to_owned()));
        }
        let own =
            |server: &Server| name.strip_prefix(&server.prefix)?.strip_prefix(&server.separator).map(str::to_owned);
        servers
            .into_iter()
            .filter_map(|server| own(&server).map(|own| (server, own)))
            .max_by_key(|(s, _)| s.prefix.len())
    }

    async fn prompt(&self, mut params: Value, notes: Option<Notes>) -> Answer {
        let name = params["name"].as_str().unwrap_or_default();
        let Some((server, own)) = self.owner(name) else {
            let shown = crate::envelope::shorten(name);
            return Err(RpcError::new(rpc::PARAMS, format!("Unknown prompt: '{shown}'.")));
        };
        params["name"] = own.into();
        trim_meta(&mut params);
        let result = self.visit.worker.gateway.mcp.ask(&server, "prompts/get", params, &self.headers, notes).await;
        result.map_err(|fault| told(&server, fault))
    }

    /// Nobody says which server a resource belongs to: those that have any are asked, one after the other.
    async fn at_resource(&self, method: &'static str, mut params: Value, notes: Option<Notes>) -> Answer {
        trim_meta(&mut params);
        let mcp = &self.visit.worker.gateway.mcp;
        let health = mcp.health();
        let has = |server: &Arc<Server>| {
            health.get(&server.name).is_none_or(|h| h.is_up.is_none() || h.capabilities.get("resources").is_some())
        };
        let mut last = RpcError::new(rpc::PARAMS, "There is no such resource.");
        for server in self.whole().into_iter().filter(has) {
            match mcp.ask(&server, method, params.clone(), &self.headers, notes.clone()).await {
                Ok(result) => return Ok(result),
                Err(fault) => last = told(&server, fault),
            }
        }
        Err(last)
    }

    async fn complete(&self, mut params: Value) -> Answer {
        trim_meta(&mut params);
        if params["ref"]["type"] != "ref/prompt" {
            return self.at_resource("completion/complete", params, None).await;
        }
        let name = params["ref"]["name"].as_str().unwrap_or_default();
        let Some((server, own)) = self.owner(name) else {
            let shown = crate::envelope::shorten(name);
            return Err(RpcError::new(rpc::PARAMS, format!("Unknown prompt: '{shown}'.")));
        };
        params["ref"]["name"] = own.into();
        let mcp = &self.visit.worker.gateway.mcp;
        let result = mcp.ask(&server, "completion/complete", params, &self.headers, None).await;
        result.map_err(|fault| told(&server, fault))
    }

    /// Sessions with servers are shared, so that one client's wish is not theirs: where there is one server alone it is
    /// told, else the wish is noted and nothing comes of it.
    async fn set_level(&self, params: Value) -> Answer {
        const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
        if !params["level"].as_str().is_some_and(|level| LEVELS.contains(&level)) {
            return Err(RpcError::new(rpc::PARAMS, format!("'level' must be one of {}.", LEVELS.join(", "))));
        }
        if let ([server], true) = (&self.whole()[..], self.scope.is_single) {
            let mcp = &self.visit.worker.gateway.mcp;
            let _ = mcp.ask(server, "logging/setLevel", params, &self.headers, None).await;
        }
        Ok(json!({}))
    }
}

/// Takes out of `_meta` what is between the client and the gateway.
fn trim_meta(params: &mut Value) {
    let Some(params) = params.as_object_mut() else { return };
    let is_empty = params.get_mut("_meta").and_then(Value::as_object_mut).is_none_or(|members| {
        for name in [meta::VERSION, meta::CAPABILITIES, meta::CLIENT] {
            members.shift_remove(name);
        }
        members.is_empty()
    });
    if is_empty {
        params.shift_remove("_meta");
    }
}

fn told(server: &Server, fault: Fault) -> RpcError {
    match fault {
        Fault::Rpc(error) => error,
        Fault::Late(_) => RpcError::new(rpc::LATE, format!("The server '{}': {fault}.", server.prefix)),
        fault => RpcError::new(rpc::INTERNAL, format!("The server '{}': {fault}.", server.prefix)),
    }
}

/// Servers that could not be asked are named where clients let it pass.
fn missing(result: &mut Value, absent: &[(Arc<Server>, Fault)]) {
    if absent.is_empty() {
        return;
    }
    let named = absent.iter().map(|(server, fault)| (server.prefix.clone(), fault.to_string().into()));
    result["_meta"]["gateway/missing_servers"] = Value::Object(named.collect());
}

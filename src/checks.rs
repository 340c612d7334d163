//! Whether the deployments are well: asked for by `GET /health`, now and then in the background, and for servers of the
//! house every few seconds by a mere connection.

use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result};
use crate::exchange::{self, Ask, Face, Plain};
use crate::form::{Files, Spool};
use crate::gateway::{Gateway, Live};
use crate::meter;
use crate::route::{Deployment, Target};
use crate::store::Check;
use crate::upstream::{self, Request, Upstream};
use crate::wire::form::Head;
use crate::{serve, systemd};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More characters of an error say nothing new.
const LONGEST: usize = 1000;
/// A server of the house that accepts no connection in this time is taken for down.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the state is looked at for the service manager.
const LOOK: Duration = Duration::from_secs(1);

/// What a check found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Microseconds since 1970.
    pub at: i64,
    pub took: Duration,
    /// `None`: it answered.
    pub error: Option<Error>,
}

/// Calls a deployment for real, and remembers what came of it.
pub async fn check(gateway: &Gateway, upstream: &Upstream, live: &Live, deployment: &Arc<Deployment>) -> Found {
    let found = try_once(upstream, live, deployment).await;
    deployment.pulse.checked(Instant::now(), found.error.is_none());
    let check = Check {
        id: meter::new_id().to_string(),
        at: found.at,
        model_id: deployment.id.clone(),
        model_name: deployment.name.clone(),
        took_ms: i64::try_from(found.took.as_millis()).unwrap_or(i64::MAX),
        error: found.error.as_ref().map(|error| error.to_string().chars().take(LONGEST).collect()),
    };
    // What is known of the deployment now does not depend on the store.
    if let Err(fault) = gateway.store.note_check(&check).await {
        tracing::debug!("a check of '{}' is not in its history: {fault}", deployment.name);
    }
    found
}

/// Calls a deployment for real.
pub async fn try_once(upstream: &Upstream, live: &Live, deployment: &Arc<Deployment>) -> Found {
    let (began, at) = (Instant::now(), crate::database::now());
    let own = fact(deployment, "health_check_timeout").and_then(Value::as_f64);
    let own = own.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).filter(|limit| !limit.is_zero());
    let limit = own.unwrap_or(live.config.health.timeout);
    let answer = tokio::time::timeout(limit, ask(upstream, live, deployment)).await;
    let late = || Error::new(Kind::Timeout, format!("no answer within {limit:?}"));
    let error = answer.unwrap_or_else(|_| Err(late())).err();
    Found { at, took: began.elapsed(), error }
}

fn fact<'a>(deployment: &'a Deployment, name: &str) -> Option<&'a Value> {
    deployment.info.get("model_info")?.get(name)
}

/// The smallest call there is.
async fn ask(upstream: &Upstream, live: &Live, deployment: &Arc<Deployment>) -> Result<()> {
    if let Some(why) = &deployment.unserved {
        return Err(why.clone());
    }
    let model = match fact(deployment, "health_check_model").and_then(Value::as_str) {
        Some(named) => {
            named.strip_prefix(deployment.provider.name).and_then(|m| m.strip_prefix('/')).unwrap_or(named).to_owned()
        }
        None if deployment.model.contains('*') => {
            return Err(Error::invalid("a wildcard names no model to call; set health_check_model in its info"));
        }
        None => deployment.model.clone(),
    };
    let tokens = fact(deployment, "health_check_max_tokens").and_then(Value::as_u64).unwrap_or(5);
    let known = deployment.pricing.known(&model);
    let mode = fact(deployment, "mode").and_then(Value::as_str).filter(|mode| *mode != "chat");
    let mode = mode.or(known.facts.mode.as_deref()).unwrap_or("chat").to_owned();
    let (face, body, files) = match mode.as_str() {
        "embedding" => (Face::Plain(Plain::Embeddings), json!({"model": model, "input": ["hi"]}), None),
        "rerank" => (Face::Plain(Plain::Rerank), json!({"model": model, "query": "hi", "documents": ["hi"]}), None),
        "audio_speech" => {
            let voice = fact(deployment, "health_check_voice").and_then(Value::as_str).unwrap_or("alloy");
            (Face::Plain(Plain::Speech), json!({"model": model, "input": "hi", "voice": voice}), None)
        }
        "audio_transcription" => (Face::Plain(Plain::Transcription), json!({"model": model}), Some(silence().await?)),
        _ => {
            let messages = json!([{"role": "user", "content": "hi"}]);
            (Face::Chat, json!({"model": model, "messages": messages, "max_tokens": tokens}), None)
        }
    };
    let envelope = Envelope::parse(Bytes::from(body.to_string()), 8)?;
    let target = Target::named(deployment.clone(), model);
    let ask = Ask {
        face,
        envelope: &envelope,
        streams: false,
        model: target.model(),
        id: meter::new_id(),
        max_nesting: 8,
        history: None,
    };
    let outbound = exchange::outbound(&ask, &target)?;
    let detour = outbound.detour;
    let request = Request { endpoint: outbound.endpoint, files, detour, ..Request::call(outbound.body) };
    let response = upstream.send(live.generation, &target, request).await?;
    let body = upstream::gather(response, live.config.server.answer_limit, deployment).await?;
    match mode.as_str() {
        // Whatever comes is sound.
        "audio_speech" => Ok(()),
        _ => exchange::whole(&outbound.back, body, &deployment.origin).map(drop),
    }
}

/// A second of nothing, to be heard: 8 kHz, 16 bit, mono.
async fn silence() -> Result<Files> {
    let mut wav =
        b"RIFF\xa4\x3e\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x80\x3e\0\0".to_vec();
    wav.resize(wav.len() + 16_000, 0);
    let mut spool = Spool::default();
    spool.begin(Head { name: "file".into(), filename: Some("silence.wav".into()), kind: Some("audio/wav".into()) });
    let unkept = |e: std::io::Error| Error::new(Kind::Internal, format!("The sound of the check cannot be kept: {e}."));
    // It is small enough for memory.
    spool.add(&wav, &std::env::temp_dir()).await.map_err(unkept)?;
    spool.finish().await.map_err(unkept)
}

/// Looks after all deployments for as long as the process lives, on the main thread.
pub async fn keep(gateway: Arc<Gateway>) {
    let upstream = Upstream::new(gateway.tls.clone());
    actix_web::rt::spawn(watch_house(gateway.clone()));
    actix_web::rt::spawn(tell(gateway.clone()));
    loop {
        let live = gateway.live();
        let Some(interval) = live.config.health.background else {
            // A reload may turn it on.
            tokio::time::sleep(LOOK * 5).await;
            continue;
        };
        let opted_out = |d: &Arc<Deployment>| fact(d, "disable_background_health_check") == Some(&Value::Bool(true));
        let wanted = live.routes.deployments.iter().filter(|d| d.unserved.is_none() && !opted_out(d)).cloned();
        let checks = wanted.map(|deployment| {
            let (gateway, live, upstream) = (&gateway, &live, &upstream);
            async move { drop(check(gateway, upstream, live, &deployment).await) }
        });
        let all = futures_util::stream::iter(checks).buffer_unordered(live.config.health.concurrency);
        all.for_each(|()| std::future::ready(())).await;
        tokio::time::sleep(interval).await;
    }
}

/// Connects to the servers of the house every few seconds: one that is switched off is known before the next call.
async fn watch_house(gateway: Arc<Gateway>) {
    loop {
        let house = gateway.live().config.health.house;
        tokio::time::sleep(house.unwrap_or(LOOK * 5)).await;
        if house.is_none() {
            continue;
        }
        let live = gateway.live();
        let mut seen: HashMap<Place<'_>, bool> = HashMap::new();
        for deployment in live.routes.deployments.iter().filter(|d| d.unserved.is_none()) {
            let Some(place) = place(deployment) else { continue };
            let well = match seen.get(&place) {
                Some(well) => *well,
                None => {
                    let well = is_up(&place).await;
                    seen.insert(place, well);
                    well
                }
            };
            deployment.pulse.reached(well);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place<'a> {
    Socket(&'a std::path::Path),
    Tcp(&'a str, u16),
}

/// Where a deployment listens, if that is in the house: a socket, or an address or name that no public server has.
fn place(deployment: &Deployment) -> Option<Place<'_>> {
    if deployment.mock.is_some() {
        return None;
    }
    if let Some(socket) = &deployment.transport.socket {
        return Some(Place::Socket(socket));
    }
    let host = deployment.calls.host()?;
    let usual = if deployment.transport.tls { 443 } else { 80 };
    is_of_the_house(host).then(|| Place::Tcp(host, deployment.calls.port_u16().unwrap_or(usual)))
}

fn is_of_the_house(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => {
            const ENDS: [&str; 7] =
                [".local", ".lan", ".home", ".internal", ".home.arpa", ".localdomain", ".localhost"];
            !bare.contains('.') || ENDS.iter().any(|end| bare.to_ascii_lowercase().ends_with(end))
        }
    }
}

async fn is_up(place: &Place<'_>) -> bool {
    let connect = async {
        match place {
            Place::Socket(path) => tokio::net::UnixStream::connect(path).await.map(drop),
            Place::Tcp(host, port) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                tokio::net::TcpStream::connect((host, *port)).await.map(drop)
            }
        }
    };
    matches!(tokio::time::timeout(PATIENCE, connect).await, Ok(Ok(())))
}

/// Tells the service manager and the log when a deployment goes down or comes back.
async fn tell(gateway: Arc<Gateway>) {
    let mut down: Vec<String> = Vec::new();
    loop {
        tokio::time::sleep(LOOK).await;
        if gateway.ending.is_draining() {
            return;
        }
        let now_down = ill(&gateway.live());
        for name in now_down.iter().filter(|name| !down.contains(name)) {
            tracing::warn!("{name} is down");
        }
        for name in down.iter().filter(|name| !now_down.contains(name)) {
            tracing::info!("{name} is back");
        }
        // The rest of the status is told by whoever changes it.
        if now_down != down {
            down = now_down;
            systemd::status(&serve::status(&gateway));
        }
    }
}

/// The deployments that are down as far as is known, by name and address.
pub fn ill(live: &Live) -> Vec<String> {
    let is_ill = |d: &&Arc<Deployment>| {
        d.unserved.is_none() && (d.pulse.is_unreachable() || matches!(d.pulse.health(Instant::now()), Some((false, _))))
    };
    live.routes.deployments.iter().filter(is_ill).map(|d| format!("{} ({})", d.name, d.api_base)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_house_is_told_by_its_address() {
        for (host, of_the_house) in [
            ("127.0.0.1", true),
            ("192.168.1.9", true),
            ("10.0.0.3", true),
            ("[::1]", true),
            ("[fd00::7]", true),
            ("nas", true),
            ("nas.local", true),
            ("gpu.home.arpa", true),
            ("8.8.8.8", false),
            ("[2606:4700::1]", false),
            ("api.openai.com", false),
        ] {
            assert_eq!(is_of_the_house(host), of_the_house, "{host}");
        }
    }
}

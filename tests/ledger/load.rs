//! Mixed load: callers that come and go, an upstream that computes what each call costs, and what must be true of the
//! ledger afterwards, whatever was done to the process, the database, the disk and the clock.

use super::priced;
use crate::support::feed::{PATIENCE, pass};
use crate::support::gateway::authorization;
use crate::support::reply::{delta, event, text};
use crate::support::upstream::Seen;
use crate::support::{Gateway, Reply, Setup, Upstream};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// At once; every third call is not streamed, every second is made with a key of the store.
const CALLERS: usize = 6;
/// Before anything else, and after everything.
const EVER: &str = "start_date=1990-01-01&end_date=2090-01-01";

/// A number of an environment variable, for the long form of a test (`tests/soak`).
pub fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// What became of all calls.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub whole: usize,
    pub refused: usize,
    pub seen: usize,
    pub rows: usize,
    pub interrupted: usize,
    pub unseen: usize,
}

pub struct Load {
    up: Upstream,
    config: String,
    /// Between two calls of a caller.
    pace: Duration,
    number: AtomicUsize,
    /// Calls whose answer came whole.
    whole: Mutex<HashSet<String>>,
    /// Calls that were answered with a 503.
    refused: AtomicUsize,
    /// A key of a user in a team, and its hash.
    key: OnceLock<(String, String)>,
}

/// The tokens of a call, in and out, by its number; at 1 and 10 dollars for a million.
fn usage(number: u64) -> (u64, u64) {
    (10 + number % 90, 1 + number % 50)
}

fn cost(number: u64) -> i64 {
    let (input, output) = usage(number);
    (input * 1_000 + output * 10_000) as i64
}

fn number(id: &str) -> u64 {
    id.strip_prefix("call-").unwrap().parse().unwrap()
}

fn content(seen: &Seen) -> String {
    seen.json()["messages"][0]["content"].as_str().unwrap().to_owned()
}

/// The answer to a call, with its own usage.
fn reply(seen: &Seen) -> Reply {
    let id = content(seen);
    let (input, output) = usage(number(&id));
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    let upstream = format!("chatcmpl-{id}");
    if seen.json()["stream"] != true {
        let choice = json!({"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"});
        let body = json!({"id": upstream, "object": "chat.completion", "created": 1, "model": "up",
            "choices": [choice], "usage": usage});
        return Reply::json(200, &body.to_string());
    }
    let words = (0..20).fold(Reply::stream(), |reply, _| reply.send(&text("word ")));
    let last = json!({"id": upstream, "object": "chat.completion.chunk", "created": 1, "model": "up",
        "choices": [], "usage": usage});
    words.send(&delta(json!({}), Some("stop"))).send(&event(&last)).send("data: [DONE]\n\n").end_body()
}

/// How a call ended, as its caller sees it.
enum Ending {
    Whole,
    Refused,
    Broken,
}

/// One call on a connection of its own. The process may go away at any moment.
fn call(to: SocketAddr, key: &str, id: &str, stream: bool) -> Ending {
    let options = if stream { r#","stream":true,"stream_options":{"include_usage":true}"# } else { "" };
    let body = format!(r#"{{"model":"small","messages":[{{"role":"user","content":"{id}"}}]{options}}}"#);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {key}\r\nx-request-id: {id}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    let exchange = TcpStream::connect(to).and_then(|mut socket| {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(head.as_bytes())?;
        socket.write_all(body.as_bytes())?;
        socket.read_to_end(&mut answer)
    });
    // A reset behind the last byte takes nothing away.
    drop(exchange);
    let answer = String::from_utf8_lossy(&answer);
    let end = if stream { "data: [DONE]" } else { r#""total_tokens""# };
    match answer.starts_with("HTTP/1.1 200") && answer.contains(end) {
        true => Ending::Whole,
        false if answer.starts_with("HTTP/1.1 503") => Ending::Refused,
        false => Ending::Broken,
    }
}

impl Load {
    /// Load for gateways over this database, with so long between two calls of each caller.
    pub fn new(database: &str, more: &str, pace: Duration) -> Arc<Self> {
        let up = Upstream::script(reply);
        Arc::new(Load {
            config: format!("{}{more}", priced(database, &up)),
            up,
            pace,
            number: AtomicUsize::new(0),
            whole: Mutex::default(),
            refused: AtomicUsize::new(0),
            key: OnceLock::new(),
        })
    }

    /// A gateway for this load, on this state directory; the first one makes the key.
    pub fn gateway(&self, state: &Path, variables: &[(&str, &str)]) -> Gateway {
        let setup = Setup::toml(&self.config).state(state);
        let setup = variables.iter().fold(setup, |setup, (name, value)| setup.variable(name, value));
        let gateway = setup.start();
        self.key.get_or_init(|| {
            gateway.post("/user/new", r#"{"user_id":"ann","auto_create_key":false}"#).ok();
            gateway.post("/team/new", r#"{"team_id":"crew"}"#).ok();
            let wanted = r#"{"key_alias":"load","user_id":"ann","team_id":"crew","tags":["soak"]}"#;
            let made = gateway.post("/key/generate", wanted).ok().json();
            let text = |name: &str| made[name].as_str().unwrap().to_owned();
            (text("key"), text("token"))
        });
        gateway
    }

    /// Callers call for as long as this takes.
    pub fn during(self: &Arc<Self>, gateway: &Gateway, act: impl FnOnce()) {
        let (to, over) = (gateway.address(), Arc::new(AtomicBool::new(false)));
        let master = authorization().1.strip_prefix("Bearer ").unwrap().to_owned();
        let key = self.key.get().unwrap().0.clone();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (load, over) = (self.clone(), over.clone());
                let key = if caller % 2 == 0 { master.clone() } else { key.clone() };
                std::thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let id = format!("call-{}", load.number.fetch_add(1, Ordering::Relaxed));
                        match call(to, &key, &id, caller % 3 != 0) {
                            Ending::Whole => drop(load.whole.lock().unwrap().insert(id)),
                            Ending::Refused => drop(load.refused.fetch_add(1, Ordering::Relaxed)),
                            Ending::Broken => (),
                        }
                        pass(load.pace);
                    }
                })
            })
            .collect();
        act();
        over.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    }

    pub fn whole(&self) -> usize {
        self.whole.lock().unwrap().len()
    }

    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits until so many more calls were answered whole, which is to say that calls are served.
    pub fn goes_on(&self, gateway: &Gateway) {
        let (end, wanted) = (Instant::now() + PATIENCE, self.whole() + 20);
        while self.whole() < wanted {
            assert!(Instant::now() < end, "calls are not served any more:\n{}", gateway.logs());
            pass(Duration::from_millis(20));
        }
    }

    /// A gateway that makes no calls books what is left in the spool; then everything is looked at.
    pub fn check(&self, state: &Path) -> Figures {
        let gateway = self.gateway(state, &[]);
        let end = Instant::now() + 2 * PATIENCE;
        loop {
            let left = std::fs::read_dir(state.join("ledger")).unwrap().flatten();
            let left: Vec<_> = left
                .map(|entry| entry.file_name())
                .filter(|name| Path::new(name).extension().is_none_or(|e| e != "aside"))
                .collect();
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "{left:?} are left; the log:\n{}", gateway.logs());
            pass(Duration::from_millis(50));
        }
        let rows = all_rows(&gateway);
        let figures = self.check_rows(&rows);
        self.check_sums(&gateway, &rows);
        let Figures { whole, refused, seen, rows, interrupted, unseen } = figures;
        eprintln!(
            "{whole} answered whole, {refused} refused, {seen} seen upstream, {rows} rows, {interrupted} interrupted, \
             {unseen} that the upstream did not see; {} bytes set aside",
            aside(state)
        );
        figures
    }

    fn check_rows(&self, rows: &[Value]) -> Figures {
        let whole = self.whole.lock().unwrap();
        let seen: HashSet<String> = self.up.requests().iter().map(content).collect();
        let ids: HashSet<&str> = rows.iter().map(|row| row["request_id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), rows.len(), "an id is there twice");
        let mut by_client: HashMap<&str, Vec<&Value>> = HashMap::new();
        for row in rows {
            by_client.entry(client(row)).or_default().push(row);
        }
        for id in seen.iter().chain(whole.iter()) {
            let count = by_client.get(id.as_str()).map_or(0, Vec::len);
            assert_eq!(count, 1, "rows of {id}, which the upstream saw");
        }
        for id in whole.iter() {
            let row = by_client[id.as_str()][0];
            assert_eq!(row["status"], "success", "{id} was answered whole: {row:#}");
        }
        let unseen = rows.iter().filter(|row| !seen.contains(client(row)));
        let unseen = unseen.inspect(|row| {
            assert!(["interrupted", "failure", "cancelled"].contains(&row["status"].as_str().unwrap()), "{row:#}");
        });
        let unseen = unseen.count();
        for row in rows.iter().filter(|row| row["status"] == "success") {
            let number = number(client(row));
            let tokens = (row["prompt_tokens"].as_u64().unwrap(), row["completion_tokens"].as_u64().unwrap());
            assert_eq!((nanos(&row["spend"]), tokens), (cost(number), usage(number)), "{row:#}");
        }
        Figures {
            whole: whole.len(),
            refused: self.refused(),
            seen: seen.len(),
            rows: rows.len(),
            interrupted: rows.iter().filter(|row| row["status"] == "interrupted").count(),
            unseen,
        }
    }

    /// Totals and sums by day are those of the rows.
    fn check_sums(&self, gateway: &Gateway, rows: &[Value]) {
        let (key, token) = self.key.get().unwrap();
        let sum = |of_key: bool| -> (i64, u64) {
            let rows = rows.iter().filter(|row| !of_key || row["api_key"] == token.as_str());
            rows.fold((0, 0), |(sum, count), row| (sum + nanos(&row["spend"]), count + 1))
        };
        let get = |path: &str| gateway.get(path).ok().json();
        let (all, of_key) = (sum(false), sum(true));
        assert_eq!(nanos(&get("/global/spend")["spend"]), all.0);
        assert_eq!(nanos(&get(&format!("/key/info?key={key}"))["info"]["spend"]), of_key.0);
        assert_eq!(nanos(&get("/user/info?user_id=ann")["user_info"]["spend"]), of_key.0);
        assert_eq!(nanos(&get("/team/info?team_id=crew")["team_info"]["spend"]), of_key.0);
        for (path, expected) in [
            ("user/daily/activity/aggregated?", all),
            ("user/daily/activity/aggregated?user_id=ann&", of_key),
            ("team/daily/activity/aggregated?team_ids=crew&", of_key),
            ("tag/daily/activity/aggregated?tags=soak&", of_key),
        ] {
            let daily = get(&format!("/{path}{EVER}"));
            let told = &daily["metadata"];
            let told = (nanos(&told["total_spend"]), told["total_api_requests"].as_u64().unwrap());
            assert_eq!(told, expected, "{path}");
        }
    }
}

/// What a killed process had not written to its end.
fn aside(state: &Path) -> u64 {
    let files = std::fs::read_dir(state.join("ledger")).unwrap().flatten();
    files.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

fn client(row: &Value) -> &str {
    row["metadata"]["client_id"].as_str().unwrap()
}

fn nanos(value: &Value) -> i64 {
    (value.as_f64().unwrap_or_else(|| panic!("no money: {value}")) * 1e9).round() as i64
}

/// Everything that is booked.
fn all_rows(gateway: &Gateway) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    loop {
        let after = rows.last().map_or(String::new(), |row| format!("&after={}", row["request_id"].as_str().unwrap()));
        let page = gateway.get(&format!("/spend/logs?limit=1000{after}")).ok().json();
        let page = page.as_array().unwrap();
        rows.extend(page.iter().cloned());
        if page.len() < 1000 {
            return rows;
        }
    }
}

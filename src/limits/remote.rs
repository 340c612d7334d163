//! Rates that several gateways share, in Redis or Valkey: the same windows as in [`super::bucket`], in slots of 250 ms by
//! the server's clock. One script checks all limits of a call and charges them, or none.
//!
//! A server that does not answer in time refuses nobody: each gateway then counts its part in memory.

use super::book::{Left, Refused, Unit};
use super::bucket::{SLOT_MS, Slot};
use super::plan::Line;
use crate::config::redis::{Place, Redis};
use crate::gateway::Gateway;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, Script, TlsCertificates};
use secrecy::ExposeSecret;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// For the server to answer a call's question.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between tries to reach it.
const RETRY: Duration = Duration::from_secs(1);
/// Ends of calls that wait to be told; what is beyond counts as it was set aside, for its minute.
const MOST_ENDS: usize = 65_536;
/// To tell that a call is no longer under way: by then the server has forgotten it.
const MOST_TRIES: usize = 900;

/// `ARGV` is the call's id, and for each key its kind, limit and need. Answers with the place of the limit that refuses
/// longest, what is used of it and for how many milliseconds; or with 0, the slot, and what is used of each.
const ADMIT: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local slot = math.floor(now / 250)
local worst, place, used = -1, 0, {}
for i = 1, #KEYS do
  local kind, limit, need = ARGV[i * 3 - 1], tonumber(ARGV[i * 3]), tonumber(ARGV[i * 3 + 1])
  if kind == 'p' then
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
    used[i] = redis.call('ZCARD', KEYS[i])
    if used[i] >= limit and worst < 0 then worst, place = 0, i end
  else
    local all, sum, old, kept = redis.call('HGETALL', KEYS[i]), 0, {}, {}
    for n = 1, #all, 2 do
      local at, amount = tonumber(all[n]), tonumber(all[n + 1])
      if at + 242 <= slot then
        old[#old + 1] = all[n]
      else
        sum = sum + amount
        kept[#kept + 1] = { at, amount }
      end
    end
    if #old > 0 then redis.call('HDEL', KEYS[i], unpack(old)) end
    used[i] = sum
    if limit == 0 or sum + need > limit then
      table.sort(kept, function(a, b) return a[1] < b[1] end)
      local left, wait = sum, 60500
      for _, one in ipairs(kept) do
        left = left - one[2]
        if left + need <= limit then
          wait = (one[1] + 242) * 250 - now
          break
        end
      end
      if wait > worst then worst, place = wait, i end
    end
  end
end
if place > 0 then return { place, used[place], worst } end
for i = 1, #KEYS do
  local need = tonumber(ARGV[i * 3 + 1])
  if ARGV[i * 3 - 1] == 'p' then
    redis.call('ZADD', KEYS[i], now + 900000, ARGV[1])
    redis.call('PEXPIRE', KEYS[i], 900000)
  else
    redis.call('HINCRBY', KEYS[i], slot, need)
    redis.call('PEXPIRE', KEYS[i], 61000)
  end
end
return { 0, slot, unpack(used) }
";

/// `ARGV` is the call's id, and for each key its kind, the slot in which it was charged, and what is to be added there; more
/// than was charged is added now.
const END: &str = r"
local t = redis.call('TIME')
local slot = math.floor((t[1] * 1000 + math.floor(t[2] / 1000)) / 250)
for i = 1, #KEYS do
  local at, more = ARGV[i * 3], tonumber(ARGV[i * 3 + 1])
  if ARGV[i * 3 - 1] == 'p' then
    redis.call('ZREM', KEYS[i], ARGV[1])
  elseif more < 0 then
    if redis.call('HEXISTS', KEYS[i], at) == 1 then redis.call('HINCRBY', KEYS[i], at, more) end
  elseif more > 0 then
    redis.call('HINCRBY', KEYS[i], slot, more)
    redis.call('PEXPIRE', KEYS[i], 61000)
  end
end
return 0
";

/// A limit of a call, as the server knows it.
#[derive(Debug, Clone)]
struct Window {
    key: String,
    unit: Unit,
    counted: i64,
}

/// What a call holds there. Dropped, it gives everything back.
#[derive(Debug)]
pub struct Held {
    ends: mpsc::Sender<End>,
    id: String,
    slot: i64,
    windows: Vec<Window>,
}

#[derive(Debug)]
struct End {
    id: String,
    slot: i64,
    /// And what is to be added to each.
    windows: Vec<(Window, i64)>,
}

impl Held {
    /// The call has used so many tokens.
    pub fn settle(mut self, tokens: u64) {
        self.end(Some(tokens));
    }

    fn end(&mut self, tokens: Option<u64>) {
        let windows = std::mem::take(&mut self.windows);
        if windows.is_empty() {
            return;
        }
        let more = |window: &Window| match (window.unit, tokens) {
            (Unit::Tokens, tokens) => {
                i64::try_from(tokens.unwrap_or(0)).unwrap_or(i64::MAX).saturating_sub(window.counted)
            }
            (Unit::Requests, None) => -1,
            (Unit::Requests, Some(_)) | (Unit::Parallel, _) => 0,
        };
        let windows = windows.into_iter().map(|window| (window.clone(), more(&window))).collect();
        let _ = self.ends.try_send(End { id: std::mem::take(&mut self.id), slot: self.slot, windows });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// What a call holds there, and what is left of its limits.
pub type Admitted = (Held, Vec<Left>);

/// The server, as long as it can be reached.
pub struct Remote {
    connection: Mutex<Option<ConnectionManager>>,
    ends: mpsc::Sender<End>,
    /// For the task that tells of ends.
    ended: Mutex<Option<mpsc::Receiver<End>>>,
    is_down: AtomicBool,
    /// Not before this slot while it is down.
    ask_again: AtomicU64,
}

impl Default for Remote {
    fn default() -> Self {
        let (ends, ended) = mpsc::channel(MOST_ENDS);
        Remote {
            connection: Mutex::default(),
            ends,
            ended: Mutex::new(Some(ended)),
            is_down: AtomicBool::new(false),
            ask_again: AtomicU64::new(0),
        }
    }
}

impl Remote {
    fn connection(&self) -> Option<ConnectionManager> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks and charges the rates of a call; none where the server cannot be asked.
    pub async fn admit(&self, lines: &[Line], id: &Uuid, tokens: u64, now: Slot) -> Option<Result<Admitted, Refused>> {
        if self.is_down.load(Ordering::Relaxed) && now < self.ask_again.load(Ordering::Relaxed) {
            return None;
        }
        // Of those that come while it is down one a second asks.
        self.ask_again.store(now + 1000 / SLOT_MS, Ordering::Relaxed);
        let mut connection = self.connection()?;
        let id = id.hyphenated().to_string();
        let script = Script::new(ADMIT);
        let mut call = script.prepare_invoke();
        call.arg(&id);
        let mut windows: Vec<(Window, &Line, u64)> = Vec::new();
        for line in lines {
            let subject = &line.subject;
            let units = [(Unit::Requests, line.requests), (Unit::Tokens, line.tokens), (Unit::Parallel, line.parallel)];
            for (unit, limit) in units {
                let Some(limit) = limit else { continue };
                let key = format!("gateway:{}:{}:{}:{}", subject.who.word(), unit.word(), subject.id, subject.sub);
                let counted = if unit == Unit::Tokens { tokens } else { 1 };
                // A call that is larger than the limit passes alone.
                let need = if unit == Unit::Tokens { counted.clamp(1, limit.max(1)) } else { 1 };
                call.key(&key).arg(if unit == Unit::Parallel { "p" } else { "w" }).arg(limit).arg(need);
                let counted = i64::try_from(need).unwrap_or(i64::MAX);
                windows.push((Window { key, unit, counted }, line, limit));
            }
        }
        // A server that answers too late, or to nobody since the caller has gone, charges all the same. Its minute passes;
        // a place among the calls under way would be taken for a quarter of an hour.
        let places = windows.iter().map(|(window, ..)| window).filter(|window| window.unit == Unit::Parallel);
        let mut held = Held { ends: self.ends.clone(), id, slot: 0, windows: places.cloned().collect() };
        let asked = tokio::time::timeout(PATIENCE, call.invoke_async::<Vec<i64>>(&mut connection)).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(e)) => return self.say_down(&e.to_string()),
            Err(_) => return self.say_down("it does not answer in time"),
        };
        if self.is_down.swap(false, Ordering::Relaxed) {
            tracing::info!("limits.redis answers again: rates are counted there");
        }
        let count = |n: &i64| u64::try_from(*n).unwrap_or(0);
        match answer.as_slice() {
            [0, slot, used @ ..] => {
                let left = windows.iter().zip(used).map(|((window, line, limit), used)| Left {
                    who: line.subject.who,
                    unit: window.unit,
                    limit: *limit,
                    left: limit.saturating_sub(count(used).saturating_add(count(&window.counted))),
                    free_at: now + 60_500 / SLOT_MS,
                });
                let left = left.collect();
                held.slot = *slot;
                held.windows = windows.into_iter().map(|(window, ..)| window).collect();
                Some(Ok((held, left)))
            }
            [place, used, wait] => {
                // Nothing was charged.
                held.windows.clear();
                let (window, line, limit) = windows.get(usize::try_from(*place).ok()?.checked_sub(1)?)?;
                let wait = (window.unit != Unit::Parallel && *limit > 0).then(|| now + count(wait) / SLOT_MS + 1);
                Some(Err(Refused::Rate {
                    subject: line.subject.clone(),
                    unit: window.unit,
                    limit: *limit,
                    used: count(used),
                    need: count(&window.counted),
                    at: wait,
                }))
            }
            _ => self.say_down("its answer makes no sense"),
        }
    }

    fn say_down<T>(&self, why: &str) -> Option<T> {
        if !self.is_down.swap(true, Ordering::Relaxed) {
            tracing::warn!("limits.redis: {why}; until it answers each gateway counts its part of the rates in memory");
        }
        None
    }
}

/// Connects to the server, and tells it of calls that have ended; until the process ends.
pub async fn keep(gateway: Arc<Gateway>) {
    let Some(settings) = gateway.live().config.limits.redis.clone() else { return };
    let remote = &gateway.limits.remote;
    let Some(mut ended) = remote.ended.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let connection = loop {
        match connect(&settings).await {
            Ok(connection) => break connection,
            Err(e) => {
                let _: Option<()> = remote.say_down(&e.to_string());
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    *remote.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
    tracing::info!("limits.redis is in use: rates are counted there");
    let script = Script::new(END);
    while let Some(End { id, slot, mut windows }) = ended.recv().await {
        for _ in 0..MOST_TRIES {
            let mut call = script.prepare_invoke();
            call.arg(&id);
            for (window, more) in &windows {
                call.key(&window.key).arg(if window.unit == Unit::Parallel { "p" } else { "w" }).arg(slot).arg(*more);
            }
            let told = tokio::time::timeout(PATIENCE, call.invoke_async::<i64>(&mut connection.clone())).await;
            // What is not told counts as it was set aside, until its minute is over; it may have been heard, so it is not
            // said twice. A place that is free is freed as often as one likes.
            windows.retain(|(window, _)| window.unit == Unit::Parallel);
            if matches!(told, Ok(Ok(_))) || windows.is_empty() {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn connect(to: &Redis) -> RedisResult<ConnectionManager> {
    // The client asks for the one of the process; whoever comes first has set the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let info = match &to.place {
        Place::Url(url) => url.expose_secret().into_connection_info()?,
        Place::Host { host, port, username, password, db, tls } => {
            let address = match tls {
                true => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
                false => ConnectionAddr::Tcp(host.clone(), *port),
            };
            let mut login = RedisConnectionInfo::default().set_db(*db);
            if let Some(name) = username {
                login = login.set_username(name);
            }
            if let Some(password) = password {
                login = login.set_password(password.expose_secret());
            }
            address.into_connection_info()?.set_redis_settings(login)
        }
    };
    let client = match &to.ca_file {
        // Read anew with each try: it may be renewed.
        Some(path) => {
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(tokio::fs::read(path).await?) };
            redis::Client::build_with_tls(info, certificates)?
        }
        None => redis::Client::open(info)?,
    };
    let settings = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_response_timeout(Some(PATIENCE));
    ConnectionManager::new_with_config(client, settings).await
}

//! `kill -9` under load: no call is lost, none is booked twice.

use super::{COST, on_both, priced};
use crate::support::feed::{PATIENCE, pass};
use crate::support::gateway::authorization;
use crate::support::reply::text;
use crate::support::{Gateway, Reply, Setup, Upstream};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 10;
const CALLERS: usize = 6;

/// One call on a connection of its own; whether its answer came whole. The process may go away at any moment.
fn call(to: SocketAddr, id: &str, stream: bool) -> bool {
    let body = format!(r#"{{"model":"small","messages":[{{"role":"user","content":"{id}"}}],"stream":{stream}}}"#);
    let (name, key) = authorization();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\n{name}: {key}\r\nx-request-id: {id}\r\n\
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
    let answer = String::from_utf8_lossy(&answer);
    let end = if stream { "data: [DONE]" } else { r#""total_tokens":17}}"# };
    // A reset behind the last byte takes nothing away.
    drop(exchange);
    answer.starts_with("HTTP/1.1 200") && answer.contains(end)
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

#[test]
fn a_killed_gateway_loses_no_call_and_books_none_twice() {
    on_both(|database| {
        let up = Upstream::script(|seen| match seen.json()["stream"] == true {
            true => (0..20).fold(Reply::stream(), |reply, _| reply.send(&text("word "))).end(),
            false => Reply::whole(),
        });
        let state = tempfile::tempdir().unwrap();
        let (whole, number) = (Arc::new(Mutex::new(HashSet::new())), Arc::new(AtomicUsize::new(0)));
        for round in 0..ROUNDS {
            let mut gateway = Setup::toml(&priced(database, &up)).state(state.path()).start();
            let (to, over) = (gateway.address(), Arc::new(AtomicBool::new(false)));
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| {
                    let (whole, number, over) = (whole.clone(), number.clone(), over.clone());
                    std::thread::spawn(move || {
                        while !over.load(Ordering::Relaxed) {
                            let id = format!("call-{}", number.fetch_add(1, Ordering::Relaxed));
                            if call(to, &id, caller % 3 != 0) {
                                whole.lock().unwrap().insert(id);
                            }
                        }
                    })
                })
                .collect();
            pass(Duration::from_millis(60 + round * 37 % 190));
            gateway.signal("KILL");
            gateway.wait_exit();
            over.store(true, Ordering::Relaxed);
            // Its socket goes with it, and with that the calls that nobody had accepted.
            drop(gateway);
            callers.into_iter().for_each(|caller| caller.join().unwrap());
        }
        let gateway = Setup::toml(&priced(database, &up)).state(state.path()).start();
        let whole = whole.lock().unwrap().clone();
        let content =
            |seen: &crate::support::upstream::Seen| seen.json()["messages"][0]["content"].as_str().unwrap().to_owned();
        let seen: HashSet<String> = up.requests().iter().map(content).collect();
        let end = Instant::now() + PATIENCE;
        let rows = loop {
            let rows = all_rows(&gateway);
            let left = std::fs::read_dir(state.path().join("ledger")).unwrap().count();
            if left == 0 {
                break rows;
            }
            assert!(Instant::now() < end, "{left} files are left; the log:\n{}", gateway.logs());
            pass(Duration::from_millis(50));
        };
        let rows = if rows.is_empty() { rows } else { all_rows(&gateway) };
        check(&gateway, &rows, &whole, &seen);
    });
}

fn check(gateway: &Gateway, rows: &[Value], whole: &HashSet<String>, seen: &HashSet<String>) {
    let mut by_client: HashMap<&str, Vec<&Value>> = HashMap::new();
    for row in rows {
        by_client.entry(row["metadata"]["client_id"].as_str().unwrap()).or_default().push(row);
    }
    let ids: HashSet<&str> = rows.iter().map(|row| row["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rows.len(), "an id is there twice");
    for id in whole {
        let rows = by_client.get(id.as_str()).unwrap_or_else(|| panic!("{id} was answered and has no row"));
        assert_eq!(rows.len(), 1, "{rows:#?}");
        assert_eq!((rows[0]["status"].as_str(), rows[0]["spend"].as_f64()), (Some("success"), Some(COST)), "{id}");
    }
    for id in seen {
        assert_eq!(by_client.get(id.as_str()).map_or(0, Vec::len), 1, "rows of {id}, which the upstream saw");
    }
    let unseen: Vec<&Value> =
        rows.iter().filter(|row| !seen.contains(row["metadata"]["client_id"].as_str().unwrap())).collect();
    assert!(
        unseen.iter().all(|row| ["interrupted", "failure", "cancelled"].contains(&row["status"].as_str().unwrap()))
    );
    let interrupted = rows.iter().filter(|row| row["status"] == "interrupted").count();
    eprintln!(
        "{} answered whole, {} seen upstream, {} rows, {interrupted} interrupted, {} that the upstream did not see",
        whole.len(),
        seen.len(),
        rows.len(),
        unseen.len()
    );
    assert!(whole.len() > 20 && interrupted > 0, "the load was none");
    let nanos = |value: &Value| (value.as_f64().unwrap() * 1e9).round() as i64;
    let sum: i64 = rows.iter().map(|row| nanos(&row["spend"])).sum();
    assert_eq!(nanos(&gateway.get("/global/spend").ok().json()["spend"]), sum);
    let daily = gateway.get("/user/daily/activity").ok().json();
    assert_eq!(nanos(&daily["metadata"]["total_spend"]), sum, "{daily:#}");
    assert_eq!(daily["metadata"]["total_api_requests"].as_u64(), Some(rows.len() as u64));
}

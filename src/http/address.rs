//! Where a call comes from: the peer, or what a proxy that is trusted says of it.

use super::reply::worker;
use crate::config::proxies::Proxies;
use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use std::net::{IpAddr, SocketAddr};

/// Proxies one behind the other; what is said beyond them is not looked at.
const MOST_HOPS: usize = 16;

/// The caller's address. None for a caller at a unix socket of whom no trusted proxy says more.
pub fn of(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr().map(|address| address.ip().to_canonical());
    let Ok(worker) = worker(request) else { return peer };
    let live = worker.gateway.live();
    let trusted = &live.config.server.trusted_proxies;
    if !trusted.trust(peer) {
        return peer;
    }
    said(request.headers(), trusted).or(peer)
}

/// `X-Forwarded-For` from its near end: the first address that is no proxy of ours, else the farthest one.
fn said(headers: &HeaderMap, trusted: &Proxies) -> Option<IpAddr> {
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").map(|line| line.to_str().unwrap_or("")).collect();
    let mut farthest = None;
    for text in lines.iter().rev().flat_map(|line| line.rsplit(',')).take(MOST_HOPS) {
        let Some(ip) = address(text.trim()) else { break };
        farthest = Some(ip);
        if !trusted.trust(farthest) {
            break;
        }
    }
    farthest
}

/// With a port or without, as proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(IpAddr::to_canonical(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn found(lines: &[&str]) -> Option<String> {
        let trusted = Proxies::read(&["10.0.0.0/8".to_owned(), "unix".to_owned()]).unwrap();
        let request = lines.iter().fold(TestRequest::default(), |r, line| r.append_header(("X-Forwarded-For", *line)));
        said(request.to_http_request().headers(), &trusted).map(|ip| ip.to_string())
    }

    #[test]
    fn the_nearest_address_that_is_no_proxy_counts() {
        for (lines, expected) in [
            (&["203.0.113.7"][..], Some("203.0.113.7")),
            // What the caller wrote stands first, and is not believed.
            (&["8.8.8.8, 203.0.113.7"], Some("203.0.113.7")),
            (&["8.8.8.8", "203.0.113.7, 10.0.0.2"], Some("203.0.113.7")),
            (&["10.0.0.1, 10.0.0.2"], Some("10.0.0.1")),
            (&["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (&["203.0.113.7:4711"], Some("203.0.113.7")),
            (&["203.0.113.7, unknown, 10.0.0.2"], Some("10.0.0.2")),
            (&["unknown"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(found(lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn more_than_can_be_looked_at_is_not() {
        let many = format!("8.8.8.8{}", ", 10.0.0.1".repeat(1000));
        assert_eq!(found(&[&many]).as_deref(), Some("10.0.0.1"));
    }
}

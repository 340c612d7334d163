//! Proxies whose word about a caller's address counts: `server.trusted_proxies`.

use std::net::IpAddr;

/// Whom to believe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Whoever may open a unix socket of the gateway.
    unix: bool,
    /// Addresses, and how many of their first bits count.
    networks: Vec<(IpAddr, u8)>,
}

impl Proxies {
    /// Reads `unix`, addresses, and networks such as `10.0.0.0/8`.
    ///
    /// # Errors
    /// The texts that are none of these.
    pub fn read(written: &[String]) -> Result<Proxies, Vec<String>> {
        let mut proxies = Proxies::default();
        let mut wrong = Vec::new();
        for text in written {
            match (text.as_str(), network(text)) {
                ("unix", _) => proxies.unix = true,
                (_, Some(network)) => proxies.networks.push(network),
                _ => wrong.push(text.clone()),
            }
        }
        if wrong.is_empty() { Ok(proxies) } else { Err(wrong) }
    }

    /// Whether this one is believed; a peer without an address came through a unix socket.
    pub fn trust(&self, peer: Option<IpAddr>) -> bool {
        match peer.map(|ip| ip.to_canonical()) {
            None => self.unix,
            Some(ip) => self.networks.iter().any(|(network, bits)| is_within(ip, *network, *bits)),
        }
    }
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
    Some((address, bits))
}

fn is_within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    // A shift by all bits would be none.
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            (ip.to_bits() ^ network.to_bits()).checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            (ip.to_bits() ^ network.to_bits()).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(written: &[&str]) -> Result<Proxies, Vec<String>> {
        Proxies::read(&written.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn an_address_is_within_its_network_and_no_other() {
        let trusted = proxies(&["10.1.0.0/16", "192.168.1.2", "fd00::/8", "unix"]).unwrap();
        for (ip, expected) in [
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("192.168.1.2", true),
            ("::ffff:192.168.1.2", true),
            ("192.168.1.3", false),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(trusted.trust(ip.parse().ok()), expected, "{ip}");
        }
        assert!(trusted.trust(None) && !proxies(&["10.0.0.0/8"]).unwrap().trust(None));
        let everybody = proxies(&["0.0.0.0/0", "::/0"]).unwrap();
        assert!(everybody.trust("8.8.8.8".parse().ok()) && everybody.trust("2001:db8::1".parse().ok()));
        assert!(!Proxies::default().trust("127.0.0.1".parse().ok()));
    }

    #[test]
    fn what_is_no_network_is_named() {
        let wrong = ["10.0.0.0/33", "nginx", "", "10.0.0/8", "::1/129", "10.0.0.0/-1"];
        let written = [&["10.0.0.1"][..], &wrong].concat();
        assert_eq!(proxies(&written).unwrap_err(), wrong);
    }
}

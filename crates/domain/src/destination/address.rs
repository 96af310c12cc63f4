//! The address guard: what counts as public, and what an operator allows beside it.
//!
//! Never: an address of a cloud's metadata service passes because a range or a name covers it; it must be listed itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::Host;

use super::{SplitError, Target, parse_host, split_port};

/// Entries of `outbound.allow`.
const ENTRIES_MAX: usize = 1_000;

/// Metadata services that hand out machine credentials. Azure's is inside public space.
const METADATA_V4: [Ipv4Addr; 9] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 169, 253),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(169, 254, 0, 23),
    Ipv4Addr::new(169, 254, 42, 42),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// Which entry of `outbound.allow` was refused, and what to write instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OutboundError {
    #[error("outbound.allow has {0} entries: at most {ENTRIES_MAX} are possible")]
    TooMany(usize),
    #[error(
        "entry {0} of outbound.allow is no host, address or range: write `host:port`, `host`, or a range such as `10.0.0.0/8`"
    )]
    Entry(usize),
    #[error(
        "entry {0} of outbound.allow has a port that is no number from 1 to 65535: write for example `127.0.0.1:9001`"
    )]
    Port(usize),
    #[error("entry {0} of outbound.allow is a range with host bits: write its first address, such as `10.0.0.0/8`")]
    HostBits(usize),
    #[error("entry {0} of outbound.allow has a wildcard: write each host, or a range")]
    Wildcard(usize),
}

/// What may be reached although it is not public, or not by https.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct OutboundAllow(Vec<Entry>);

#[derive(Clone, PartialEq, Eq)]
enum Entry {
    HostPort(Host<String>, u16),
    Host(Host<String>),
    Range(IpNet),
}

impl OutboundAllow {
    /// Reads `host:port`, `host` or CIDR entries. A range of one address is that address.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, OutboundError> {
        if entries.len() > ENTRIES_MAX {
            return Err(OutboundError::TooMany(entries.len()));
        }
        entries
            .iter()
            .enumerate()
            .map(|(index, text)| Entry::parse(index, text.as_ref()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether this very host and port is listed. Nothing else makes plain http possible.
    pub fn holds(&self, target: &Target) -> bool {
        self.0
            .iter()
            .any(|entry| matches!(entry, Entry::HostPort(host, port) if *host == target.host && *port == target.port))
    }

    /// Whether `address`, the target's own or one its name resolved to, may be dialled.
    pub fn permits(&self, target: &Target, address: IpAddr) -> bool {
        let is_host =
            |host: &Host<String>, port: u16| port == target.port && (*host == target.host || is_address(host, address));
        if is_metadata(address) {
            return self.0.iter().any(|entry| match entry {
                Entry::HostPort(host, port) => *port == target.port && is_address(host, address),
                Entry::Host(host) => is_address(host, address),
                Entry::Range(_) => false,
            });
        }
        is_public(address)
            || self.0.iter().any(|entry| match entry {
                Entry::HostPort(host, port) => is_host(host, *port),
                Entry::Host(host) => is_host(host, target.port),
                Entry::Range(range) => range.contains(&address),
            })
    }
}

impl Entry {
    fn parse(index: usize, text: &str) -> Result<Self, OutboundError> {
        if text.contains('*') {
            return Err(OutboundError::Wildcard(index));
        }
        if text.contains('/') {
            let range: IpNet = text.parse().map_err(|_| OutboundError::Entry(index))?;
            return match range {
                _ if range.prefix_len() == range.max_prefix_len() => Ok(Self::Host(host_of(range.addr()))),
                _ if range.trunc() != range => Err(OutboundError::HostBits(index)),
                _ => Ok(Self::Range(range)),
            };
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Host(host_of(address)));
        }
        let (host, port) = split_port(text).map_err(|wrong| match wrong {
            SplitError::Brackets => OutboundError::Entry(index),
            SplitError::Port => OutboundError::Port(index),
        })?;
        let host = parse_host(host).ok_or(OutboundError::Entry(index))?;
        Ok(match port {
            Some(port) => Self::HostPort(host, port),
            None => Self::Host(host),
        })
    }
}

impl fmt::Debug for OutboundAllow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|entry| match entry {
                Entry::HostPort(host, port) => format!("{host}:{port}"),
                Entry::Host(host) => host.to_string(),
                Entry::Range(range) => range.to_string(),
            }))
            .finish()
    }
}

fn host_of(address: IpAddr) -> Host<String> {
    match address {
        IpAddr::V4(address) => Host::Ipv4(address),
        IpAddr::V6(address) => Host::Ipv6(address),
    }
}

fn is_address(host: &Host<String>, address: IpAddr) -> bool {
    host_of(address) == *host
}

/// Whether the address is a cloud's metadata service, also inside an IPv6 form.
pub fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => METADATA_V4.contains(&address),
        IpAddr::V6(address) => {
            METADATA_V6.contains(&address) || embedded(address).iter().any(|inner| METADATA_V4.contains(inner))
        }
    }
}

/// Whether the address is reachable by everybody: no private, local, shared, reserved, documentation or multicast address, no
/// metadata service, and no IPv6 form of one.
pub fn is_public(address: IpAddr) -> bool {
    !is_metadata(address)
        && match address {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => is_public_v6(address),
        }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

/// Only global unicast (2000::/3), and IPv4 that is mapped or reached through NAT64.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            embedded(address).iter().all(|inner| is_public_v4(*inner))
        }
        // IETF protocols (Teredo, ORCHID, benchmarking), documentation, 6to4.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

/// IPv4 addresses inside this one: mapped, compatible, NAT64, 6to4; Teredo's server and client.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let at = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0 | 0xffff, 0 | 0xffff, high, low]
        | [0x64, 0xff9b, _, _, _, _, high, low]
        | [0x2002, high, low, ..] => vec![at(high, low)],
        [0x2001, 0, server_high, server_low, _, _, high, low] => vec![at(server_high, server_low), at(!high, !low)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        for text in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fdff::1",
            "ff02::1",
            "2001::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2002::1",
            "2002:808:808::1",
            "3fff::1",
            "3fff:fff::1",
            "100::1",
            "5f00::1",
            "64:ff9b:1::8.8.8.8",
            "::8.8.8.8",
            "::ffff:10.0.0.1",
            "::ffff:0:8.8.8.8",
            "64:ff9b::192.168.1.1",
            "64:ff9b::168.63.129.16",
            "4000::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.0.0.0",
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.0.3.1",
            "192.88.98.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.1",
            "203.0.112.1",
            "203.0.114.1",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2001:db7:ffff::1",
            "2001:db9::1",
            "2003::1",
            "2606:4700::1111",
            "3ffe::1",
            "3fff:1000::1",
            "64:ff9b::8.8.8.8",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "fd00:ec2::254",
        ] {
            assert!(is_metadata(text.parse().unwrap()), "{text}");
        }
    }
}

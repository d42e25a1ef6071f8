//! Addresses as text, and what becomes of the seeds.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use super::id::NodeId;

/// Where a node listens or can be reached: what `listen`, `advertise` and `seed` take.
///
/// Made from a [`SocketAddr`], an IP address with a port, or text: `"10.0.0.1:4001"`,
/// `"[::1]:4001"`, `"hub-0.hub:4001"`, a multiaddr (`"/ip4/0.0.0.0/tcp/4001"`,
/// `"/dns4/hub-0.hub/tcp/4001"`, `"/dnsaddr/example.org"`, each with a trailing `/p2p/<peer id>`
/// if one is known), the name of an SRV record (`"_hub._tcp.example.org"`, for seeds), or
/// `"/memory/<n>"` on a network inside the process. What is wrong with a text is told when the
/// hub starts.
///
/// ```
/// use std::net::{Ipv4Addr, SocketAddr};
/// use actix_hub::Endpoint;
///
/// let all = Endpoint::from((Ipv4Addr::UNSPECIFIED, 4001));
/// assert_eq!(all.multiaddr().unwrap(), "/ip4/0.0.0.0/tcp/4001");
/// let socket: SocketAddr = "[::1]:4001".parse().unwrap();
/// assert_eq!(Endpoint::from(socket), Endpoint::from("[::1]:4001"));
/// assert_eq!(Endpoint::from("hub-0.hub:4001").multiaddr().unwrap(), "/dns/hub-0.hub/tcp/4001");
/// assert!(Endpoint::from("hub-0.hub").multiaddr().unwrap_err().contains("port"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    given: String,
    multiaddr: Result<String, String>,
}

impl Endpoint {
    /// The multiaddr, or the name of the SRV record. Not checked any further.
    ///
    /// # Errors
    /// What is wrong with the text that it was made from.
    pub fn multiaddr(&self) -> Result<&str, &str> {
        self.multiaddr.as_deref().map_err(String::as_str)
    }
}

impl fmt::Display for Endpoint {
    /// As it was given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.given).finish()
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let (ip, port) = (address.ip(), address.port());
        Self { given: multiaddr(ip, port), multiaddr: Ok(multiaddr(ip, port)) }
    }
}

impl From<SocketAddrV4> for Endpoint {
    fn from(address: SocketAddrV4) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<SocketAddrV6> for Endpoint {
    fn from(address: SocketAddrV6) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(IpAddr, u16)> for Endpoint {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(Ipv4Addr, u16)> for Endpoint {
    fn from(address: (Ipv4Addr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(Ipv6Addr, u16)> for Endpoint {
    fn from(address: (Ipv6Addr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<&str> for Endpoint {
    fn from(text: &str) -> Self {
        // The multiaddr is what is shown, so that equal endpoints look alike.
        let multiaddr = parse(text);
        Self { given: multiaddr.clone().unwrap_or_else(|_| text.to_owned()), multiaddr }
    }
}

impl From<&String> for Endpoint {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for Endpoint {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

fn parse(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(multiaddr(address.ip(), address.port()));
    }
    if is_service(text) && is_name(text) {
        return Ok(text.to_owned());
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("it has no port: host:port, [IPv6]:port or a multiaddr is expected".to_owned());
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err(format!("{port:?} is no port"));
    };
    if host.contains(':') {
        return Err("an IPv6 address stands in brackets before a port: [::1]:4001".to_owned());
    }
    if !is_name(host) {
        return Err(format!("{host:?} is neither an IP address nor a name"));
    }
    Ok(format!("/dns/{host}/tcp/{port}"))
}

/// The multiaddr of an IP address and a TCP port.
#[must_use]
pub(crate) fn multiaddr(ip: IpAddr, port: u16) -> String {
    match ip {
        IpAddr::V4(ip) => format!("/ip4/{ip}/tcp/{port}"),
        IpAddr::V6(ip) => format!("/ip6/{ip}/tcp/{port}"),
    }
}

/// Whether it is the name of an SRV record: `_service._proto.name`.
#[must_use]
pub(crate) fn is_service(text: &str) -> bool {
    let mut labels = text.split('.');
    let is_marked = |label: Option<&str>| label.is_some_and(|l| l.len() > 1 && l.starts_with('_'));
    is_marked(labels.next()) && is_marked(labels.next()) && labels.next().is_some()
}

/// Whether it can be a host's name; digits alone cannot, they are a mistyped IP address.
fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let is_fit = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_fit)
    };
    name.len() <= 253
        && name.split('.').all(is_label)
        && name.bytes().any(|c| !c.is_ascii_digit() && c != b'.')
}

/// The parts of a multiaddr that matter here: IP address or name, and TCP port.
fn parts(address: &str) -> Option<(&str, &str, Option<u16>)> {
    let mut parts = address.strip_prefix('/')?.split('/');
    let (protocol, host) = (parts.next()?, parts.next()?);
    let port = match parts.next() {
        Some("tcp") => parts.next().and_then(|port| port.parse().ok()),
        _ => None,
    };
    Some((protocol, host, port))
}

/// The IP address of a multiaddr that begins with one.
#[must_use]
pub(crate) fn ip_of(address: &str) -> Option<IpAddr> {
    match parts(address)? {
        ("ip4", host, _) => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        ("ip6", host, _) => {
            let ip = host.parse::<Ipv6Addr>().ok()?;
            Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4))
        }
        _ => None,
    }
}

/// The port of a multiaddr that begins with a host and a port.
#[must_use]
pub(crate) fn port_of(address: &str) -> Option<u16> {
    parts(address)?.2
}

/// Whether a multiaddr leads back to the machine that dials it.
#[must_use]
pub(crate) fn is_loopback(address: &str) -> bool {
    match parts(address) {
        Some(("dns" | "dns4" | "dns6", host, _)) => {
            let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
        _ => ip_of(address).is_some_and(|ip| ip.is_loopback()),
    }
}

/// Whether a multiaddr stands for all interfaces.
#[must_use]
pub(crate) fn is_wildcard(address: &str) -> bool {
    ip_of(address).is_some_and(|ip| ip.is_unspecified())
}

/// Whether it is an address of a network inside the process.
#[must_use]
pub(crate) fn is_memory(address: &str) -> bool {
    address == "/memory" || address.starts_with("/memory/")
}

/// Checks that an address that a node advertises leads to it.
///
/// # Errors
/// Why it does not.
pub(crate) fn check_advertised(address: &str) -> Result<(), String> {
    if is_service(address) {
        return Err("an SRV record names many nodes; advertise the address of this one".to_owned());
    }
    check_dialled(address)
}

/// Checks that an address leads somewhere.
///
/// # Errors
/// Why it does not.
pub(crate) fn check_dialled(address: &str) -> Result<(), String> {
    if is_wildcard(address) {
        return Err(
            "it stands for all interfaces of a machine and leads nobody there; an address \
                    that can be dialled is expected"
                .to_owned(),
        );
    }
    if matches!(parts(address), Some((_, _, Some(0)))) {
        return Err(
            "nobody can dial port 0; the port on which the node listens is expected".to_owned()
        );
    }
    Ok(())
}

/// What came of a seed.
///
/// A name is many nodes: [`Itself`](Self::Itself) counts above [`Reached`](Self::Reached), and
/// both above [`Failed`](Self::Failed).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeedOutcome {
    /// Nothing yet: it is being dialled for the first time.
    #[default]
    Untried,
    /// It is this node itself, or one of the addresses of the name is.
    Itself,
    /// This node answered there.
    Reached(NodeId),
    /// Nobody did: the last error of each of its addresses.
    Failed(String),
}

impl fmt::Display for SeedOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untried => f.write_str("not tried yet"),
            Self::Itself => f.write_str("it is this node itself"),
            Self::Reached(node) => write!(f, "{node} answers"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_becomes_a_multiaddr() {
        for (given, expected) in [
            ("10.0.0.1:4001", "/ip4/10.0.0.1/tcp/4001"),
            ("[::1]:4001", "/ip6/::1/tcp/4001"),
            ("hub-0.hub:4001", "/dns/hub-0.hub/tcp/4001"),
            ("localhost:0", "/dns/localhost/tcp/0"),
            ("/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/tcp/4001"),
            ("/memory/7", "/memory/7"),
            ("_hub._tcp.example.org", "_hub._tcp.example.org"),
        ] {
            assert_eq!(Endpoint::from(given).multiaddr(), Ok(expected), "{given}");
        }
        let ip: IpAddr = "fd00::1".parse().expect("an address");
        assert_eq!(Endpoint::from((ip, 1)).multiaddr(), Ok("/ip6/fd00::1/tcp/1"));
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        for (given, reason) in [
            ("", "no port"),
            ("hub-0.hub", "no port"),
            ("10.0.0.1", "no port"),
            ("_hub.example.org", "no port"),
            ("hub:http", "no port"),
            ("hub:70000", "70000"),
            ("::1:4001", "brackets"),
            ("10.0.0.300:1", "neither"),
            ("a b:1", "neither"),
            (":4001", "neither"),
        ] {
            let error = Endpoint::from(given).multiaddr().expect_err(given).to_owned();
            assert!(error.contains(reason), "{given}: {error}");
        }
    }

    #[test]
    fn loopback_is_known_in_all_its_forms() {
        for address in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/127.9.9.9/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/0:0:0:0:0:0:0:1/tcp/1",
            "/ip6/::ffff:127.0.0.1/tcp/1",
            "/dns4/localhost/tcp/1",
            "/dns/Localhost./tcp/1",
            "/dns/a.localhost/tcp/1",
        ] {
            assert!(is_loopback(address), "{address}");
        }
        for address in [
            "/ip4/10.0.0.1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/dns/localhost.example/tcp/1",
            "/memory/1",
        ] {
            assert!(!is_loopback(address), "{address}");
        }
    }

    #[test]
    fn an_advertised_address_must_lead_somewhere() {
        for (address, reason) in [
            ("/ip4/0.0.0.0/tcp/4001", "all interfaces"),
            ("/ip6/::/tcp/4001", "all interfaces"),
            ("/ip4/10.0.0.1/tcp/0", "port 0"),
            ("/dns4/hub/tcp/0", "port 0"),
            ("_hub._tcp.example.org", "SRV"),
        ] {
            let error = check_advertised(address).expect_err(address);
            assert!(error.contains(reason), "{address}: {error}");
        }
        for address in ["/ip4/10.0.0.1/tcp/1", "/dns4/hub/tcp/4001", "/memory/0", "/memory/3"] {
            assert_eq!(check_advertised(address), Ok(()), "{address}");
        }
    }
}

//! Names of seeds: hosts file, DNS (A, AAAA), `dnsaddr` (TXT) and services (SRV).
//!
//! Nothing is kept between two questions: the files are read and the servers asked each time, so
//! that a name that is resolved again shows what changed. Who uses IP addresses needs neither file.

use std::{
    collections::VecDeque,
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RData, RecordType},
    },
};
use libp2p::{Multiaddr, multiaddr::Protocol};

use super::parse_address;
use crate::{
    model::{
        address::{is_service, multiaddr},
        id::NodeId,
    },
    net::carrier::RESOLVED,
};

/// What a `dnsaddr` record's text begins with.
const DNSADDR: &str = "dnsaddr=";
/// So many questions are asked for one seed at most: the answers may name each other in rings.
const QUESTIONS: usize = 32;

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Any,
    V4,
    V6,
}

/// Where the name servers are told.
enum Servers {
    /// In a file, or in what the system has instead.
    File(PathBuf),
    #[cfg(test)]
    Given(ResolverConfig),
}

/// Resolves names for one node.
pub(in crate::net) struct Resolver {
    hosts: PathBuf,
    servers: Servers,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), servers: Servers::File("/etc/resolv.conf".into()) }
    }
}

impl Resolver {
    /// With this hosts file and no name servers.
    #[cfg(test)]
    pub(in crate::net) fn with_hosts(hosts: PathBuf) -> Self {
        Self { hosts, servers: Servers::File("/nonexistent/resolv.conf".into()) }
    }

    /// The addresses without names that an address or the name of a service stands for, at most
    /// [`RESOLVED`], each with its peer id if one is known. The caller bounds the time.
    pub(super) async fn resolve(&self, text: &str) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let mut error = None;
        let mut questions = 0;
        let mut open = VecDeque::new();
        if is_service(text) {
            questions += 1;
            open.extend(self.service(text).await?.into_iter().map(|address| (address, None)));
        } else {
            open.push_back(parse_address(text)?);
        }
        while let Some((address, node)) = open.pop_front() {
            let answer = match named(&address) {
                None => {
                    let mut text = address.to_string();
                    if let Some(node) = node {
                        text = format!("{text}/p2p/{node}");
                    }
                    if found.len() < RESOLVED && !found.contains(&text) {
                        found.push(text);
                    }
                    continue;
                }
                Some(_) if questions >= QUESTIONS => {
                    error = Some(format!("{text} leads to more than {QUESTIONS} names"));
                    break;
                }
                Some(Named::Host(name, family, port)) => {
                    let ips = self.host(&name, family).await;
                    ips.map(|ips| ips.into_iter().map(|ip| (tcp(ip, port), node)).collect())
                }
                Some(Named::Dnsaddr(name)) => self.dnsaddr(&name, node).await,
            };
            questions += 1;
            match answer {
                Ok(addresses) => open.extend(addresses.into_iter().take(RESOLVED)),
                Err(failed) => error = Some(failed),
            }
        }
        match error {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// The addresses of a host: hosts file, loopback's own name, DNS.
    async fn host(&self, text: &str, family: Family) -> Result<Vec<IpAddr>, String> {
        let name = Name::from_utf8(text).map_err(|error| format!("{text}: {error}"))?;
        let mut ips = self.in_hosts(&name, family);
        if ips.is_empty() && is_localhost(text) {
            ips = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            ips.retain(|ip| fits(*ip, family));
        }
        if !ips.is_empty() {
            return Ok(ips);
        }
        let strategy = match family {
            Family::Any => LookupIpStrategy::Ipv4AndIpv6,
            Family::V4 => LookupIpStrategy::Ipv4Only,
            Family::V6 => LookupIpStrategy::Ipv6Only,
        };
        let answer = self.dns(text, strategy)?.lookup_ip(text).await;
        let ips = answer.map_err(|error| told(text, &error))?;
        Ok(ips.iter().filter(|ip| fits(*ip, family)).collect())
    }

    fn in_hosts(&self, name: &Name, family: Family) -> Vec<IpAddr> {
        let mut hosts = Hosts::default();
        // Without the file, or with one that breaks off, what was read counts.
        if let Ok(file) = File::open(&self.hosts) {
            let _ = hosts.read_hosts_conf(file);
        }
        let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let lookups = [of(RecordType::A), of(RecordType::AAAA)];
        let records = lookups.iter().flatten().flat_map(|lookup| lookup.answers());
        let ips = records.filter_map(|record| record.data.ip_addr());
        ips.filter(|ip| fits(*ip, family)).collect()
    }

    /// The addresses that `dnsaddr` records name; of this node if one is given.
    async fn dnsaddr(
        &self,
        name: &str,
        node: Option<NodeId>,
    ) -> Result<Vec<(Multiaddr, Option<NodeId>)>, String> {
        let record = format!("_dnsaddr.{name}");
        let dns = self.dns(&record, LookupIpStrategy::default())?;
        let answer = dns.txt_lookup(record.as_str()).await;
        let answer = answer.map_err(|error| told(&record, &error))?;
        let texts = answer.answers().iter().filter_map(|found| match &found.data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        });
        let addresses: Vec<_> = texts
            .filter_map(|text| String::from_utf8(text).ok())
            .filter_map(|text| parse_address(text.strip_prefix(DNSADDR)?).ok())
            .filter(|(_, named)| node.is_none() || *named == node)
            .collect();
        if addresses.is_empty() {
            return Err(format!("{record} has no text of the form {DNSADDR}<multiaddr>"));
        }
        Ok(addresses)
    }

    /// The hosts and ports of a service, those of the lowest priority first.
    async fn service(&self, name: &str) -> Result<Vec<Multiaddr>, String> {
        let answer = self.dns(name, LookupIpStrategy::default())?.srv_lookup(name).await;
        let answer = answer.map_err(|error| told(name, &error))?;
        let mut services: Vec<_> = answer
            .answers()
            .iter()
            .filter_map(|found| match &found.data {
                RData::SRV(service) => Some(service),
                _ => None,
            })
            .collect();
        services.sort_by_key(|service| service.priority);
        let hosts: Vec<Multiaddr> = services
            .into_iter()
            .map(|service| {
                let host = service.target.to_utf8();
                Multiaddr::empty()
                    .with(Protocol::Dns(host.into()))
                    .with(Protocol::Tcp(service.port))
            })
            .collect();
        if hosts.is_empty() {
            return Err(format!("{name} has no SRV records"));
        }
        Ok(hosts)
    }

    /// Asks the servers that are configured at this moment.
    fn dns(&self, name: &str, strategy: LookupIpStrategy) -> Result<TokioResolver, String> {
        let (config, mut options) = self.servers(name)?;
        options.ip_strategy = strategy;
        // That was looked at before.
        options.use_hosts_file = ResolveHosts::Never;
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| format!("{name} cannot be resolved: {error}"))
    }

    fn servers(&self, name: &str) -> Result<(ResolverConfig, ResolverOpts), String> {
        match &self.servers {
            Servers::File(path) => read_servers(path)
                .map_err(|error| format!("{name} cannot be resolved: {}: {error}", path.display())),
            #[cfg(test)]
            Servers::Given(config) => Ok((config.clone(), ResolverOpts::default())),
        }
    }
}

#[cfg(all(unix, not(target_vendor = "apple")))]
fn read_servers(path: &std::path::Path) -> Result<(ResolverConfig, ResolverOpts), String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    hickory_resolver::system_conf::parse_resolv_conf(text).map_err(|error| error.to_string())
}

#[cfg(not(all(unix, not(target_vendor = "apple"))))]
fn read_servers(_: &std::path::Path) -> Result<(ResolverConfig, ResolverOpts), String> {
    hickory_resolver::system_conf::read_system_conf().map_err(|error| error.to_string())
}

/// A name that an address begins with.
enum Named {
    Host(String, Family, u16),
    Dnsaddr(String),
}

fn named(address: &Multiaddr) -> Option<Named> {
    let mut parts = address.iter();
    let (name, family) = match parts.next()? {
        Protocol::Dns(name) => (name, Family::Any),
        Protocol::Dns4(name) => (name, Family::V4),
        Protocol::Dns6(name) => (name, Family::V6),
        Protocol::Dnsaddr(name) => return Some(Named::Dnsaddr(name.into_owned())),
        _ => return None,
    };
    let port = match parts.next() {
        Some(Protocol::Tcp(port)) => port,
        _ => 0,
    };
    Some(Named::Host(name.into_owned(), family, port))
}

fn tcp(ip: IpAddr, port: u16) -> Multiaddr {
    multiaddr(ip, port).parse().expect("an IP address and a port are a multiaddr")
}

fn fits(ip: IpAddr, family: Family) -> bool {
    match family {
        Family::Any => true,
        Family::V4 => ip.is_ipv4(),
        Family::V6 => ip.is_ipv6(),
    }
}

fn is_localhost(name: &str) -> bool {
    crate::model::address::is_loopback(&format!("/dns/{name}"))
}

fn told(name: &str, error: &NetError) -> String {
    if error.is_nx_domain() {
        format!("there is no name {name}")
    } else if error.is_no_records_found() {
        format!("the name {name} has no such records")
    } else {
        format!("{name} cannot be resolved: {error}")
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

    use hickory_resolver::{
        config::NameServerConfig,
        proto::{
            op::{Message, ResponseCode},
            rr::{
                Record,
                rdata::{A, AAAA, SRV, TXT},
            },
        },
    };
    use tokio::{net::UdpSocket, task::JoinHandle};

    use super::*;

    /// A file in the temporary folder that is gone when it is dropped.
    struct TempFile(PathBuf);

    impl TempFile {
        fn new(name: &str, text: &str) -> Self {
            let file = format!("actix-hub-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(file);
            let mut file = File::create(&path).expect("a file");
            file.write_all(text.as_bytes()).expect("it is written");
            Self(path)
        }
    }

    impl Drop for TempFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// A name server on loopback that knows these records, and counts what it is asked.
    struct Server {
        address: SocketAddr,
        task: JoinHandle<()>,
        asked: Arc<std::sync::atomic::AtomicUsize>,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    impl Server {
        async fn start(records: Vec<Record>) -> Self {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let address = socket.local_addr().expect("an address");
            let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let counted = Arc::clone(&asked);
            let task = tokio::spawn(async move {
                let mut buffer = [0; 4_096];
                while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                    let Ok(request) = Message::from_vec(&buffer[..length]) else { continue };
                    counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let mut reply =
                        Message::response(request.metadata.id, request.metadata.op_code);
                    reply.metadata.recursion_available = true;
                    for query in &request.queries {
                        reply.add_query(query.clone());
                        let is_known = records.iter().any(|record| record.name == *query.name());
                        if !is_known {
                            reply.metadata.response_code = ResponseCode::NXDomain;
                        }
                        for record in &records {
                            let same_type = record.record_type() == query.query_type();
                            if record.name == *query.name() && same_type {
                                reply.add_answer(record.clone());
                            }
                        }
                    }
                    let bytes = reply.to_vec().expect("a message");
                    let _ = socket.send_to(&bytes, from).await;
                }
            });
            Self { address, task, asked }
        }

        fn resolver(&self) -> Resolver {
            let mut server = NameServerConfig::udp(self.address.ip());
            server.connections[0].port = self.address.port();
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            Resolver { hosts: "/nonexistent/hosts".into(), servers: Servers::Given(config) }
        }
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn record(of: &str, data: RData) -> Record {
        Record::from_rdata(name(of), 60, data)
    }

    fn a(of: &str, ip: [u8; 4]) -> Record {
        record(of, RData::A(A(ip.into())))
    }

    fn txt(of: &str, text: &str) -> Record {
        record(of, RData::TXT(TXT::new(vec![text.to_owned()])))
    }

    async fn resolve(resolver: &Resolver, seed: &str) -> Result<Vec<String>, String> {
        tokio::time::timeout(Duration::from_secs(30), resolver.resolve(seed))
            .await
            .expect("in time")
    }

    #[tokio::test]
    async fn a_name_stands_for_all_its_addresses_of_the_family_that_is_asked_for() {
        let v6 = RData::AAAA(AAAA("fd00::1".parse().expect("an address")));
        let records = vec![
            a("hub.test.", [10, 0, 0, 1]),
            a("hub.test.", [10, 0, 0, 2]),
            record("hub.test.", v6),
        ];
        let server = Server::start(records).await;
        let resolver = server.resolver();
        let v4 = ["/ip4/10.0.0.1/tcp/4001", "/ip4/10.0.0.2/tcp/4001"];
        let v6 = "/ip6/fd00::1/tcp/4001";
        let sorted = |mut found: Vec<String>| {
            found.sort();
            found
        };
        let found = resolve(&resolver, "/dns/hub.test/tcp/4001").await.expect("it is there");
        assert_eq!(sorted(found), [v4[0], v4[1], v6]);
        let found = resolve(&resolver, "/dns4/hub.test/tcp/4001").await.expect("it is there");
        assert_eq!(sorted(found), v4);
        let asked = server.asked.load(std::sync::atomic::Ordering::Relaxed);
        let found = resolve(&resolver, "/dns6/hub.test/tcp/4001").await.expect("it is there");
        assert_eq!(found, [v6]);
        // It is asked each time.
        assert!(server.asked.load(std::sync::atomic::Ordering::Relaxed) > asked);
        let id = NodeId::from_key([1; 32]);
        let found = resolve(&resolver, &format!("/dns6/hub.test/tcp/1/p2p/{id}")).await;
        assert_eq!(found, Ok(vec![format!("/ip6/fd00::1/tcp/1/p2p/{id}")]));
    }

    #[tokio::test]
    async fn a_service_stands_for_its_hosts_by_priority() {
        let service = |priority, port, host: &str| {
            record("_hub._tcp.test.", RData::SRV(SRV::new(priority, 1, port, name(host))))
        };
        let server = Server::start(vec![
            service(2, 4002, "b.test."),
            service(1, 4001, "a.test."),
            a("a.test.", [10, 0, 0, 1]),
            a("b.test.", [10, 0, 0, 2]),
        ])
        .await;
        let found = resolve(&server.resolver(), "_hub._tcp.test").await.expect("it is there");
        assert_eq!(found, ["/ip4/10.0.0.1/tcp/4001", "/ip4/10.0.0.2/tcp/4002"]);
    }

    #[tokio::test]
    async fn dnsaddr_records_are_followed_and_rings_of_them_end() {
        let id = NodeId::from_key([2; 32]);
        let server = Server::start(vec![
            txt("_dnsaddr.hub.test.", &format!("dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/{id}")),
            txt("_dnsaddr.hub.test.", "dnsaddr=/dns4/a.test/tcp/2"),
            txt("_dnsaddr.hub.test.", "v=spf1 -all"),
            a("a.test.", [10, 0, 0, 2]),
            txt("_dnsaddr.ring.test.", "dnsaddr=/dnsaddr/ring.test"),
            txt("_dnsaddr.other.test.", "v=spf1 -all"),
        ])
        .await;
        let resolver = server.resolver();
        let found = resolve(&resolver, "/dnsaddr/hub.test").await.expect("it is there");
        let first = format!("/ip4/10.0.0.1/tcp/1/p2p/{id}");
        assert_eq!(found, [first.as_str(), "/ip4/10.0.0.2/tcp/2"]);
        let found = resolve(&resolver, &format!("/dnsaddr/hub.test/p2p/{id}")).await;
        assert_eq!(found, Ok(vec![first]));
        let error = resolve(&resolver, "/dnsaddr/ring.test").await.expect_err("a ring");
        assert!(error.contains("more than 32 names"), "{error}");
        let error = resolve(&resolver, "/dnsaddr/other.test").await.expect_err("no address");
        assert!(error.contains("_dnsaddr.other.test") && error.contains("dnsaddr="), "{error}");
    }

    #[tokio::test]
    async fn an_answer_is_bounded() {
        let mut records = Vec::new();
        for host in 0..5 {
            let target = format!("{host}.test.");
            let service = RData::SRV(SRV::new(1, 1, 4001, name(&target)));
            records.push(record("_hub._tcp.test.", service));
            records.extend((0..20).map(|n| a(&target, [10, 0, host, n])));
        }
        let server = Server::start(records).await;
        let found = resolve(&server.resolver(), "_hub._tcp.test").await.expect("it is there");
        assert_eq!(found.len(), RESOLVED);
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_is_named() {
        let server = Server::start(vec![a("a.test.", [10, 0, 0, 1])]).await;
        let resolver = server.resolver();
        for seed in ["/dns/typo.test/tcp/1", "_hub._tcp.typo.test", "/dnsaddr/typo.test"] {
            let error = resolve(&resolver, seed).await.expect_err(seed);
            assert!(error.contains("there is no name") && error.contains("typo.test"), "{error}");
        }
        let error = resolve(&resolver, "/dns6/a.test/tcp/1").await.expect_err("no such address");
        assert!(error.contains("a.test") && error.contains("no such records"), "{error}");
    }

    #[tokio::test]
    async fn the_hosts_file_and_localhost_need_no_server() {
        let hosts = TempFile::new("hosts", "10.0.0.1 hub hub-0.hub\n10.0.0.2 hub\nfd00::1 hub\n");
        let resolver = Resolver::with_hosts(hosts.0.clone());
        let found = resolve(&resolver, "/dns4/hub/tcp/1").await.expect("it is in the file");
        assert_eq!(found, ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"]);
        let found = resolve(&resolver, "/dns/HUB-0.hub/tcp/1").await.expect("it is in the file");
        assert_eq!(found, ["/ip4/10.0.0.1/tcp/1"]);
        let found = resolve(&resolver, "/dns/localhost/tcp/1").await.expect("it is everywhere");
        assert_eq!(found, ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"]);
        let found = resolve(&resolver, "/ip4/10.0.0.9/tcp/1").await.expect("it is no name");
        assert_eq!(found, ["/ip4/10.0.0.9/tcp/1"]);
    }

    #[tokio::test]
    async fn the_error_of_a_missing_or_broken_file_names_it() {
        let empty = TempFile::new("empty", "");
        let broken = TempFile::new("broken", "nameserver nowhere\n\u{0}\u{1}garbage\n");
        for path in [PathBuf::from("/nonexistent/resolv.conf"), empty.0.clone(), broken.0.clone()] {
            let servers = Servers::File(path.clone());
            let resolver = Resolver { hosts: "/nonexistent/hosts".into(), servers };
            let error = resolve(&resolver, "/dns/hub.test/tcp/1").await.expect_err("no server");
            assert!(error.contains(path.to_str().expect("a path")), "{error}");
            assert!(error.contains("hub.test"), "{error}");
            let found = resolve(&resolver, "/ip4/10.0.0.1/tcp/1").await;
            assert_eq!(found, Ok(vec!["/ip4/10.0.0.1/tcp/1".to_owned()]));
        }
    }
}

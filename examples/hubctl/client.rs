//! Requests to the endpoint.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use serde::de::DeserializeOwned;
use ureq::{
    Agent, Body,
    http::{Response, header},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use crate::{
    options::Token,
    problem::{Failure, Problem},
    text::{encode, escape},
};

/// The longest reply, in bytes: a page of 1,000 children takes a few hundred kilobytes.
const LONGEST: u64 = 64 << 20;
/// A stream that is silent for longer is broken: the endpoint sends a comment each 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// The admin endpoint of a node.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
    token: Option<Token>,
    timeout: Duration,
}

/// What is to be done. Sent with the header that no page of another origin can send.
#[derive(Debug)]
pub(crate) enum Action {
    Post { path: String, body: Option<String> },
    Delete { path: String },
}

/// A reply as it came.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) body: String,
    /// To ask later whether it is still the same.
    pub(crate) tag: Option<String>,
    url: String,
}

impl Reply {
    /// What it says.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.body).map_err(|error| Failure::Odd {
            url: self.url.clone(),
            reason: escape(&error.to_string()).into_owned(),
        })
    }
}

impl Client {
    /// With certificates that are `trusted` instead of the usual ones.
    pub(crate) fn new(
        url: &str,
        token: Option<Token>,
        timeout: Duration,
        trusted: Option<Vec<Certificate<'static>>>,
    ) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // An idle connection may be closed while the user thinks, and an action is sent once.
            .max_idle_connections(0)
            .user_agent(concat!("hubctl/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(timeout));
        let config = match trusted {
            Some(trusted) => {
                let roots = RootCerts::from(trusted);
                config.tls_config(TlsConfig::builder().root_certs(roots).build())
            }
            None => config,
        };
        // A proxy has another loopback than this machine.
        let config = if is_loopback(url) { config.proxy(None) } else { config };
        Self { agent: config.build().into(), url: url.to_owned(), token, timeout }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Reads `path`, which may have a query.
    pub(crate) fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.get_if_changed(path, None).map(|reply| reply.expect("no condition was sent"))
    }

    /// Reads `path`; `None` if it is still what had this tag.
    pub(crate) fn get_if_changed(
        &self,
        path: &str,
        tag: Option<&str>,
    ) -> Result<Option<Reply>, Failure> {
        let mut request = self.agent.get(self.at(path)).header(header::ACCEPT, "application/json");
        if let Some(token) = self.bearer() {
            request = request.header(header::AUTHORIZATION, token);
        }
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        match self.answered(request.call())? {
            response if response.status() == 304 && tag.is_some() => Ok(None),
            response => self.reply(response).map(Some),
        }
    }

    /// Does it, or only asks what would be done.
    pub(crate) fn act(&self, action: &Action, dry_run: bool) -> Result<Reply, Failure> {
        let query = if dry_run { "?dry_run=true" } else { "" };
        let headers = [
            (header::ACCEPT, Some("application/json".to_owned())),
            (header::AUTHORIZATION, self.bearer()),
            (header::HeaderName::from_static("x-actix-hub"), Some("1".to_owned())),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let answer = match action {
            Action::Post { path, body } => {
                let request = self.agent.post(self.at(&format!("{path}{query}")));
                let request =
                    headers.fold(request, |request, (name, value)| request.header(name, value));
                match body {
                    Some(body) => request.content_type("application/json").send(body),
                    None => request.send_empty(),
                }
            }
            Action::Delete { path } => {
                let request = self.agent.delete(self.at(&format!("{path}{query}")));
                headers.fold(request, |request, (name, value)| request.header(name, value)).call()
            }
        };
        self.answered(answer).and_then(|response| self.reply(response))
    }

    /// Opens the stream of events that fit the filter: the last `replay` of them first, or all behind
    /// `last_id`.
    pub(crate) fn events(
        &self,
        filter: &Parameters,
        replay: u32,
        last_id: Option<&str>,
    ) -> Result<Stream, Failure> {
        let replay = last_id.is_none().then(|| replay.to_string());
        let parameters: Parameters =
            [("replay", replay)].into_iter().chain(filter.iter().cloned()).collect();
        let path = query("events", &parameters);
        let mut request =
            self.agent.get(self.at(&path)).header(header::ACCEPT, "text/event-stream");
        if let Some(token) = self.bearer() {
            request = request.header(header::AUTHORIZATION, token);
        }
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let request = request
            .config()
            .timeout_global(None)
            .timeout_resolve(Some(self.timeout))
            .timeout_connect(Some(self.timeout))
            .timeout_recv_response(Some(self.timeout))
            .timeout_per_read(Some(SILENCE))
            .build();
        let response = self.answered(request.call())?;
        let content = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        if !content.unwrap_or_default().starts_with("text/event-stream") {
            return Err(self.odd("it is no stream of events"));
        }
        Ok(Stream { body: response.into_body().into_reader(), buffer: vec![0; 16 << 10] })
    }

    /// The failure of a stream that had begun.
    pub(crate) fn broken(&self, reason: &str) -> Failure {
        Failure::Unreachable {
            url: self.url.clone(),
            reason: escape(reason).into_owned(),
            sent: true,
        }
    }

    /// The failure of an answer that this program cannot read.
    pub(crate) fn odd(&self, reason: &str) -> Failure {
        Failure::Odd { url: self.url.clone(), reason: escape(reason).into_owned() }
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    fn bearer(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {}", token.0))
    }

    /// The answer, if it is no refusal.
    fn answered(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Failure> {
        let mut response = answer.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() || status == 304 {
            return Ok(response);
        }
        if status.is_redirection() {
            return Err(self.odd(&format!("it redirects ({status}); is the URL right?")));
        }
        let after = response.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()).map(str::to_owned);
        let body = response.body_mut().with_config().limit(1 << 20).lossy_utf8(true);
        // A refusal stays one, whatever comes of its body.
        let body = body.read_to_string().unwrap_or_default();
        Err(Failure::Refused(Problem::of(status.as_u16(), &body, after.as_deref()).into()))
    }

    fn reply(&self, mut response: Response<Body>) -> Result<Reply, Failure> {
        let tag = response.headers().get(header::ETAG);
        let tag = tag.and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = response.body_mut().with_config().limit(LONGEST).read_to_string();
        let body = body.map_err(|error| self.unreachable(&error))?;
        let reply = Reply { body, tag, url: self.url.clone() };
        reply.read::<serde::de::IgnoredAny>().map(|_| reply)
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let reason = match error {
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::HostNotFound => "there is no such host".to_owned(),
            ureq::Error::Timeout(_) => format!("no answer within {:?}", self.timeout),
            error => error.to_string(),
        };
        let sent = match error {
            ureq::Error::Io(error) => error.kind() != io::ErrorKind::ConnectionRefused,
            ureq::Error::HostNotFound => false,
            ureq::Error::Timeout(when) => {
                !matches!(when, ureq::Timeout::Resolve | ureq::Timeout::Connect)
            }
            _ => true,
        };
        Failure::Unreachable { url: self.url.clone(), reason: escape(&reason).into_owned(), sent }
    }
}

/// The certificates of a file in PEM, at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<Certificate<'static>>, String> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        Err("there is no certificate in it".into())
    } else {
        Ok(certificates)
    }
}

/// The bytes of a stream of events.
pub(crate) struct Stream {
    body: ureq::BodyReader<'static>,
    buffer: Vec<u8>,
}

impl Stream {
    /// The bytes that came next; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<&[u8]> {
        let length = self.body.read(&mut self.buffer)?;
        Ok(&self.buffer[..length])
    }
}

/// The path with those of the parameters that have a value.
/// Names and values of a query; those without a value are left out.
pub(crate) type Parameters = Vec<(&'static str, Option<String>)>;

pub(crate) fn query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut query = path.to_owned();
    let mut mark = '?';
    for (name, value) in parameters {
        if let Some(value) = value {
            query.push(mark);
            query.push_str(&format!("{name}={}", encode(value)));
            mark = '&';
        }
    }
    query
}

fn is_loopback(url: &str) -> bool {
    let authority = url.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    let authority = authority.unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_those_parameters_that_were_given() {
        let given = [("tag", Some("a&b".into())), ("node", None), ("text", Some("x y".into()))];
        assert_eq!(query("children", &given), "children?tag=a%26b&text=x%20y");
        assert_eq!(query("children", &[("tag", None)]), "children");
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        for pem in
            ["", "no certificate", "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----"]
        {
            assert!(certificates(pem).is_err(), "{pem:?}");
        }
        let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(pem).map(|certificates| certificates.len()), Ok(1));
    }

    #[test]
    fn this_machine_is_not_reached_through_a_proxy() {
        for url in ["http://localhost/hub", "http://127.0.0.1:8001", "http://[::1]:80/x"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in
            ["http://10.0.0.1:80/x", "http://localhost.example/127.0.0.1", "http://[fe80::1]/"]
        {
            assert!(!is_loopback(url), "{url}");
        }
    }
}

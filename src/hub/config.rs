//! What a deployment says of a node: from the environment, a file, or wherever serde reads.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use super::builder::HubBuilder;
use crate::{
    error::StartHubError,
    model::{
        id::NodeId,
        labels::Labels,
        secret::Secret,
        settings::Settings,
        variables::{Clash, Reader, Tree},
    },
    net::Admission,
};

/// What a deployment says of a node. The app's code says what its children are
/// ([`HubBuilder::config`] takes this); everything here can be left out, and the builder's own counts
/// then.
///
/// Read by serde from whatever the app is configured with; a field that is not known is an error. Times
/// are texts with a unit (`"250ms"`, `"5s"`, `"1m 30s"`), addresses are as
/// [`Endpoint`](crate::Endpoint) takes them. Or from the environment:
///
/// ```
/// # use actix_hub::HubConfig;
/// # fn read(pairs: [(&str, &str); 6]) -> HubConfig {
/// #     let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
/// #     HubConfig::from_variables("HUB_", pairs).unwrap()
/// # }
/// let config = read([
///     ("HUB_LISTEN", "0.0.0.0:4001"),
///     ("HUB_SEEDS", "hub-0.hub:4001, hub-1.hub:4001"),
///     ("HUB_LABELS", "zone=a,rack=3"),
///     ("HUB_KEY_FILE", "/var/lib/app/hub.key"),
///     ("HUB_SETTINGS__HEARTBEAT", "2s"),
///     ("HUB_SETTINGS__MIGRATION__HOT_SWAP__RETENTION", "10s"),
/// ]); // HubConfig::from_env("HUB_")?
/// assert_eq!(config.seeds, ["hub-0.hub:4001", "hub-1.hub:4001"]);
/// assert_eq!(config.labels.get("rack"), Some("3"));
/// assert_eq!(config.settings.unwrap().heartbeat.as_secs(), 2);
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HubConfig {
    /// The name that all nodes of the cluster share.
    pub name: Option<String>,
    /// [`HubBuilder::node_name`]; such as a pod's name.
    pub node_name: Option<String>,
    /// [`HubBuilder::label`]: a map, or a text such as `zone=a,rack=3`.
    pub labels: Labels,
    /// [`HubBuilder::listen`].
    pub listen: Vec<String>,
    /// [`HubBuilder::advertise`].
    pub advertise: Vec<String>,
    /// [`HubBuilder::seed`].
    pub seeds: Vec<String>,
    /// [`HubBuilder::mdns`].
    pub mdns: Option<bool>,
    /// [`HubBuilder::found`], if `true`.
    pub found: Option<bool>,
    /// [`HubBuilder::expected_nodes`].
    pub expected_nodes: Option<usize>,
    /// A file with the secret: [`Secret::from_file`].
    pub secret_file: Option<PathBuf>,
    /// The secret as 64 hexadecimal characters. Better a file: the environment of a process can be read
    /// by whoever may look at it.
    #[serde(deserialize_with = "hexadecimal")]
    pub secret: Option<Secret>,
    /// Files with secrets that are tried, too, while it is changed: [`HubBuilder::also_secret`].
    pub also_secret_files: Vec<PathBuf>,
    /// Only these nodes may join, by their ids.
    #[serde(deserialize_with = "ids")]
    pub allow: Vec<NodeId>,
    /// Whoever knows the hub's name may join: [`Admission::Open`], if `true`. For tests and networks
    /// where nobody else is.
    pub open: Option<bool>,
    /// [`HubBuilder::key_file`].
    pub key_file: Option<PathBuf>,
    /// [`HubBuilder::leave_dir`].
    pub leave_dir: Option<PathBuf>,
    /// [`HubBuilder::workers`].
    pub workers: Option<usize>,
    /// Everything else, in the place of [`HubBuilder::settings`]; what is left out has its default.
    pub settings: Option<Settings>,
}

/// Why a configuration could not be read from the environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name}: {reason}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The variable, or what the names of several begin with.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl HubConfig {
    /// Reads the environment variables whose names begin with `prefix`, `HUB_` say: the fields in upper
    /// case, with `__` before those of `settings` and what is in them (`HUB_SETTINGS__HEARTBEAT`). Lists
    /// have commas; numbers may have `_`; a variable that is empty is as good as none for what may be left
    /// out. What Kubernetes tells of services with such a name (`HUB_SERVICE_HOST`, `HUB_PORT_4001_TCP`)
    /// is passed over.
    ///
    /// # Errors
    /// [`ConfigError`] names the first variable that is not known or does not fit.
    pub fn from_env(prefix: &str) -> Result<Self, ConfigError> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            // A name of ours is text, and so is what it may hold; the rest is somebody else's.
            let name = name.into_string().ok()?;
            let is_ours = name.starts_with(prefix);
            is_ours.then(|| (name, value.to_string_lossy().into_owned()))
        });
        Self::from_variables(prefix, variables)
    }

    /// The same from other variables, such as those of an `.env` file.
    ///
    /// # Errors
    /// As there.
    pub fn from_variables(
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let ours = variables.into_iter().filter(|(name, _)| {
            name.strip_prefix(prefix).is_some_and(|rest| !is_service_link(rest))
        });
        let tree = Tree::of(prefix, ours).map_err(|Clash(name)| ConfigError {
            name,
            reason: "another variable sets the same, or a part of it".to_owned(),
        })?;
        serde_path_to_error::deserialize(Reader(tree)).map_err(|error| {
            let parts = error.path().iter().map(ToString::to_string);
            let path: Vec<String> = parts.map(|part| part.to_uppercase()).collect();
            // A list's place is no name.
            let names = path.iter().filter(|part| !part.starts_with('['));
            let names: Vec<&str> = names.map(String::as_str).collect();
            let name = format!("{prefix}{}", names.join("__"));
            ConfigError { name, reason: error.into_inner().to_string() }
        })
    }
}

/// Whether Kubernetes sets such a variable for a service whose name is the prefix's.
fn is_service_link(rest: &str) -> bool {
    let is_port = |text: &str| {
        let number = text.strip_suffix("_ADDR").or(text.strip_suffix("_PORT"));
        let number = number.or(text.strip_suffix("_PROTO")).unwrap_or(text);
        let number = number.strip_suffix("_TCP").or(number.strip_suffix("_UDP"));
        number.is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()))
    };
    // Services whose names begin like ours have more before it.
    let at = |mark: &str| rest == mark || rest.ends_with(&format!("_{mark}"));
    at("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || at("PORT")
        || rest.split_once("PORT_").is_some_and(|(_, port)| is_port(port))
}

fn hexadecimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text: Option<String> = Deserialize::deserialize(deserializer)?;
    text.map(Secret::from_hex).transpose().map_err(de::Error::custom)
}

fn ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NodeId>, D::Error> {
    let texts: Vec<String> = Deserialize::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
}

impl HubBuilder {
    /// What the deployment says of this node, over what was set before; addresses and labels are added.
    ///
    /// ```no_run
    /// # use actix_hub::{HubConfig, HubSystem};
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = HubConfig::from_env("HUB_")?;
    /// let hub = HubSystem::builder("my_hub").config(config).start().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn config(mut self, config: HubConfig) -> Self {
        let HubConfig {
            name,
            node_name,
            labels,
            listen,
            advertise,
            seeds,
            mdns,
            found,
            expected_nodes,
            secret_file,
            secret,
            also_secret_files,
            allow,
            open,
            key_file,
            leave_dir,
            workers,
            settings,
        } = config;
        if let Some(name) = name {
            self = self.renamed(name);
        }
        self = match node_name {
            Some(name) => self.node_name(name),
            None => self,
        };
        self = labels.iter().fold(self, |builder, (key, value)| builder.label(key, value));
        self = listen.into_iter().fold(self, Self::listen);
        self = advertise.into_iter().fold(self, Self::advertise);
        self = seeds.into_iter().fold(self, Self::seed);
        if let Some(mdns) = mdns {
            self = self.mdns(mdns);
        }
        if found == Some(true) {
            self = self.found();
        }
        if let Some(nodes) = expected_nodes {
            self = self.expected_nodes(nodes);
        }
        let read = |path: PathBuf| {
            Secret::from_file(path).map_err(|error| StartHubError::Admission(error.to_string()))
        };
        if secret.is_some() && secret_file.is_some() {
            let reason = "`secret` and `secret_file` are both set: one is enough";
            self = self.mistaken(StartHubError::Admission(reason.to_owned()));
        }
        let (read_secret, mistake) = match secret_file.map(read).transpose() {
            Ok(read) => (read, None),
            Err(mistake) => (None, Some(mistake)),
        };
        if let Some(mistake) = mistake {
            self = self.mistaken(mistake);
        }
        let allowed = allow.into_iter().collect::<std::collections::BTreeSet<NodeId>>();
        self = match (secret.or(read_secret), allowed.is_empty()) {
            (Some(secret), true) => self.secret(secret),
            (Some(secret), false) => self.admission(Admission::SecretAndAllow(secret, allowed)),
            (None, false) => self.admission(Admission::Allow(allowed)),
            (None, true) if open == Some(true) => self.admission(Admission::Open),
            (None, true) => self,
        };
        for file in also_secret_files {
            self = match read(file) {
                Ok(secret) => self.also_secret(secret),
                Err(mistake) => self.mistaken(mistake),
            };
        }
        if let Some(path) = key_file {
            self = self.key_file(path);
        }
        if let Some(folder) = leave_dir {
            self = self.leave_dir(folder);
        }
        if let Some(workers) = workers {
            self = self.workers(workers);
        }
        match settings {
            Some(settings) => self.settings(settings),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::settings::{HotSwapOptions, Migration};

    fn read(variables: &[(&str, &str)]) -> Result<HubConfig, ConfigError> {
        let owned = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        HubConfig::from_variables("HUB_", owned)
    }

    #[test]
    fn a_node_is_described_by_variables() {
        let secret = "0f".repeat(32);
        let config = read(&[
            ("HUB_NODE_NAME", "hub-0"),
            ("HUB_LISTEN", "0.0.0.0:4001,[::]:4001"),
            ("HUB_LABELS", "zone=a, rack=3"),
            ("HUB_MDNS", "true"),
            ("HUB_EXPECTED_NODES", "3"),
            ("HUB_SECRET", &secret),
            ("HUB_LEAVE_DIR", ""),
            ("HUB_SETTINGS__HEARTBEAT", "250ms"),
            ("HUB_SETTINGS__MAILBOX", "2_048"),
            ("HUB_SETTINGS__RESTART_PAUSES__LONGEST", "1m"),
            ("HUB_SETTINGS__MIGRATION__HOT_SWAP__HANDOVER", "no"),
            ("HUB_SERVICE_HOST", "10.0.0.1"),
            ("HUB_SERVICE_PORT_GOSSIP", "4001"),
            ("HUB_PORT", "tcp://10.0.0.1:4001"),
            ("HUB_PORT_4001_TCP_ADDR", "10.0.0.1"),
            ("HUB_HEADLESS_PORT_4001_TCP", "tcp://10.0.0.1:4001"),
        ])
        .expect("all of it fits");
        assert_eq!(config.node_name.as_deref(), Some("hub-0"));
        assert_eq!(config.listen, ["0.0.0.0:4001", "[::]:4001"]);
        assert_eq!(config.labels.to_string(), "rack=3,zone=a");
        assert_eq!((config.mdns, config.expected_nodes), (Some(true), Some(3)));
        assert_eq!(config.secret, Secret::from_hex(&secret).ok());
        assert!(config.leave_dir.is_none(), "it is empty");
        let settings = config.settings.expect("some are set");
        let expected = Settings {
            heartbeat: Duration::from_millis(250),
            mailbox: 2_048,
            restart_pauses: crate::model::child::RestartPauses {
                longest: Duration::from_secs(60),
                ..Default::default()
            },
            migration: Migration::HotSwap(HotSwapOptions { handover: false, ..Default::default() }),
            ..Settings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_variable_that_does_not_fit_is_named() {
        for (name, value, why) in [
            ("HUB_LISTENS", "0.0.0.0:4001", "unknown field"),
            ("HUB_SETTINGS__HEARTBEAT", "5", "a time with its unit"),
            ("HUB_SETTINGS__HEART_BEAT", "5s", "unknown field"),
            ("HUB_SETTINGS__MAILBOX", "-1", "-1"),
            ("HUB_EXPECTED_NODES", "three", "three"),
            ("HUB_LABELS", "zone", "no value"),
            ("HUB_LABELS__ZONE", "a,b", "without commas"),
            ("HUB_ALLOW", "me", "peer id"),
            ("HUB_SETTINGS__MIGRATION", "teleport", "unknown variant"),
        ] {
            let error = read(&[(name, value)]).expect_err(name);
            assert!(error.reason.contains(why), "{error}");
            assert!(name.starts_with(&error.name), "{name}: {error}");
        }
        let error = read(&[("HUB_SECRET", "word")]).expect_err("it is no secret");
        assert!(!error.to_string().contains("word"), "{error}");
        let labels = [("HUB_LABELS__ZONE", "a"), ("HUB_LABELS__RACK", "3")];
        let labels = read(&labels).expect("a map of them").labels;
        assert_eq!(labels.to_string(), "rack=3,zone=a");
        let both = [("HUB_SETTINGS", "x"), ("HUB_SETTINGS__MAILBOX", "1")];
        assert!(read(&both).is_err());
    }

    #[test]
    fn settings_are_written_as_they_are_read() {
        let settings = Settings { migration: Migration::ColdSwap, ..Settings::wan() };
        let text = serde_json::to_string(&settings).expect("it is text");
        assert!(text.contains(r#""heartbeat":"2s""#) && text.contains(r#""cold_swap""#), "{text}");
        assert_eq!(serde_json::from_str::<Settings>(&text).ok(), Some(settings));
        let error = serde_json::from_str::<Settings>(r#"{"mailbocks": 1}"#);
        assert!(error.is_err_and(|error| error.to_string().contains("mailbocks")));
    }
}

//! The settings, strategies and kinds of the node that answers.

use std::time::Duration;

use actix_web::web;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Desk,
    nodes::NodeName,
    problem::{Problem, Reading},
};
use crate::{
    hub::kind::Use,
    model::settings::{Migration, Settings},
};

/// What is set.
#[derive(Serialize, ToSchema)]
pub(crate) struct SettingsView {
    /// The name that all nodes of the cluster share.
    hub: String,
    /// The node that answers.
    node: NodeName,
    /// The version of its crate.
    #[schema(value_type = String)]
    version: &'static str,
    strategies: Strategies,
    settings: Vec<SettingView>,
    kinds: Vec<KindView>,
}

/// The strategies, as they describe themselves.
#[derive(Serialize, ToSchema)]
pub(crate) struct Strategies {
    distribution: String,
    redundancy: String,
    #[schema(value_type = String, example = "HotSwap")]
    migration: &'static str,
    #[schema(value_type = String, example = "PubSub")]
    synchronization: &'static str,
    partition_tolerance: String,
}

/// One setting.
#[derive(Serialize, ToSchema)]
pub(crate) struct SettingView {
    /// As it is spelt in `Settings`.
    #[schema(value_type = String, example = "heartbeat")]
    name: &'static str,
    /// With its unit.
    value: String,
    /// What it is unless set.
    default: String,
    /// Whether it is another.
    changed: bool,
}

/// A kind of children that the node has registered.
#[derive(Serialize, ToSchema)]
pub(crate) struct KindView {
    name: String,
    /// True if its children run on the node; else it sends messages to them only.
    hosted: bool,
    /// The names of the messages that it takes.
    messages: Vec<String>,
    /// The version of the states that it writes.
    state_version: u32,
    /// The oldest version that it reads.
    oldest_state_version: u32,
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn table(settings: &Settings) -> Vec<(&'static str, String)> {
    let bytes = |bytes: usize| format!("{bytes} bytes");
    let mut table = vec![
        ("heartbeat", time(settings.heartbeat)),
        ("suspect_after", format!("{} heartbeats", settings.suspect_after)),
        ("weight", settings.weight.to_string()),
        ("mailbox", format!("{} messages", settings.mailbox)),
        ("waiting", format!("{} messages", settings.waiting)),
        ("window_messages", format!("{} messages", settings.window_messages)),
        ("window_bytes", bytes(settings.window_bytes)),
        ("topic_bytes", bytes(settings.topic_bytes)),
        ("send_timeout", time(settings.send_timeout)),
        ("message_limit", bytes(settings.message_limit)),
        ("state_limit", bytes(settings.state_limit)),
        ("verify_encoding", settings.verify_encoding.to_string()),
        ("moves", settings.moves.to_string()),
        ("move_bytes", bytes(settings.move_bytes)),
        ("move_retries", settings.move_retries.to_string()),
        ("restart_pauses.first", time(settings.restart_pauses.first)),
        ("restart_pauses.longest", time(settings.restart_pauses.longest)),
        ("restart_pauses.healthy_after", time(settings.restart_pauses.healthy_after)),
        ("pass_over", time(settings.pass_over)),
        ("start_timeout", time(settings.start_timeout)),
        ("request_timeout", time(settings.request_timeout)),
        ("leave_timeout", time(settings.leave_timeout)),
        ("shutdown_deadline", time(settings.shutdown_deadline)),
        ("digest", time(settings.digest)),
        ("forget_after", time(settings.forget_after)),
        ("found_after", time(settings.found_after)),
        ("join_timeout", time(settings.join_timeout)),
    ];
    let options = match &settings.migration {
        Migration::HotSwap(options) => Some(options),
        Migration::ColdSwap => None,
    };
    let text = |value: Option<String>| value.unwrap_or_else(|| "not used".to_owned());
    table.extend([
        ("migration.retention", text(options.map(|o| time(o.retention)))),
        ("migration.handover", text(options.map(|o| o.handover.to_string()))),
        ("migration.handover_data_wait", text(options.map(|o| time(o.handover_data_wait)))),
        (
            "migration.child_migration_timeout",
            text(options.map(|o| time(o.child_migration_timeout))),
        ),
    ]);
    table
}

/// The settings, strategies and kinds of the node that answers. No secret is among them.
#[utoipa::path(
    get, path = "/settings", operation_id = "get_settings", tag = "settings",
    responses(
        (status = 200, body = SettingsView),
        Reading,
    ),
)]
pub(crate) async fn settings(desk: web::Data<Desk>) -> Result<web::Json<SettingsView>, Problem> {
    let strategies = desk.look(|running| running.engine.strategies()).await?;
    let settings = desk.hub.settings();
    let defaults = table(&Settings::default());
    let rows = table(settings).into_iter().zip(defaults);
    let settings_of = rows
        .map(|((name, value), (_, default))| SettingView {
            changed: value != default,
            name,
            value,
            default,
        })
        .collect();
    let kinds = desk.hub.shared().kinds.all().map(|(usage, kind)| {
        let entry = kind.entry();
        KindView {
            name: entry.name.to_string(),
            hosted: usage == Use::Hosts,
            messages: entry.message_names(),
            state_version: kind.info().state_version,
            oldest_state_version: kind.info().oldest_state_version,
        }
    });
    Ok(web::Json(SettingsView {
        hub: desk.hub.name().to_string(),
        node: NodeName::of(&desk, desk.hub.node_id()),
        version: env!("CARGO_PKG_VERSION"),
        strategies: Strategies {
            distribution: strategies.distribution,
            redundancy: strategies.redundancy,
            migration: match &settings.migration {
                Migration::HotSwap(_) => "HotSwap",
                Migration::ColdSwap => "ColdSwap",
            },
            synchronization: "PubSub",
            partition_tolerance: strategies.partition,
        },
        settings: settings_of,
        kinds: kinds.collect(),
    }))
}

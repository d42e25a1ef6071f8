//! A service to deploy: an actix-web app with one node of a hub, whose place in the cluster comes from
//! the environment.
//!
//! The node is described by the variables `HUB_*` (`HubConfig`), the service by options or `SERVICE_*`.
//! It counts the visits of pages, `GET /visits/{page}`, wherever in the cluster a page's counter runs.
//! The admin endpoint has a port of its own, which goes on answering while the node hands its children
//! over. At SIGTERM or Ctrl-C requests end first, then the children go to the other nodes.
//!
//! `cargo run --example service` is a node alone. `deploy/` has what runs it in containers, on
//! Kubernetes and under systemd.

use std::{error::Error, net::SocketAddr, path::PathBuf, process::ExitCode};

use actix::prelude::*;
use actix_hub::{
    HubConfig, ShutdownReport,
    admin::{self, AdminAccess, AdminOptions, AdminToken},
    prelude::*,
};
use actix_web::{App, HttpServer, Responder, dev::ServerHandle, get, rt, web};
use clap::Parser;
use serde::{Deserialize, Serialize};

/// Seconds in which requests that have begun may end. Together with `shutdown_deadline` and four
/// seconds it has to be less than the time after which the platform kills the process.
const REQUESTS_END: u64 = 10;

/// Counts the visits of pages, on a cluster. The node itself is described by the variables HUB_*.
#[derive(Parser)]
#[command(name = "service")]
struct Options {
    /// Where the service is served
    #[arg(long, env = "SERVICE_HTTP", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Where the admin endpoint is served, at /hub, with the probes and the metrics
    #[arg(long, env = "SERVICE_ADMIN", default_value = "127.0.0.1:8081")]
    admin: SocketAddr,
    /// A file with the token of the admin endpoint; without one only clients on this machine are served
    #[arg(long, env = "SERVICE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Reads the configuration, prints the settings of the node or what is wrong with them, and ends
    #[arg(long)]
    check: bool,
}

// ---- the child ------------------------------------------------------------------------------------

/// A page, and how often it was visited.
#[derive(Default, Serialize, Deserialize)]
struct Page {
    visits: u64,
}

impl Actor for Page {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Visit;

impl HubMessage for Visit {
    const NAME: &'static str = "page.visit";
}

impl Handler<Visit> for Page {
    type Result = u64;

    fn handle(&mut self, Visit: Visit, _: &mut Self::Context) -> u64 {
        self.visits += 1;
        self.visits
    }
}

hot_swap!(Page, kind = "page", messages = [Visit]);

// ---- the service ----------------------------------------------------------------------------------

/// Answers with the status that the hub's errors have, 503 for what was certainly not done.
#[get("/visits/{page}")]
async fn visit(page: web::Path<String>, hub: Hub) -> actix_web::Result<impl Responder> {
    let page = page.into_inner();
    let child = hub.child_or_start::<Page>(format!("page/{page}"), ()).await?;
    let visits = child.send(Visit).await?;
    Ok(format!("visit {visits} of {page}\n"))
}

/// Serves the admin endpoint until it is stopped, which the hub's end does not do.
fn serve_admin(hub: &Hub, options: &Options) -> Result<ServerHandle, Box<dyn Error>> {
    let mut admin = AdminOptions::default();
    if let Some(path) = &options.admin_token_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the token in {}: {error}", path.display()))?;
        let token = AdminToken::new(text.trim())
            .map_err(|error| format!("the token in {}: {error}", path.display()))?;
        admin = admin.access(AdminAccess::token(token));
    }
    let hub = hub.clone();
    let server =
        HttpServer::new(move || App::new().service(admin::scope(hub.clone(), admin.clone())))
            .workers(1)
            .disable_signals()
            .bind(options.admin)?
            .run();
    let handle = server.handle();
    rt::spawn(server);
    Ok(handle)
}

async fn run(options: &Options, config: HubConfig) -> Result<(), Box<dyn Error>> {
    let started = HubSystem::builder("service").child::<Page>().config(config).start();
    // Nothing else handles a signal yet, and the first process of a container ignores what it does not
    // handle: it would be killed later, at the end of its grace period.
    let hub = tokio::select! {
        hub = started => hub?,
        () = told_to_end()? => return Ok(()),
    };
    let served = serve(&hub, options).await;
    // Still runs if something could not be served.
    hub.stop().await;
    println!("{}", served?);
    Ok(())
}

/// Serves until the process is told to end, and hands the children over then.
async fn serve(hub: &Hub, options: &Options) -> Result<ShutdownReport, Box<dyn Error>> {
    let admin = serve_admin(hub, options)?;
    let app_hub = hub.clone();
    let server = HttpServer::new(move || App::new().app_data(app_hub.clone()).service(visit))
        .shutdown_timeout(REQUESTS_END)
        .bind(options.http)?;
    tracing::info!(http = %options.http, admin = %options.admin, addresses = ?hub.addresses(), "serving");
    let report = hub.serve(server).await;
    admin.stop(true).await;
    Ok(report?)
}

/// Ends at SIGTERM or Ctrl-C.
fn told_to_end() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Prints the settings of the node, or says what is wrong with them.
fn check(config: HubConfig) -> Result<(), Box<dyn Error>> {
    let settings = config.settings.unwrap_or_default();
    settings.check()?;
    println!("{}", serde_json::to_string_pretty(&settings)?);
    Ok(())
}

#[actix_web::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let ended = match HubConfig::from_env("HUB_") {
        Ok(config) if options.check => check(config),
        Ok(config) => run(&options, config).await,
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("service: {error}");
            ExitCode::FAILURE
        }
    }
}

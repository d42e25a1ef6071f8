//! The end of an app that serves HTTP and has a hub.

use std::{fmt, io};

use actix_http::{Request, body::MessageBody};
use actix_service::IntoServiceFactory;
use actix_web::{
    Error, HttpServer,
    dev::{AppConfig, Response, Service, ServiceFactory},
};

use crate::hub::{Hub, shutdown::ShutdownReport};

impl Hub {
    /// Serves until the app is told to end, and ends the hub then: what an actix-web app's `main` ends
    /// with.
    ///
    /// The signals are handled here, not by the server, which would end the Actix system, and the hub with
    /// it, before its children are handed over. At SIGTERM or Ctrl-C the server takes no new connections and
    /// lets requests end, for at most its own
    /// [`shutdown_timeout`](actix_web::HttpServer::shutdown_timeout), 30 s unless set; they may still send
    /// to any child. Then the hub shuts down ([`shutdown`](Self::shutdown)), for at most
    /// `Settings::shutdown_deadline`, 25 s unless set. A second signal does not cut that short. Where the
    /// platform kills a process some time after it has told it to end (Kubernetes: 30 s), both together
    /// have to be shorter.
    ///
    /// If the hub ends first (an administrator had the node leave), the server stops, too.
    ///
    /// # Errors
    /// What the server ended with, if that is an error; the hub is shut down all the same. Or the hub was
    /// stopped by others meanwhile, so that nothing is known of its children.
    pub async fn serve<F, I, S, B>(
        &self,
        server: HttpServer<F, I, S, B>,
    ) -> io::Result<ShutdownReport>
    where
        F: Fn() -> I + Send + Clone + 'static,
        I: IntoServiceFactory<S, Request>,
        S: ServiceFactory<Request, Config = AppConfig> + 'static,
        S::Error: Into<Error> + 'static,
        S::InitError: fmt::Debug,
        S::Response: Into<Response<B>> + 'static,
        <S::Service as Service<Request>>::Future: 'static,
        S::Service: 'static,
        B: MessageBody + 'static,
    {
        let told_to_end = told_to_end()?;
        let server = server.disable_signals().run();
        let handle = server.handle();
        let served = {
            let mut server = std::pin::pin!(server);
            let (told_to_end, ended) =
                (std::pin::pin!(told_to_end), std::pin::pin!(self.stopped()));
            tokio::select! {
                served = &mut server => served,
                () = async { tokio::select! { () = told_to_end => {}, () = ended => {} } } => {
                    // It stops by being polled.
                    let (served, ()) = tokio::join!(server, handle.stop(true));
                    served
                }
            }
        };
        let report = self.shutdown().await;
        served?;
        report.map_err(|_| io::Error::other("the hub was stopped before it could be shut down"))
    }
}

/// Ends at SIGTERM or Ctrl-C. From the call on neither kills the process.
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let (mut interrupt, mut terminate) = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

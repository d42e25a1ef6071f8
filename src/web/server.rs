//! The end of an app that serves HTTP and has a hub.

use std::io;

use actix_web::dev::Server;

use crate::hub::{Hub, shutdown::ShutdownReport};

impl Hub {
    /// Serves until the app is told to end, and ends the hub then: what an actix-web app's `main` ends
    /// with.
    ///
    /// The server handles the signals, as it does without a hub: at SIGTERM it takes no new connections
    /// and lets requests end, for at most its own
    /// [`shutdown_timeout`](actix_web::HttpServer::shutdown_timeout), 30 s unless set; they may still send
    /// to any child. Then the hub shuts down ([`shutdown`](Self::shutdown)), for at most
    /// `Settings::shutdown_deadline`, 25 s unless set; a second signal does not cut that short. Where the
    /// platform kills a process some time after it has told it to end (Kubernetes: 30 s), both together
    /// have to be shorter.
    ///
    /// If the hub ends first (an administrator had the node leave), the server stops, too.
    ///
    /// # Errors
    /// What the server ended with, if that is an error; the hub is shut down all the same.
    pub async fn serve(&self, server: Server) -> io::Result<ShutdownReport> {
        let handle = server.handle();
        let served = {
            let (mut server, mut ended) = (std::pin::pin!(server), std::pin::pin!(self.stopped()));
            tokio::select! {
                served = &mut server => served,
                () = &mut ended => {
                    // It stops by being polled.
                    let (served, ()) = tokio::join!(server, handle.stop(true));
                    served
                }
            }
        };
        let report = self.shutdown().await;
        served?;
        Ok(report.unwrap_or_default())
    }
}

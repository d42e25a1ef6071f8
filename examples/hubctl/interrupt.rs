//! Ctrl-C, and what else asks the program to end.

use std::{io, process, sync::mpsc::SyncSender, thread};

use tokio::{runtime::Builder, signal};

use crate::{follow::News, watch::leave_full_screen};

/// The exit code of a program that a second Ctrl-C had to end.
const FORCED: i32 = 130;

/// From now on Ctrl-C is news. A second one ends the program where it stands, as the first may
/// wait for output that nobody reads.
///
/// Where this cannot be set up, Ctrl-C ends the program as it always does.
pub(crate) fn watch(tell: SyncSender<News>) {
    thread::spawn(move || -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(asked_to_end())?;
        thread::spawn(move || tell.send(News::Stop));
        runtime.block_on(asked_to_end())?;
        leave_full_screen();
        process::exit(FORCED)
    });
}

#[cfg(unix)]
async fn asked_to_end() -> io::Result<()> {
    use signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        asked = signal::ctrl_c() => asked,
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn asked_to_end() -> io::Result<()> {
    signal::ctrl_c().await
}

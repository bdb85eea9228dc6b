//! When a server process is asked to stop.
//! It must not know what stops.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a process that a second signal ended: 128 and the number of the signal, as shells say it.
const SIGNALLED: i32 = 128;

/// Ends at the first SIGINT or SIGTERM. A second one ends the process at once, which loses nothing that was accepted.
///
/// # Errors
/// When the signals cannot be listened to.
pub(crate) async fn stop_requested() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    either(&mut interrupt, &mut terminate).await;
    tokio::spawn(async move {
        let kind = either(&mut interrupt, &mut terminate).await;
        std::process::exit(SIGNALLED + kind.as_raw_value());
    });
    Ok(())
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> SignalKind {
    tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
    }
}

//! The network between processes and the broker, which can be cut: bytes wait, and nobody is told.
//! It must not know what travels on it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A wire to one place.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) port: u16,
    carries: watch::Sender<bool>,
    accepting: AbortHandle,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = listener.local_addr().unwrap().port();
        let (carries, carried) = watch::channel(true);
        let far = SocketAddr::from(([127, 0, 0, 1], port));
        let accepting = tokio::spawn(accept(listener, far, carried)).abort_handle();
        Self {
            port: near,
            carries,
            accepting,
        }
    }

    /// Nothing goes through any more, and no end is closed.
    pub(crate) fn cut(&self) {
        self.carries.send_replace(false);
    }

    /// What was under way arrives, late.
    pub(crate) fn mend(&self) {
        self.carries.send_replace(true);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, far: SocketAddr, carries: watch::Receiver<bool>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let mut carries = carries.clone();
        tokio::spawn(async move {
            if carries.wait_for(|carries| *carries).await.is_err() {
                return;
            }
            if let Ok(far) = TcpStream::connect(far).await {
                let (near, far) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near.0, far.1, carries.clone()));
                tokio::spawn(carry(far.0, near.1, carries));
            }
        });
    }
}

/// Carries bytes one way, until an end is closed.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut carries: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else {
            return;
        };
        if carries.wait_for(|carries| *carries).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

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
    flow: watch::Sender<Flow>,
    accepting: AbortHandle,
}

/// What happens on a wire.
#[derive(Debug, Clone, Copy)]
struct Flow {
    carries: bool,
    /// How often all connections were ended.
    resets: u64,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = listener.local_addr().unwrap().port();
        let (flow, flows) = watch::channel(Flow {
            carries: true,
            resets: 0,
        });
        let far = SocketAddr::from(([127, 0, 0, 1], port));
        let accepting = tokio::spawn(accept(listener, far, flows)).abort_handle();
        Self {
            port: near,
            flow,
            accepting,
        }
    }

    /// Nothing goes through any more, and no end is closed.
    pub(crate) fn cut(&self) {
        self.flow.send_modify(|flow| flow.carries = false);
    }

    /// What was under way arrives, late.
    pub(crate) fn mend(&self) {
        self.flow.send_modify(|flow| flow.carries = true);
    }

    /// Ends every connection; new ones are carried.
    pub(crate) fn reset(&self) {
        self.flow.send_modify(|flow| flow.resets += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, far: SocketAddr, flow: watch::Receiver<Flow>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let flow = flow.clone();
        tokio::spawn(async move {
            let born = flow.borrow().resets;
            let mut reset = flow.clone();
            tokio::select! {
                () = connect(near, far, flow) => {}
                // Dropped, both ends are closed.
                _ = reset.wait_for(|flow| flow.resets != born) => {}
            }
        });
    }
}

async fn connect(near: TcpStream, far: SocketAddr, mut flow: watch::Receiver<Flow>) {
    if flow.wait_for(|flow| flow.carries).await.is_err() {
        return;
    }
    if let Ok(far) = TcpStream::connect(far).await {
        let (near, far) = (near.into_split(), far.into_split());
        // Each way ends by itself: one that is closed may still be answered.
        tokio::join!(
            carry(near.0, far.1, flow.clone()),
            carry(far.0, near.1, flow)
        );
    }
}

/// Carries bytes one way, until an end is closed.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flow: watch::Receiver<Flow>) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else {
            return;
        };
        if flow.wait_for(|flow| flow.carries).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

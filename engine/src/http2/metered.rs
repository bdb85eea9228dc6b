//! A byte stream that may be read only so far in a turn, so that one connection's answers do not hold up the others.
//! It must not know frames.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connector::Io;

/// Bytes that may still be read in this turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Rc<Cell<usize>>);

impl Budget {
    /// A new turn.
    pub(super) fn refill(&self, bytes: usize) {
        self.0.set(bytes);
    }

    /// Whether there may be more to read than the turn allowed.
    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}

/// A byte stream under a budget. Who reads beyond it is woken at once, for the next turn.
pub(super) struct Metered {
    io: Box<dyn Io>,
    budget: Budget,
}

impl Metered {
    pub(super) fn new(io: Box<dyn Io>, budget: Budget) -> Self {
        Self { io, budget }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.budget.is_spent() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut *self.io).poll_read(cx, buf);
        let left = &self.budget.0;
        left.set(left.get().saturating_sub(buf.filled().len() - before));
        read
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_turn_reads_as_far_as_its_budget_and_the_next_reads_on() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"0123456789").await.unwrap();
        let budget = Budget::default();
        let mut metered = Metered::new(Box::new(near), budget.clone());
        let mut buf = [0; 4];
        budget.refill(6);
        assert_eq!(metered.read(&mut buf).await.unwrap(), 4);
        assert!(!budget.is_spent());
        assert_eq!(
            metered.read(&mut buf).await.unwrap(),
            4,
            "the last read may go beyond"
        );
        assert!(budget.is_spent());
        let woken = futures_util::future::poll_immediate(metered.read(&mut buf)).await;
        assert!(woken.is_none(), "nothing more in this turn");
        budget.refill(1);
        assert_eq!(metered.read(&mut buf).await.unwrap(), 2);
        assert_eq!(&buf[..2], b"89");
    }
}

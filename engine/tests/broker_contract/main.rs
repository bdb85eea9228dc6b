//! The contract of the queue, one function a clause, run on every implementation.
//! It must not know how an implementation keeps its messages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod clauses;
mod embedded;
mod place;
mod rabbitmq;
mod rabbitmq_events;
mod rabbitmq_faults;
mod rabbitmq_published;

/// Runs clauses on every implementation.
macro_rules! contract {
    ($($clause:ident),* $(,)?) => {
        mod on_embedded {
            $(
                #[tokio::test]
                async fn $clause() {
                    super::$clause(crate::place::Place::embedded()).await;
                }
            )*
        }

        mod on_rabbitmq {
            $(
                #[tokio::test]
                async fn $clause() {
                    super::$clause(crate::place::Place::rabbitmq()).await;
                }
            )*
        }
    };
}
pub(crate) use contract;

//! The contract of the store, one function a clause, run on every implementation.
//! It must not know how an implementation keeps what it is told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod accounts;
mod analytics;
mod api_keys;
mod audit;
mod clients;
mod devices;
mod fencing;
mod iam;
mod messages;
mod notifications;
mod orgs;
mod outages;
mod outbox;
mod pages;
mod parallel;
mod place;
mod rates;
mod records;
mod rest;
mod revocations;
mod selections;
mod sqlite_file;
mod tags;

/// Runs clauses on every implementation.
macro_rules! contract {
    ($($clause:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $clause() {
                    super::$clause(crate::place::Place::sqlite()).await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test]
                async fn $clause() {
                    super::$clause(crate::place::Place::postgres()).await;
                }
            )*
        }
    };
}
pub(crate) use contract;

//! `…/analytics` and `…/analytics/timeseries`: what came of a tenant's pushes in the last days.
//! It must not know how counts come about.

use clarion_engine::model::{Counts, FinalState};
use clarion_engine::store::{DailyCounts, Day, day_of};
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::call::{TenantCall, query_error};
use crate::error::ApiError;

/// Days that are told unless the caller says otherwise.
const DAYS_DEFAULT: Day = 7;
/// Days that are told at most; older ones are kept as long as is configured.
const DAYS_MAX: Day = 90;

/// What came of the pushes of some days.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnalyticsBody {
    app_id: String,
    /// The first day, of Greenwich.
    #[schema(format = "date")]
    start_date: String,
    /// The last day, today.
    #[schema(format = "date")]
    end_date: String,
    /// How many recipients reached an end.
    total_events: u64,
    push: ChannelBody,
    /// Zeros: this server sends no email.
    email: ChannelBody,
}

/// What came of one channel.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct ChannelBody {
    /// Recipients that were tried: delivered and failed ones.
    sent: u64,
    /// The provider took it. Whether the device showed it, nobody can know.
    delivered: u64,
    /// Everything else that was tried.
    failed: u64,
    /// Delivered of sent, from 0 to 1.
    delivery_rate: f64,
}

/// What came of the pushes of each of some days.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TimeSeriesBody {
    app_id: String,
    /// The first day, of Greenwich.
    #[schema(format = "date")]
    start_date: String,
    /// The last day, today.
    #[schema(format = "date")]
    end_date: String,
    /// Every day of them, the first first.
    daily: Vec<DayBody>,
}

/// What came of the pushes of one day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DayBody {
    #[schema(format = "date")]
    date: String,
    push_sent: u64,
    push_delivered: u64,
    push_failed: u64,
    email_sent: u64,
    email_delivered: u64,
    email_failed: u64,
}

/// What came of the pushes of the last days.
#[utoipa::path(get, path = "/tenants/{tenant}/analytics", tag = "analytics",
    params(("tenant" = String, Path), ("days" = Option<u32>, Query, minimum = 1, maximum = 90)),
    responses((status = 200, body = AnalyticsBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn read(call: TenantCall) -> Result<Answer, ApiError> {
    let (first, last, daily) = daily(&call).await?;
    let mut all = Counts::default();
    for (sum, count) in daily.iter().flat_map(|day| all_states(&day.counts)) {
        all.0[sum] += count;
    }
    let push = ChannelBody::from(&all);
    Answer::json(&AnalyticsBody {
        app_id: call.tenant.to_string(),
        start_date: date(first),
        end_date: date(last),
        total_events: all.total(),
        push,
        email: ChannelBody::default(),
    })
}

/// What came of the pushes of each of the last days.
#[utoipa::path(get, path = "/tenants/{tenant}/analytics/timeseries", tag = "analytics",
    params(("tenant" = String, Path), ("days" = Option<u32>, Query, minimum = 1, maximum = 90)),
    responses((status = 200, body = TimeSeriesBody)),
    security(("api_key" = []), ("access_token" = [])))]
pub(crate) async fn time_series(call: TenantCall) -> Result<Answer, ApiError> {
    let (first, last, found) = daily(&call).await?;
    let of = |day: Day| {
        let found = found.iter().find(|found| found.day == day);
        let push = found.map(|found| ChannelBody::from(&found.counts));
        let push = push.unwrap_or_default();
        DayBody {
            date: date(day),
            push_sent: push.sent,
            push_delivered: push.delivered,
            push_failed: push.failed,
            email_sent: 0,
            email_delivered: 0,
            email_failed: 0,
        }
    };
    Answer::json(&TimeSeriesBody {
        app_id: call.tenant.to_string(),
        start_date: date(first),
        end_date: date(last),
        daily: (first..=last).map(of).collect(),
    })
}

/// The days that are asked for, and what is known of them.
async fn daily(call: &TenantCall) -> Result<(Day, Day, Vec<DailyCounts>), ApiError> {
    let days = match call.query("days") {
        None => DAYS_DEFAULT,
        Some(text) => {
            let parsed = text
                .parse()
                .ok()
                .filter(|days| (1..=DAYS_MAX).contains(days));
            let problem = || query_error("days", format!("is a number from 1 to {DAYS_MAX}"));
            parsed.ok_or_else(problem)?
        }
    };
    let last = day_of(call.now);
    let first = last - days + 1;
    let found = call
        .app
        .store
        .daily_counts(&call.tenant, first, last)
        .await?;
    Ok((first, last, found))
}

fn all_states(counts: &Counts) -> impl Iterator<Item = (usize, u64)> + use<> {
    counts.0.into_iter().enumerate()
}

fn date(day: Day) -> String {
    const DAY_SECONDS: i64 = 24 * 3600;
    let at = jiff::Timestamp::from_second(day * DAY_SECONDS).unwrap_or_default();
    at.strftime("%Y-%m-%d").to_string()
}

impl From<&Counts> for ChannelBody {
    fn from(counts: &Counts) -> Self {
        let delivered = counts.get(FinalState::Accepted);
        // Nobody was tried of these.
        let untried = [FinalState::NoDevice, FinalState::Cancelled];
        let untried: u64 = untried.into_iter().map(|state| counts.get(state)).sum();
        let sent = counts.total() - untried;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share of counts far below 2^52"
        )]
        let delivery_rate = if sent == 0 {
            0.0
        } else {
            delivered as f64 / sent as f64
        };
        Self {
            sent,
            delivered,
            failed: sent - delivered,
            delivery_rate,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn who_was_never_tried_is_neither_sent_nor_failed() {
        let mut counts = Counts::default();
        for state in FinalState::ALL {
            counts.add(state);
        }
        counts.add(FinalState::Accepted);
        let body = ChannelBody::from(&counts);
        assert_eq!((body.sent, body.delivered, body.failed), (8, 2, 6));
        assert!((body.delivery_rate - 0.25).abs() < 1e-9);
        assert_eq!(
            ChannelBody::from(&Counts::default()),
            ChannelBody::default()
        );
    }

    #[test]
    fn days_are_dates() {
        assert_eq!(
            (date(0), date(19_737)),
            ("1970-01-01".into(), "2024-01-15".into())
        );
    }
}

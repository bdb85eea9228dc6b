//! Every bound of the engine, named with its unit and its source.
//! It must not know who obeys them.

use std::time::Duration;

/// Entries (users or device tokens) of one job. One queue message, one device query, one record and one ack per job.
pub const JOB_ENTRIES_MAX: usize = 500;

/// Recipients one job may resolve to; what is beyond continues in a derived job.
pub const JOB_RECIPIENTS_MAX: usize = 2_000;

/// Recipients handed over at once from one tenant's queue, so that nobody waits behind a whole job.
pub const SLICE_RECIPIENTS_MAX: usize = 32;

/// How long a lease on a part of a tenant's rate holds after it was asked for (the store's clock). Engines renew each second.
pub const RATE_LEASE: Duration = Duration::from_secs(3);
/// Where a rate has fewer recipients a second than engines share it, its turns change this often.
pub const RATE_TURN: Duration = Duration::from_secs(5);

/// Default of the bound on requests handed to a connection and not yet recorded, per process.
pub const UNRECORDED_MAX_DEFAULT: usize = 4_096;
/// Smallest configurable bound on unrecorded requests.
pub const UNRECORDED_MAX_FLOOR: usize = 64;
/// Largest configurable bound on unrecorded requests.
pub const UNRECORDED_MAX_CEILING: usize = 65_536;

/// A running job writes a part of its record at least this often.
pub const RECORD_INTERVAL: Duration = Duration::from_millis(250);

/// How long a claim on a job holds after its writer's last part (the store's clock).
pub const CLAIM_TTL: Duration = Duration::from_secs(20);

/// Jobs of a queue that are claimed and not begun, besides a bound on their entries: a process that dies has spent a claim of each.
pub const CLAIMS_AHEAD: usize = 16;

/// From this many claims without progress a job runs alone in its process.
pub const CLAIMS_ALONE: u32 = 3;
/// At this many claims without progress a job becomes a dead row `poison`.
pub const CLAIMS_POISON: u32 = 5;

/// How often a job that somebody else holds is looked at again.
pub const HELD_RECHECK: Duration = Duration::from_secs(1);

/// A lease is good for this long after its broker connection was last heard from.
pub const LEASE_HEARTBEAT: Duration = Duration::from_secs(10);

/// A job that may not be sent for longer than this is closed, and what is left of it waits in the store.
pub const HOLD_MAX: Duration = Duration::from_secs(60);

/// A page reserved this long ago and not fed is published again with `recheck`.
pub const RESERVATION_TTL: Duration = Duration::from_secs(30);
/// A fed page without an end whose job wrote nothing for this long is published again with `recheck`.
pub const FED_PAGE_TTL: Duration = Duration::from_secs(15 * 60);

/// Released, unfinished jobs kept in the broker per tenant and lane.
pub const RELEASE_AHEAD: usize = 64;

/// Bytes of leased job bodies held in memory.
pub const PREFETCHED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Outcome events published at once by one process.
pub const EVENTS_AT_ONCE: u32 = 256;
/// Outcome events published at once by one process, bytes as the outbox keeps them; one more than fits, at most.
pub const EVENTS_BYTES_AT_ONCE: u64 = 4 * 1024 * 1024;
/// An outcome event that one process publishes is given to no other for this long.
pub const EVENT_LEASE: Duration = Duration::from_secs(30);

/// An engine hands over a slice only if it has read the control version within this time.
pub const CONTROL_LEASE: Duration = Duration::from_secs(1);

/// How often a process asks for its shares again.
pub const RATE_LEASE_INTERVAL: Duration = Duration::from_secs(1);

/// APNs payload, bytes (Apple: "Sending notification requests to APNs").
pub const APNS_PAYLOAD_MAX: usize = 4_096;
/// APNs VoIP payload, bytes.
pub const APNS_VOIP_PAYLOAD_MAX: usize = 5_120;
/// FCM message data, bytes (Google: FCM error codes).
pub const FCM_PAYLOAD_MAX: usize = 4_096;
/// `apns-collapse-id`, bytes.
pub const COLLAPSE_ID_MAX: usize = 64;

/// Longest user id, bytes.
pub const USER_ID_MAX: usize = 256;
/// Longest device token, bytes.
pub const DEVICE_TOKEN_MAX: usize = 4_096;

/// Entries of a JSON bulk; larger audiences come as NDJSON.
pub const BULK_ENTRIES_MAX: usize = 100_000;
/// Body of a JSON bulk, bytes.
pub const BULK_BODY_MAX: usize = 16 * 1024 * 1024;
/// Body of any other request, bytes.
pub const BODY_MAX: usize = 256 * 1024;
/// Body of a request published straight to the queue, bytes.
pub const PUBLISH_BYTES_MAX: usize = 1024 * 1024;
/// Queues that published requests wait in, told apart by the tenant's hash; one more takes those that no binding names.
pub const PUBLISH_SHARDS: u16 = 16;
/// Bytes that one of them holds; beyond it the broker refuses, so that a publisher with confirms sees it.
pub const PUBLISH_QUEUE_BYTES_MAX: i32 = 64 * 1024 * 1024;
/// Recipients of a request published straight to the queue: about as many device tokens as its body holds.
pub const PUBLISH_ENTRIES_MAX: usize = 10_000;
/// Longest message id of a publisher, in characters.
pub const MESSAGE_ID_MAX: usize = 128;
/// Devices of one bulk registration.
pub const REGISTRATIONS_MAX: usize = 10_000;

/// Attempts of one recipient, the first included.
pub const ATTEMPTS_MAX: u8 = 8;
/// Default life of a notification.
pub const TTL_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Longest life of a notification (Apple stores 30 days, Google 28).
pub const TTL_MAX: Duration = Duration::from_secs(28 * 24 * 3600);

/// Selections of a tenant that are not paged to their end; beyond it more answer 429. Each is one row and, while it is paged, as
/// many recipients in the backlog as pages may be ahead.
pub const SELECTIONS_OPEN_MAX: u64 = 1_000;
/// Tags that one selection names; each costs a look at an index per page.
pub const SELECTION_TAGS_MAX: usize = 20;
/// Tags of one device in a registration.
pub const DEVICE_TAGS_MAX: usize = 100;
/// Longest name of a tag, in bytes.
pub const TAG_NAME_MAX: usize = 128;

/// Recipients a tenant may have queued and waiting before its requests answer 429.
pub const BACKLOG_MAX_DEFAULT: u64 = 10_000_000;
/// Recipients a second a tenant may send, unless its limits say otherwise.
pub const RATE_DEFAULT: u32 = 2_000;

/// Pages of one notification that may be reserved or fed at a time on one engine.
#[must_use]
pub const fn pages_ahead(unrecorded_max: usize) -> usize {
    let by_window = 2 * unrecorded_max / JOB_ENTRIES_MAX;
    if by_window > 8 { by_window } else { 8 }
}

/// Body of a provider's answer, bytes; what is beyond is dropped.
pub const RESPONSE_BODY_MAX: usize = 64 * 1024;
/// A connection must be usable this soon: name, TCP, TLS and HTTP/2 together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Slices of a credential that cannot connect end as never handed over after this.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// Default total time of one request.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(12);
/// The kernel gives up unacknowledged data after this (TCP_USER_TIMEOUT).
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections of one pool key are opened at least this far apart (Apple: repeated opening looks like an attack).
pub const OPEN_GAP: Duration = Duration::from_secs(1);
/// First ceiling of the random wait after a failed connection.
pub const OPEN_BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Last ceiling of the random wait after a failed connection.
pub const OPEN_BACKOFF_MAX: Duration = Duration::from_secs(60);
/// PING while streams are open.
pub const PING_BUSY: Duration = Duration::from_secs(60);
/// PING while nothing is open (Apple: at most about hourly).
pub const PING_IDLE: Duration = Duration::from_secs(30 * 60);
/// An unanswered PING closes the connection after this.
pub const PONG_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is replaced after this, plus up to half of it at random (Apple: keep them hours to days).
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(12 * 3600);
/// A connection is replaced after this many requests, long before the 2^30 stream ids run out.
pub const CONNECTION_REQUESTS_MAX: u64 = 100_000_000;
/// A connection that carried nothing for this long is closed.
pub const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(2 * 3600);
/// One of several connections of a pool is closed after this long without a request.
pub const CONNECTION_SPARE_IDLE_MAX: Duration = Duration::from_secs(5 * 60);
/// Streams used on one connection, whatever the peer allows.
pub const STREAMS_MAX: usize = 1_000;
/// Default of the connections per credential and delivery thread.
pub const CONNECTIONS_PER_KEY_MAX: usize = 8;
/// Immediate re-sends of one request, each proven unprocessed by the peer.
pub const RESENDS_MAX: u8 = 3;
/// Requests in a row that may miss their deadline on one connection before it is given up.
pub const DEADLINES_IN_A_ROW_MAX: u32 = 3;
/// Slices under way on one delivery thread; beyond it the dispatcher hands slices back.
pub const SLICES_PER_THREAD_MAX: usize = 4_096;
/// How often delivery threads look at deadlines, PING and idleness.
pub const TICK: Duration = Duration::from_millis(100);

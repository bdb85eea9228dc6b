//! The borders between the rooms: which library and which room may be named where.
//! It must not know how Rust is read, nor how findings are reported.

/// A name that is at home in some rooms only.
pub(crate) struct Border {
    /// Paths, crates (`h2::`) or macros; each is looked for in code, not in comments or strings.
    pub(crate) names: &'static [&'static str],
    /// Where they may be named: a file without its `.rs`, or a folder.
    pub(crate) homes: &'static [&'static str],
    /// What to do elsewhere.
    pub(crate) instead: &'static str,
}

pub(crate) const BORDERS: &[Border] = &[
    Border {
        names: &["h2::"],
        homes: &["engine/src/http2", "simulator", "bench"],
        instead: "hand prepared requests to engine::http2",
    },
    Border {
        names: &["lapin::"],
        homes: &[
            "engine/src/broker/rabbitmq",
            "engine/tests/broker_contract",
            "tests/e2e/publisher",
            "tests/e2e/scale/backend",
            "tests/e2e/scale/full",
            "tests/e2e/scale/publisher",
            "examples/publish/rust",
        ],
        instead: "use the trait Broker",
    },
    Border {
        names: &["sqlx::"],
        homes: &[
            "engine/src/store",
            "engine/src/broker/embedded",
            "engine/src/datadir",
            "engine/tests/store_contract",
            "engine/tests/broker_contract",
        ],
        instead: "add a use-case to the trait Store or Broker",
    },
    Border {
        names: &["a2::"],
        homes: &["engine/src/provider/apns"],
        instead: "use the types of engine::provider",
    },
    Border {
        names: &["governor::"],
        homes: &[
            "engine/src/delivery/limiter",
            "ingest/src/authenticate/pace",
        ],
        instead: "ask the limiter",
    },
    Border {
        names: &[
            "use metrics::",
            "counter!",
            "gauge!",
            "histogram!",
            "describe_counter!",
            "describe_gauge!",
            "describe_histogram!",
        ],
        homes: &["engine/src/metrics", "ingest/src/metrics", "src/telemetry"],
        instead: "add a recording function to the room's metrics module and call it",
    },
    Border {
        names: &["StatusCode"],
        homes: &[
            "ingest/src/error",
            "ingest/src/notify",
            "ingest/src/ibm",
            "ingest/src/operate",
            "ingest/src/console",
            "ingest/src/health",
            "engine/src/provider",
            "simulator",
        ],
        instead: "return the room's error; ingest's error table gives it a status",
    },
    Border {
        names: &["axum::"],
        homes: &["ingest", "src", "simulator/src/control"],
        instead: "HTTP comes in through ingest",
    },
    Border {
        names: &["reqwest::"],
        homes: &["src", "tests"],
        instead: "only the command line is an HTTP client; providers go through engine::http2",
    },
    Border {
        names: &["clarion_engine::"],
        homes: &["ingest", "src", "bench", "tests", "engine"],
        instead: "auth and the simulator depend on no other room",
    },
    Border {
        names: &["clarion_ingest::"],
        homes: &["src", "tests", "ingest"],
        instead: "values flow from ingest to the engine, never back",
    },
    Border {
        names: &["clarion_simulator::"],
        homes: &["src", "bench", "tests", "simulator", "engine/tests"],
        instead: "what is shipped must not know that a simulator exists",
    },
];

/// Names that a room may never hold.
pub(crate) struct Wall {
    /// The room: a file without its `.rs`, or a folder.
    pub(crate) room: &'static str,
    /// What it may not name.
    pub(crate) names: &'static [&'static str],
    /// Why, and what to do.
    pub(crate) because: &'static str,
}

pub(crate) const WALLS: &[Wall] = &[
    Wall {
        room: "ingest",
        names: &[
            "clarion_engine::delivery",
            "clarion_engine::provider",
            "clarion_engine::http2",
        ],
        because: "ingest parses, authenticates and makes one domain call: use intake, store or model",
    },
    Wall {
        room: "auth",
        names: &["tokio::", "std::net", "std::fs", "std::env", "std::process"],
        because: "auth is pure: have the caller open it and pass the value in",
    },
    Wall {
        room: "simulator",
        names: &["clarion_auth::"],
        because: "the simulator shares no code with what it checks: write it again from the documents",
    },
    Wall {
        room: "examples",
        names: &["clarion_auth::", "clarion_engine::", "clarion_ingest::"],
        because: "an example knows the documented contract only: write it as a backend would",
    },
    Wall {
        room: "engine/src/model",
        names: &[
            "crate::broker",
            "crate::store",
            "crate::intake",
            "crate::http2",
            "crate::provider",
            "crate::delivery",
            "crate::metrics",
        ],
        because: "the model depends on nothing of ours but auth's ids: move the type into it",
    },
    Wall {
        room: "engine/src/http2",
        names: &[
            "crate::broker",
            "crate::store",
            "crate::intake",
            "crate::provider",
            "crate::delivery",
        ],
        because: "the transport does not know what it carries: pass it prepared bytes",
    },
    Wall {
        room: "engine/src/provider",
        names: &[
            "crate::broker",
            "crate::store",
            "crate::intake",
            "crate::delivery",
        ],
        because: "providers encode and decode, and no stage calls back into an earlier one",
    },
];

/// Whether a file is the room itself or lies in it.
pub(crate) fn is_in(path: &str, room: &str) -> bool {
    path.strip_prefix(room)
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

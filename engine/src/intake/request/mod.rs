//! Requests as they are written, whatever brings them: JSON, what is said, for whom, and the request that backends publish
//! straight to the queue. It must not know by what transport a request came, nor what becomes of it.

mod audience;
mod content;
pub mod json;
mod problem;
mod publish;
mod scan;
mod selection;

pub use audience::{Named, RawDeviceToken, default_environment, environment_of, unreadable};
pub use content::{Alert, ApnsBody, FcmBody, LiveActivityBody, Message, Said, SendOptions};
pub use problem::{PROBLEMS_MAX, Problem, ProblemKind, Step};
pub use publish::{PublishRequest, ReadRequest, VERSION, read_request};
pub use selection::{AppVersions, SelectedAudience};

//! What every gRPC front door words alike: an error as a status. Never looks at a message's text.

#![forbid(unsafe_code)]

mod status;

pub use status::{code_of, status_of};

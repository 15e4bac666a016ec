//! How all requests are sent, those to object stores among them.

use super::tls;
use sparse_core::Result;
use std::time::Duration;
use ureq::Agent;

/// Creates an agent that leaves statuses and redirects to its caller.
///
/// A server may say nothing for `stall`, and think about an answer for `answer`.
///
/// # Errors
/// What reading the certificates reports that the environment names.
pub(crate) fn agent(stall: Duration, answer: Duration) -> Result<Agent> {
    Ok(Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("sparse/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls::from_environment()?)
        .timeout_resolve(Some(stall))
        .timeout_connect(Some(stall))
        .timeout_recv_response(Some(answer))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall))
        .max_idle_connections_per_host(16)
        .build()
        .new_agent())
}

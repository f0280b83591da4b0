//! Ends a statement nobody waits for. A cancel is accepted without saying whether it took effect,
//! so the statement is watched until it has ended, and told again.

use std::time::{Duration, Instant};

use flightpath_databricks::{Client, Idempotency, Identity, segment};
use flightpath_types::Result;
use serde::de::IgnoredAny;

use crate::config::Config;
use crate::wire::{Answer, STATEMENTS};

pub(crate) async fn cancel(client: &Client, config: &Config, who: &Identity, statement_id: &str) {
    let give_up = Instant::now() + config.cancel_wait_max;
    let path = format!("{STATEMENTS}/{}", segment(statement_id));
    let cancel_path = format!("{path}/cancel");
    let empty: [(&str, &str); 0] = [];
    let body = std::collections::BTreeMap::from(empty);
    let mut pause = config.poll_min;
    let mut cancel_next = Instant::now();
    while Instant::now() < give_up {
        if Instant::now() >= cancel_next {
            cancel_next = Instant::now() + config.cancel_again;
            let told: Result<IgnoredAny> = client.post(who, &cancel_path, &body, Idempotency::Safe, Some(give_up)).await;
            if let Err(error) = told {
                tracing::debug!(statement_id, %error, "a cancel didn't get through");
            }
        }
        match client.get::<Answer>(who, &path, &[], Some(give_up)).await {
            Ok(answer) if answer.status.state.is_terminal() => return,
            Ok(_) => {}
            // What isn't there any more has ended.
            Err(error) if error.kind() == flightpath_types::ErrorKind::NotFound => return,
            Err(error) => tracing::debug!(statement_id, %error, "a cancelled statement can't be watched"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(config.poll_max).max(Duration::from_millis(1));
    }
    tracing::warn!(statement_id, "a cancelled statement may still run on Databricks");
}

//! Settings of the front door that `table` doesn't hold: who may connect, and for how long.

use std::path::PathBuf;

use super::table::Setting;

const DAY_SECONDS: f64 = 86_400.0;

pub(super) fn settings() -> Vec<Setting> {
    vec![
        Setting {
            path: "tls.client_ca",
            help: "PEM file of authorities: only clients that show a certificate signed by one of them can connect",
            set: |s, v| {
                s.tls_client_ca = v.optional_text()?.map(PathBuf::from);
                Ok(())
            },
        },
        Setting {
            path: "auth.databricks_tokens",
            help: "true: Databricks is asked whose a bearer token is that [[auth.tokens]] doesn't list",
            set: |s, v| {
                s.databricks_tokens = v.boolean()?;
                Ok(())
            },
        },
        Setting {
            path: "auth.admin_groups",
            help: "groups of Databricks whose members see what everybody did",
            set: |s, v| {
                s.admin_groups = v.list()?;
                Ok(())
            },
        },
        Setting {
            path: "limits.session_idle_seconds",
            help: "how long a session that isn't used keeps its settings",
            set: |s, v| {
                s.session_idle = v.seconds(1.0, 365.0 * DAY_SECONDS)?;
                Ok(())
            },
        },
    ]
}

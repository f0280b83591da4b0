//! `/api/2.0/preview/scim/v2/Me`: who a token's owner is, and the groups it is in.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::state::App;
use crate::wire::Answered;

pub(crate) async fn me(State(app): State<App>, headers: HeaderMap) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    let groups: Vec<Value> = user.groups.iter().map(|name| json!({"display": name, "value": name, "type": "direct"})).collect();
    let shown = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "id": user.name, "userName": user.name, "displayName": user.name, "active": true, "groups": groups,
    });
    Ok(Json(shown).into_response())
}

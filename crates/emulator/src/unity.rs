//! `/api/2.1/unity-catalog`: what there is, who may read it, and credentials for storage. Rules show
//! here as metadata; that they hold is the rewriter's business, not this file's.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use flightpath_catalog::{Catalog, TableFormat, TableName, TableSnapshot};
use flightpath_types::{Error, ErrorKind, Principal};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::User;
use crate::config::{Capability, CredentialKind, Settings, TableRules};
use crate::objects::BUCKET;
use crate::rules::{EXTERNAL_USE_SCHEMA, SELECT};
use crate::state::App;
use crate::types;
use crate::wire::{Answered, ApiError, Body, now_ms};

const DIRECT_READ: &str = "HAS_DIRECT_EXTERNAL_ENGINE_READ_SUPPORT";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Listing {
    catalog_name: String,
    schema_name: String,
    max_results: Option<usize>,
    page_token: Option<String>,
    omit_columns: Option<bool>,
    include_delta_metadata: Option<bool>,
    include_manifest_capabilities: Option<bool>,
    principal: Option<String>,
}

pub(crate) async fn catalogs(State(app): State<App>, headers: HeaderMap, Query(listing): Query<Listing>) -> Answered {
    app.accounts.authenticate(&headers)?;
    let all: Vec<Value> = app.lake.catalogs.names().map(catalog_info).collect();
    page("catalogs", all, &listing, &app.settings())
}

pub(crate) async fn catalog(State(app): State<App>, headers: HeaderMap, Path(name): Path<String>) -> Answered {
    app.accounts.authenticate(&headers)?;
    let found = app.lake.catalogs.names().find(|known| known.eq_ignore_ascii_case(&name));
    let found = found.ok_or_else(|| ApiError::not_found("CATALOG_DOES_NOT_EXIST", format!("Catalog '{name}' does not exist.")))?;
    Ok(Json(catalog_info(found)).into_response())
}

fn catalog_info(name: &str) -> Value {
    json!({"name": name, "full_name": name, "catalog_type": "MANAGED_CATALOG", "isolation_mode": "OPEN", "comment": "simulated"})
}

pub(crate) async fn schemas(State(app): State<App>, headers: HeaderMap, Query(listing): Query<Listing>) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    let catalog = &listing.catalog_name;
    let names = app.lake.catalogs.get(catalog).schemas(&Principal::new(&user.name), catalog).await.map_err(as_http)?;
    let shown = names.into_iter().filter(|n| n != "system");
    let all =
        shown.map(|name| json!({"name": name, "catalog_name": catalog, "full_name": format!("{catalog}.{name}"), "owner": "simulation"}));
    page("schemas", all.collect(), &listing, &app.settings())
}

pub(crate) async fn tables(State(app): State<App>, headers: HeaderMap, Query(listing): Query<Listing>) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    let (catalog, schema) = (&listing.catalog_name, &listing.schema_name);
    let settings = app.settings();
    let summaries = app.lake.catalogs.get(catalog).tables(&Principal::new(&user.name), catalog, schema).await.map_err(as_http)?;
    let mut names: Vec<TableName> = summaries.into_iter().map(|s| s.name).collect();
    names.extend(app.rules.views(catalog, schema).iter().map(|view| TableName::new(catalog, schema, view)));
    names.sort();
    names.dedup();
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        if !may_see(&user, &app.rules.of(&name), &settings) {
            continue;
        }
        // A table that can't be read is left out of listings; asking for it says why.
        if let Ok(info) = table_info(&app, &user, &name, &listing).await {
            all.push(info);
        }
    }
    page("tables", all, &listing, &settings)
}

pub(crate) async fn table(
    State(app): State<App>,
    headers: HeaderMap,
    Path(full_name): Path<String>,
    Query(listing): Query<Listing>,
) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    let name = parse_name(&full_name)?;
    if !may_see(&user, &app.rules.of(&name), &app.settings()) {
        return Err(ApiError::denied(format!("User does not have any privilege on Table '{full_name}'.")));
    }
    Ok(Json(table_info(&app, &user, &name, &listing).await?).into_response())
}

fn may_see(user: &User, rules: &TableRules, settings: &Settings) -> bool {
    user.admin || rules.privileges(user, &settings.default_privileges).iter().any(|p| p != EXTERNAL_USE_SCHEMA)
}

async fn table_info(app: &App, user: &User, name: &TableName, listing: &Listing) -> Result<Value, ApiError> {
    let rules = app.rules.of(name);
    let snapshot = match rules.view_definition {
        Some(_) => None,
        None => Some(app.lake.catalogs.newest(&Principal::new(&user.name), name).await.map_err(as_http)?),
    };
    let kind = rules.table_type.clone().unwrap_or_else(|| if snapshot.is_some() { "MANAGED".into() } else { "VIEW".into() });
    let mut info = json!({
        "name": name.table.as_ref(), "catalog_name": name.catalog.as_ref(), "schema_name": name.schema.as_ref(),
        "full_name": name.to_string(), "table_type": kind, "table_id": table_id(name), "owner": rules.owner.as_deref().unwrap_or("simulation"),
        "metastore_id": "simulated", "securable_type": "TABLE", "securable_kind": format!("TABLE_{kind}"),
    });
    if let Some(view) = &rules.view_definition {
        info["view_definition"] = json!(view);
    }
    if let Some(snapshot) = &snapshot {
        describe(&mut info, snapshot, listing.include_delta_metadata == Some(true));
        info["storage_location"] = json!(storage_location(name, snapshot, &app.settings()));
        if listing.omit_columns != Some(true) {
            info["columns"] = columns(snapshot, &rules);
        }
    }
    if let (Some(_), false) = (&rules.row_filter, rules.hidden) {
        info["row_filter"] =
            json!({"function_name": format!("{}.{}.simulated_row_filter", name.catalog, name.schema), "input_column_names": []});
    }
    let plain = snapshot.is_some() && !rules.governed() && !kind.ends_with("VIEW");
    let capability = rules.capability.unwrap_or(if plain { Capability::Present } else { Capability::Absent });
    if listing.include_manifest_capabilities == Some(true) && capability != Capability::Unknown {
        let held: Vec<&str> = if capability == Capability::Present {
            vec!["HAS_SIMULATED_CAPABILITY", DIRECT_READ]
        } else {
            vec!["HAS_SIMULATED_CAPABILITY"]
        };
        if app.settings.read().top_level_capabilities {
            info["manifest_capabilities"] = json!(held);
        } else {
            info["securable_kind_manifest"] = json!({"securable_kind": format!("TABLE_{kind}"), "capabilities": held});
        }
    }
    for (key, value) in &rules.metadata {
        match (value, info.as_object_mut()) {
            (Value::Null, Some(members)) => drop(members.remove(key)),
            (value, Some(members)) => drop(members.insert(key.clone(), value.clone())),
            (_, None) => {}
        }
    }
    Ok(info)
}

fn describe(info: &mut Value, snapshot: &TableSnapshot, delta_metadata: bool) {
    info["data_source_format"] = json!(snapshot.format.as_str().to_uppercase());
    let mut properties = json!(snapshot.properties);
    if snapshot.format == TableFormat::Delta && delta_metadata {
        properties["delta.lastUpdateVersion"] = json!(snapshot.version.to_string());
        properties["delta.lastCommitTimestamp"] = json!(snapshot.committed_unix_ms.unwrap_or_default().to_string());
        properties["delta.minReaderVersion"] = json!(snapshot.min_reader_version.to_string());
        properties["delta.minWriterVersion"] = json!(snapshot.min_writer_version.to_string());
    }
    info["properties"] = properties;
    if let Some(created) = snapshot.created_unix_ms {
        info["created_at"] = json!(created);
    }
    if let Some(committed) = snapshot.committed_unix_ms {
        info["updated_at"] = json!(committed);
    }
    if let Some(comment) = &snapshot.description {
        info["comment"] = json!(comment);
    }
}

fn storage_location(name: &TableName, snapshot: &TableSnapshot, settings: &Settings) -> String {
    if settings.cloud_storage {
        return format!("s3://{BUCKET}/{}", object_prefix(name));
    }
    match snapshot.location.starts_with('/') {
        true => format!("file://{}", snapshot.location),
        false => snapshot.location.clone(),
    }
}

/// Key of a table's folder in the simulated bucket.
fn object_prefix(name: &TableName) -> String {
    format!("{}/{}/{}", name.catalog, name.schema, name.table)
}

fn columns(snapshot: &TableSnapshot, rules: &TableRules) -> Value {
    let column = |(position, field): (usize, &arrow::datatypes::FieldRef)| {
        let ty = field.data_type();
        let mut column = json!({
            "name": field.name(), "position": position, "type_text": types::catalog_text(ty), "type_name": types::type_name(ty),
            "type_json": types::spark_field(field).to_string(), "nullable": field.is_nullable(),
        });
        if let arrow::datatypes::DataType::Decimal128(precision, scale) = ty {
            column["type_precision"] = json!(precision);
            column["type_scale"] = json!(scale);
        }
        if let Some(index) = snapshot.partition_columns.iter().position(|p| *p == position) {
            column["partition_index"] = json!(index);
        }
        if let Some(comment) = snapshot.columns.get(position).and_then(|c| c.comment.as_ref()) {
            column["comment"] = json!(comment);
        }
        if !rules.hidden && rules.masks.keys().any(|masked| masked.eq_ignore_ascii_case(field.name())) {
            column["mask"] = json!({"function_name": "simulated_column_mask", "using_column_names": []});
        }
        column
    };
    snapshot.schema.fields().iter().enumerate().map(column).collect()
}

pub(crate) async fn effective_permissions(
    State(app): State<App>,
    headers: HeaderMap,
    Path((kind, full_name)): Path<(String, String)>,
    Query(listing): Query<Listing>,
) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    let of = listing.principal.clone().unwrap_or_else(|| user.name.clone());
    if of != user.name && !user.admin {
        return Err(ApiError::denied(format!("User does not have MANAGE on '{full_name}' and may ask for its own permissions only.")));
    }
    let asked = app.accounts.user(&Principal::new(&of));
    let settings = app.settings();
    let parts: Vec<&str> = full_name.split('.').collect();
    let (privileges, from) = match (kind.to_uppercase().as_str(), parts.as_slice()) {
        ("CATALOG", [_]) => (vec!["USE_CATALOG".to_string()], ("CATALOG", full_name.clone())),
        ("SCHEMA", [_, _]) => {
            let external = settings.default_privileges.iter().filter(|p| *p == EXTERNAL_USE_SCHEMA).cloned();
            (std::iter::once("USE_SCHEMA".to_string()).chain(external).collect(), ("SCHEMA", full_name.clone()))
        }
        ("TABLE", [catalog, schema, table]) => {
            let name = TableName::new(catalog, schema, table);
            let rules = app.rules.of(&name);
            if rules.view_definition.is_none() {
                app.lake.catalogs.newest(&Principal::new(&user.name), &name).await.map_err(as_http)?;
            }
            (rules.privileges(&asked, &settings.default_privileges), ("TABLE", full_name.clone()))
        }
        _ => return Err(ApiError::invalid(format!("'{full_name}' isn't the name of a {kind}"))),
    };
    if privileges.is_empty() {
        return Ok(Json(json!({})).into_response());
    }
    if let ("TABLE", [catalog, schema, table], true) = (from.0, parts.as_slice(), settings.privileges_by_holder) {
        let rules = app.rules.of(&TableName::new(catalog, schema, table));
        return Ok(Json(json!({"privilege_assignments": by_holder(&asked, &rules)})).into_response());
    }
    let assigned: Vec<Value> = privileges
        .iter()
        .map(|privilege| match privilege == EXTERNAL_USE_SCHEMA && from.0 == "TABLE" {
            true => json!({"privilege": privilege, "inherited_from_type": "SCHEMA", "inherited_from_name": parts[..2].join(".")}),
            false => json!({"privilege": privilege}),
        })
        .collect();
    Ok(Json(json!({"privilege_assignments": [{"principal": of, "privileges": assigned}]})).into_response())
}

/// Each holder's own grants: the user's, and those of its groups.
fn by_holder(user: &User, rules: &TableRules) -> Vec<Value> {
    let holders = std::iter::once(&user.name).chain(&user.groups);
    let held = holders.filter_map(|holder| Some((holder, rules.grants.as_ref()?.get(holder)?)));
    held.map(|(holder, privileges)| {
        let privileges: Vec<Value> = privileges.iter().map(|privilege| json!({"privilege": privilege})).collect();
        json!({"principal": holder, "privileges": privileges})
    })
    .collect()
}

pub(crate) async fn policies(State(app): State<App>, headers: HeaderMap, Path((_, full_name)): Path<(String, String)>) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    if !user.admin {
        return Err(ApiError::denied(format!("User does not have MANAGE on '{full_name}'.")));
    }
    let policies = parse_name(&full_name).map(|name| app.rules.of(&name).policies).unwrap_or_default();
    Ok(Json(json!({"policies": policies})).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CredentialRequest {
    table_id: String,
    operation: String,
}

pub(crate) async fn temporary_table_credentials(
    State(app): State<App>,
    headers: HeaderMap,
    Body(request): Body<CredentialRequest>,
) -> Answered {
    let user = app.accounts.authenticate(&headers)?;
    let settings = app.settings();
    if request.operation != "READ" {
        return Err(ApiError::denied("simulated Databricks vends credentials for READ only."));
    }
    let name = find_by_id(&app, &request.table_id).await?;
    let snapshot = app.lake.catalogs.newest(&Principal::new(&user.name), &name).await.map_err(as_http)?;
    let rules = app.rules.of(&name);
    let holds = |privilege| rules.allows(&user, &settings.default_privileges, privilege);
    let plain = matches!(rules.table_type.as_deref(), None | Some("MANAGED" | "EXTERNAL"));
    let why = match () {
        () if !settings.external_access => Some("the metastore doesn't allow external access"),
        () if !holds(SELECT) => Some("the user does not have SELECT on the table"),
        () if !holds(EXTERNAL_USE_SCHEMA) => Some("the user does not have EXTERNAL USE SCHEMA on the schema"),
        () if rules.governed() => Some("the table is a view or has row filters or column masks"),
        () if !plain => Some("tables of this type can't be read by external engines"),
        () if rules.vending_refused => Some("credential vending is refused for this table"),
        () => None,
    };
    if let Some(why) = why {
        return Err(ApiError::denied(format!("Credentials for '{name}' can't be vended: {why}.")));
    }
    app.counters.credentials_vended(&user.name, &name.to_string());
    let secret = || Uuid::new_v4().simple().to_string();
    let mut answer = json!({
        "expiration_time": now_ms().saturating_add_unsigned(settings.credential_lifetime_ms), "url": storage_location(&name, &snapshot, &settings),
    });
    match settings.credential_kind {
        CredentialKind::Aws | CredentialKind::R2 => {
            let field = if settings.credential_kind == CredentialKind::Aws { "aws_temp_credentials" } else { "r2_temp_credentials" };
            let taken = settings.credentials_taken_ms.unwrap_or(u64::MAX).min(settings.credential_lifetime_ms);
            let lifetime = Duration::from_millis(taken);
            let keys = app.grants.vend(&user.name, &name.to_string(), object_prefix(&name), &snapshot.location, lifetime);
            answer[field] = json!({
                "access_key_id": keys.access_key_id, "secret_access_key": keys.secret_access_key, "session_token": keys.session_token,
            });
        }
        CredentialKind::Azure => answer["azure_user_delegation_sas"] = json!({"sas_token": secret()}),
        CredentialKind::Gcp => answer["gcp_oauth_token"] = json!({"oauth_token": secret()}),
    }
    Ok(Json(answer).into_response())
}

async fn find_by_id(app: &App, id: &str) -> Result<TableName, ApiError> {
    let nobody = Principal::new("simulation");
    for catalog in app.lake.catalogs.names() {
        let local = app.lake.catalogs.get(catalog);
        for schema in local.schemas(&nobody, catalog).await.map_err(as_http)? {
            let tables = local.tables(&nobody, catalog, &schema).await.map_err(as_http)?;
            let views = app.rules.views(catalog, &schema);
            let names = tables.into_iter().map(|t| t.name).chain(views.iter().map(|view| TableName::new(catalog, &schema, view)));
            if let Some(found) = names.into_iter().find(|name| table_id(name) == id) {
                // A view has no storage whatever the rights.
                return match app.rules.of(&found).view_definition {
                    Some(_) => Err(ApiError::denied(format!("Credentials for '{found}' can't be vended: it is a view."))),
                    None => Ok(found),
                };
            }
        }
    }
    Err(ApiError::not_found("TABLE_DOES_NOT_EXIST", format!("Table with id '{id}' does not exist.")))
}

/// The same for a name as long as the program is the same.
fn table_id(name: &TableName) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, name.to_string().to_lowercase()).hash(&mut hasher);
        hasher.finish()
    };
    Uuid::from_u64_pair(half(0), half(1)).to_string()
}

fn parse_name(full_name: &str) -> Result<TableName, ApiError> {
    match full_name.split('.').collect::<Vec<_>>().as_slice() {
        [catalog, schema, table] => Ok(TableName::new(catalog, schema, table)),
        _ => Err(ApiError::invalid(format!("'{full_name}' isn't a full name, catalog.schema.table"))),
    }
}

/// One page; a token is the position it begins at. With empty pages, every page of content is
/// preceded by an empty one.
fn page(field: &str, all: Vec<Value>, listing: &Listing, settings: &Settings) -> Answered {
    let size = listing.max_results.filter(|n| *n > 0).unwrap_or(settings.page_size).min(settings.page_size).max(1);
    let token = listing.page_token.as_deref().unwrap_or_default();
    let (from, after_empty) = match token.strip_prefix("content-") {
        Some(from) => (from.parse(), true),
        None if token.is_empty() => (Ok(0), false),
        None => (token.parse(), false),
    };
    let from: usize = from.map_err(|_| ApiError::invalid(format!("page_token '{token}' is unknown")))?;
    if settings.empty_pages && !after_empty {
        return Ok(Json(json!({field: [], "next_page_token": format!("content-{from}")})).into_response());
    }
    let next = from + size;
    let more = next < all.len();
    let shown: Vec<Value> = all.into_iter().skip(from).take(size).collect();
    let mut answer = json!({field: shown});
    if more {
        answer["next_page_token"] = json!(next.to_string());
    }
    Ok(Json(answer).into_response())
}

fn as_http(error: Error) -> ApiError {
    match error.kind() {
        ErrorKind::NotFound => {
            let code = match error.class() {
                Some("SCHEMA_NOT_FOUND") => "SCHEMA_DOES_NOT_EXIST",
                Some("CATALOG_NOT_FOUND") => "CATALOG_DOES_NOT_EXIST",
                _ => "TABLE_DOES_NOT_EXIST",
            };
            ApiError::not_found(code, error.message())
        }
        ErrorKind::PermissionDenied | ErrorKind::Unauthenticated => ApiError::denied(error.message()),
        ErrorKind::InvalidArgument | ErrorKind::NotEligible | ErrorKind::Raised => ApiError::invalid(error.message()),
        ErrorKind::ResourceExhausted
        | ErrorKind::DeadlineExceeded
        | ErrorKind::Cancelled
        | ErrorKind::Unavailable
        | ErrorKind::DataLoss
        | ErrorKind::Internal => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", error.message()),
    }
}

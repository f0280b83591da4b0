//! The questions behind one answer: the table, the policies that can be seen, the principal's
//! effective privileges, and read credentials, which are asked for only when all else is clear.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use flightpath_catalog::{AccessRules, CloudLocation, StorageCredentials, TableName};
use flightpath_types::{Error, Principal, Result};
use futures::try_join;
use serde_json::Value;
use url::Url;

use crate::answers::{Permissions, TableInfo, names_others, privileges};
use crate::catalog::{CREDENTIALS_LEFT_MIN, Inner, full_name, is_down};
use crate::credentials::{self, Vended};
use crate::eligibility::{Evidence, Policies, Vending, eligibility, whoever_asks};
use crate::entry::{Description, Entry, Free, Known, Reading};
use crate::listing::Pager;

/// The group that every user of an account is in, whatever else is told of their groups.
const EVERYBODY_IN_THE_ACCOUNT: &str = "account users";

impl Inner {
    /// Asks everything; `order` and `asked` were taken before. An error that isn't about this table
    /// or principal means that nothing is known.
    pub(crate) async fn ask(&self, entry: &Entry, order: u64, asked: Instant) -> Result<Known> {
        let (principal, name) = (&entry.key.principal, &entry.key.table);
        let asking = Asking { inner: self, principal, name, deadline: Instant::now() + self.config.call_timeout };
        let info = asking.table().await?;
        entry.everybody.note(order, whoever_asks(&info).is_none(), self.newest_order());
        let table = Arc::new(Description::of(&info, name));
        let place = self.place_of(info.storage_location.as_deref());
        let mut evidence = Evidence {
            table: &info,
            permissions: &Permissions {
                use_catalog: Some(true),
                use_schema: Some(true),
                external_use_schema: Some(true),
                select: Some(true),
            },
            policies: Policies::NoneSeen,
            vending: &Vending::Granted,
            storage: place.as_ref().map(|_| ()).map_err(Clone::clone),
            asked,
        };
        let judge = |evidence: &Evidence<'_>| eligibility(evidence, self.now(), self.config.access_lifetime);
        let valid_until = asked + self.config.access_lifetime;
        let remote = |access: AccessRules| {
            let reading = Reading::Remote(table.governed(&access));
            Ok(Known { order, asked, valid_until, described: asked, access, table: table.clone(), reading })
        };
        // No need to ask more about a table that stays in Databricks whatever the answers are.
        if let governed @ AccessRules::Governed(_) = judge(&evidence) {
            return remote(governed);
        }
        let (permissions, policies) = try_join!(asking.permissions(), asking.policies())?;
        evidence.permissions = &permissions;
        evidence.policies = policies;
        if let governed @ AccessRules::Governed(_) = judge(&evidence) {
            return remote(governed);
        }
        let mut vended = asking.vend(info.table_id.as_deref()).await?;
        if let (Ok(credentials), Ok(Place::Cloud(location))) = (&vended, &place)
            && let Err(why) = location.opened_by(credentials)
        {
            vended = Err(why);
        }
        let vending = vended.as_ref().map_or_else(|why| Vending::Refused(why.clone()), |_| Vending::Granted);
        evidence.vending = &vending;
        match (judge(&evidence), vended, place) {
            (AccessRules::Free, Ok(credentials), Ok(place)) => {
                let cloud = if let Place::Cloud(location) = &place { Some(location.clone()) } else { None };
                let storage = Vended { catalog: self.this.clone(), principal: principal.clone(), name: name.clone(), cloud };
                let left = credentials.expires.duration_since(SystemTime::now()).unwrap_or_default();
                let left = left.saturating_sub(CREDENTIALS_LEFT_MIN).max(self.config.retry_after);
                let free = Free::new(self.log(&table.name, place, &storage)?, Arc::new(storage), credentials);
                let valid_until = valid_until.min(asked + left);
                Ok(Known { order, asked, valid_until, described: asked, access: AccessRules::Free, table, reading: Reading::Free(free) })
            }
            (AccessRules::Free, ..) => Err(Error::internal(format!("table {name} was judged free without credentials or a place"))),
            (governed, ..) => remote(governed),
        }
    }

    /// Where a location lies for this process to read, or why it can't.
    fn place_of(&self, location: Option<&str>) -> Result<Place, String> {
        let location = location.ok_or("where it is stored isn't known")?;
        let url = Url::parse(location).map_err(|_| "where it is stored isn't known")?;
        if let Some(cloud) = CloudLocation::parse(location) {
            return cloud.map(|cloud| Place::Cloud(Arc::new(cloud)));
        }
        if url.scheme() != "file" {
            return Err(format!("it is stored in `{}:`, which Databricks alone reads", url.scheme()));
        }
        let path = url.to_file_path().ok().and_then(|path| path.canonicalize().ok());
        path.filter(|path| self.local_roots.iter().any(|root| path.starts_with(root)))
            .map(Place::Folder)
            .ok_or_else(|| "its storage isn't readable here: it lies in no folder of the settings".to_string())
    }
}

/// Where a table's files are read.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Folder(PathBuf),
    Cloud(Arc<CloudLocation>),
}

/// One round of questions.
struct Asking<'a> {
    inner: &'a Inner,
    principal: &'a Principal,
    name: &'a TableName,
    deadline: Instant,
}

impl Asking<'_> {
    async fn table(&self) -> Result<TableInfo> {
        let TableName { catalog, schema, table } = self.name;
        let path = format!("/tables/{}", full_name(&[catalog, schema, table]));
        let query = [("include_delta_metadata", "true".to_string()), ("include_manifest_capabilities", "true".to_string())];
        let answer = self.inner.api.get(self.principal, &path, &query, self.deadline).await?;
        Ok(TableInfo::read(self.name, &answer))
    }

    /// A privilege counts where it was asked for: on its own object, inherited ones included.
    async fn permissions(&self) -> Result<Permissions> {
        let TableName { catalog, schema, table } = self.name;
        let (on_catalog, on_schema, on_table) = try_join!(
            self.assignments("catalog", full_name(&[catalog])),
            self.assignments("schema", full_name(&[catalog, schema])),
            self.assignments("table", full_name(&[catalog, schema, table]))
        )?;
        let user = self.inner.api.databricks_name(self.principal);
        let others = [&on_catalog, &on_schema, &on_table].into_iter().flatten().any(|found| names_others(&user, found));
        let mut holders = vec![user];
        if others {
            holders.extend(self.groups().await?);
        }
        let holds = |found: &Option<Vec<Value>>, wanted: &str, by_all: bool| {
            let held = found.as_ref().map(|found| privileges(&holders, found))?;
            Some(held.contains(wanted) || (by_all && held.contains("ALL_PRIVILEGES")))
        };
        Ok(Permissions {
            use_catalog: holds(&on_catalog, "USE_CATALOG", true),
            use_schema: holds(&on_schema, "USE_SCHEMA", true),
            // Not among what ALL PRIVILEGES stands for.
            external_use_schema: holds(&on_schema, "EXTERNAL_USE_SCHEMA", false),
            select: holds(&on_table, "SELECT", true),
        })
    }

    /// What is held on an object; `None` when the question was refused.
    async fn assignments(&self, kind: &str, full_name: String) -> Result<Option<Vec<Value>>> {
        let user = self.inner.api.databricks_name(self.principal);
        let path = format!("/effective-permissions/{kind}/{full_name}");
        match self.pager().all(&path, &[("principal", user)], "privilege_assignments").await {
            Ok(assignments) => Ok(Some(assignments)),
            Err(error) if is_down(&error) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The groups that the principal is in, as the workspace tells the principal itself; none where
    /// that was refused.
    async fn groups(&self) -> Result<Vec<String>> {
        match self.inner.api.groups(self.principal, self.deadline).await {
            Ok(mut groups) => {
                groups.push(EVERYBODY_IN_THE_ACCOUNT.into());
                Ok(groups)
            }
            Err(error) if is_down(&error) => Err(error),
            Err(_) => Ok(Vec::new()),
        }
    }

    async fn policies(&self) -> Result<Policies> {
        let TableName { catalog, schema, table } = self.name;
        let path = format!("/policies/TABLE/{}", full_name(&[catalog, schema, table]));
        match self.pager().all(&path, &[("include_inherited", "true".to_string())], "policies").await {
            Ok(found) if found.is_empty() => Ok(Policies::NoneSeen),
            Ok(_) => Ok(Policies::Some),
            Err(error) if is_down(&error) => Err(error),
            Err(error) => Ok(if refused(&error) { Policies::NoneSeen } else { Policies::Unknown }),
        }
    }

    /// The credentials, or why there are none.
    async fn vend(&self, table_id: Option<&str>) -> Result<Result<StorageCredentials, String>> {
        let Some(table_id) = table_id else { return Ok(Err("its id isn't known".into())) };
        match self.inner.api.vend(self.principal, table_id, self.deadline).await {
            Ok(answer) => Ok(credentials::read(&answer, SystemTime::now())),
            Err(error) if is_down(&error) => Err(error),
            Err(error) => Ok(Err(error.message().to_string())),
        }
    }

    fn pager(&self) -> Pager<'_> {
        Pager { api: self.inner.api.as_ref(), principal: self.principal, pages_max: self.inner.config.pages_max, deadline: self.deadline }
    }
}

fn refused(error: &Error) -> bool {
    use flightpath_types::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound | Kind::PermissionDenied => true,
        Kind::InvalidArgument
        | Kind::NotEligible
        | Kind::Unauthenticated
        | Kind::Raised
        | Kind::ResourceExhausted
        | Kind::DeadlineExceeded
        | Kind::Cancelled
        | Kind::Unavailable
        | Kind::DataLoss
        | Kind::Internal => false,
    }
}

//! Which tables lie in the data folders. Reads names only, never contents; a folder that can't be
//! read never hides the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flightpath_types::{Error, ErrorKind};

use crate::{CloudLocation, TableName, errors};

pub(crate) const DEFAULT_SCHEMA: &str = "default";
pub(crate) const SYSTEM_SCHEMA: &str = "system";

/// What a table is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Delta(PathBuf),
    /// A Delta log in cloud storage, which the reader's own store opens.
    Cloud(Arc<CloudLocation>),
    Parquet(PathBuf),
    /// Found, but can't be read as a table; the error says why.
    Broken(Error),
}

#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub name: TableName,
    pub source: Source,
    /// As given, before links are followed; for messages.
    pub place: PathBuf,
}

#[derive(Debug, Default)]
pub(crate) struct FoundSchema {
    pub name: String,
    /// By lower-case name.
    pub tables: BTreeMap<String, Found>,
}

#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// By lower-case name.
    pub schemas: BTreeMap<String, FoundSchema>,
    /// Two places that claim one name.
    pub clashes: Vec<Error>,
    /// Data folders that can't be listed.
    pub unreadable: Vec<Error>,
}

pub(crate) fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet"))
}

pub(crate) fn walk(catalog: &str, folders: &[PathBuf]) -> Listing {
    let mut listing = Listing::default();
    listing.schema(DEFAULT_SCHEMA);
    for folder in folders {
        let mut walker = Walker { catalog, listing: &mut listing };
        if folder.join("_delta_log").is_dir() || folder.is_file() {
            // Given as `.` or with a link, the name is what it resolves to or the link's own.
            let named =
                if folder.file_name().is_some() { folder.clone() } else { folder.canonicalize().unwrap_or_else(|_| folder.clone()) };
            walker.entry(DEFAULT_SCHEMA, &named, Depth::Table);
            continue;
        }
        match children(folder) {
            Ok(entries) => entries.iter().for_each(|path| walker.entry(DEFAULT_SCHEMA, path, Depth::Top)),
            Err(e) => listing.unreadable.push(errors::io("can't list the data folder", folder, &e)),
        }
    }
    listing
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Right inside a data folder, where a folder may be a schema.
    Top,
    /// Inside a schema, or a data folder that is a table itself.
    Table,
}

struct Walker<'a> {
    catalog: &'a str,
    listing: &'a mut Listing,
}

impl Walker<'_> {
    fn entry(&mut self, schema: &str, path: &Path, depth: Depth) {
        let Some(table) = table_name(path) else { return };
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(e) => return self.table(schema, &table, path, Source::Broken(errors::io("can't follow", path, &e))),
        };
        if metadata.is_file() {
            if is_parquet(path) {
                self.table(schema, &table, path, Source::Parquet(path.to_path_buf()));
            }
            return;
        }
        match folder_kind(path) {
            Ok(FolderKind::Delta) => self.table(schema, &table, path, Source::Delta(path.to_path_buf())),
            Ok(FolderKind::Parquet) => self.table(schema, &table, path, Source::Parquet(path.to_path_buf())),
            Ok(FolderKind::Hive) => {
                let reason = format!(
                    "`{}` is partitioned into folders like `column=value` without a Delta log; write it as a Delta table",
                    path.display()
                );
                self.table(schema, &table, path, Source::Broken(Error::not_eligible(reason)));
            }
            Ok(FolderKind::Other) if depth == Depth::Top => self.schema(path),
            Ok(FolderKind::Other) => {}
            Err(e) => self.table(schema, &table, path, Source::Broken(errors::io("can't list the folder", path, &e))),
        }
    }

    fn schema(&mut self, path: &Path) {
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return };
        if name.eq_ignore_ascii_case(SYSTEM_SCHEMA) {
            let message = format!(
                "the folder `{}` would be a schema `{SYSTEM_SCHEMA}`, a name that flightpath uses itself; rename the folder",
                path.display()
            );
            self.listing.clashes.push(Error::new(ErrorKind::InvalidArgument, message));
            return;
        }
        self.listing.schema(name);
        // Readable a moment ago; gone by now means empty.
        for child in children(path).unwrap_or_default() {
            self.entry(name, &child, Depth::Table);
        }
    }

    fn table(&mut self, schema: &str, table: &str, path: &Path, source: Source) {
        let tables = &mut self.listing.schema(schema).tables;
        let schema_name = schema.to_string();
        match tables.entry(table.to_lowercase()) {
            std::collections::btree_map::Entry::Vacant(free) => {
                let name = TableName::new(self.catalog, &schema_name, table);
                free.insert(Found { name, source, place: path.to_path_buf() });
            }
            std::collections::btree_map::Entry::Occupied(mut taken) => {
                if taken.get().place == path {
                    return;
                }
                let message = format!(
                    "two places claim the table {}: `{}` and `{}`; rename or remove one of them",
                    taken.get().name,
                    taken.get().place.display(),
                    path.display()
                );
                let clash = Error::new(ErrorKind::InvalidArgument, message);
                taken.get_mut().source = Source::Broken(clash.clone());
                self.listing.clashes.push(clash);
            }
        }
    }
}

impl Listing {
    fn schema(&mut self, name: &str) -> &mut FoundSchema {
        self.schemas.entry(name.to_lowercase()).or_insert_with(|| FoundSchema { name: name.to_string(), tables: BTreeMap::new() })
    }
}

/// `orders.parquet` and `orders` are both the table `orders`. Hidden names and such as aren't text are none.
fn table_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = if is_parquet(path) { path.file_stem()?.to_str()? } else { name };
    (!name.is_empty() && !name.starts_with(['.', '_'])).then(|| name.to_string())
}

enum FolderKind {
    Delta,
    Parquet,
    Hive,
    Other,
}

fn folder_kind(path: &Path) -> std::io::Result<FolderKind> {
    if path.join("_delta_log").is_dir() {
        return Ok(FolderKind::Delta);
    }
    let mut hive = false;
    for child in std::fs::read_dir(path)? {
        let child = child?.path();
        let Some(name) = child.file_name().and_then(|n| n.to_str()) else { continue };
        if name.starts_with(['.', '_']) {
            continue;
        }
        if is_parquet(&child) && child.is_file() {
            return Ok(FolderKind::Parquet);
        }
        hive |= name.contains('=') && child.is_dir();
    }
    Ok(if hive { FolderKind::Hive } else { FolderKind::Other })
}

fn children(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut children = std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>()?;
    children.sort();
    Ok(children)
}

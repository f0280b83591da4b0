//! What a compiled statement may name, read from DuckDB's own parse tree: one SELECT over the
//! ticket's relations and nothing else. An allow-list over every node of the tree: a node that
//! isn't known refuses the statement.
//!
//! The tree comes as JSON from `json_serialize_sql`. It is read token by token without recursion,
//! since plans nest deeper than a JSON library's limit.

use std::collections::HashSet;

/// Nodes without access to storage. Base tables and table functions are looked at further.
const NODES: &[&str] = &[
    // Queries and their modifiers.
    "SELECT_NODE",
    "SET_OPERATION_NODE",
    "CTE_NODE",
    "RECURSIVE_CTE_NODE",
    "ORDER_MODIFIER",
    "LIMIT_MODIFIER",
    "LIMIT_PERCENT_MODIFIER",
    "DISTINCT_MODIFIER",
    // Relations.
    "BASE_TABLE",
    "TABLE_FUNCTION",
    "SUBQUERY",
    "JOIN",
    "EXPRESSION_LIST",
    "EMPTY",
    "EMPTY_FROM",
    "COLUMN_DATA",
    // Orders, in an order's own `type`.
    "ORDER_DEFAULT",
    "ASCENDING",
    "DESCENDING",
    // Inside a type.
    "DECIMAL_TYPE_INFO",
    "LIST_TYPE_INFO",
    "STRUCT_TYPE_INFO",
    "ARRAY_TYPE_INFO",
    "STRING_TYPE_INFO",
    "GENERIC_TYPE_INFO",
    "UNBOUND_TYPE_INFO",
    "TYPE",
    // Expressions.
    "VALUE_CONSTANT",
    "COLUMN_REF",
    "FUNCTION",
    "STAR",
    "CASE_EXPR",
    "LAMBDA",
    "LAMBDA_REF",
    "COLLATE",
    "POSITIONAL_REFERENCE",
    "OPERATOR_CAST",
    "OPERATOR_TRY",
    "OPERATOR_NOT",
    "OPERATOR_IS_NULL",
    "OPERATOR_IS_NOT_NULL",
    "OPERATOR_NULLIF",
    "OPERATOR_COALESCE",
    "COMPARE_EQUAL",
    "COMPARE_NOTEQUAL",
    "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_IN",
    "COMPARE_NOT_IN",
    "COMPARE_DISTINCT_FROM",
    "COMPARE_NOT_DISTINCT_FROM",
    "COMPARE_BETWEEN",
    "COMPARE_NOT_BETWEEN",
    "CONJUNCTION_AND",
    "CONJUNCTION_OR",
    "ARRAY_EXTRACT",
    "ARRAY_SLICE",
    "STRUCT_EXTRACT",
    "ARRAY_CONSTRUCTOR",
    "GROUPING_FUNCTION",
    "WINDOW_AGGREGATE",
    "WINDOW_RANK",
    "WINDOW_RANK_DENSE",
    "WINDOW_NTILE",
    "WINDOW_PERCENT_RANK",
    "WINDOW_CUME_DIST",
    "WINDOW_ROW_NUMBER",
    "WINDOW_FIRST_VALUE",
    "WINDOW_LAST_VALUE",
    "WINDOW_LEAD",
    "WINDOW_LAG",
    "WINDOW_NTH_VALUE",
    "WINDOW_FILL",
];

const TABLE_FUNCTIONS: &[&str] = &["unnest", "range", "generate_series"];

/// What the tree says, or why the statement may not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// The statement opens with a WITH clause of its own.
    pub has_ctes: bool,
}

/// Checks a tree of `json_serialize_sql` against the relations a statement may name.
pub fn check(tree: &str, relations: &HashSet<&str>) -> Result<Checked, String> {
    let mut walk = Walk { relations, tables: Vec::new(), ctes: HashSet::new(), statements: 0, top_level_ctes: false };
    walk.run(tree)?;
    if walk.statements != 1 {
        return Err(format!("exactly one statement may be sent, this text holds {}", walk.statements));
    }
    for table in &walk.tables {
        if !relations.contains(table.as_str()) && !walk.ctes.contains(table) {
            return Err(format!("the statement names the relation '{table}', which isn't bound"));
        }
    }
    Ok(Checked { has_ctes: walk.top_level_ctes })
}

#[derive(Default)]
struct Node {
    is_object: bool,
    /// The key under which this container hangs in its parent.
    under: String,
    key: Option<String>,
    node_type: Option<String>,
    table: Option<String>,
    schema: String,
    catalog: String,
    function: Option<String>,
    function_schema: String,
    has_error: bool,
    cte_key: Option<String>,
    has_value: bool,
    children: usize,
}

struct Walk<'a> {
    relations: &'a HashSet<&'a str>,
    tables: Vec<String>,
    ctes: HashSet<String>,
    statements: usize,
    top_level_ctes: bool,
}

impl Walk<'_> {
    fn run(&mut self, tree: &str) -> Result<(), String> {
        let bytes = tree.as_bytes();
        let mut stack: Vec<Node> = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'{' | b'[' => {
                    let under = stack.last().and_then(|n| n.key.clone()).unwrap_or_default();
                    if let Some(parent) = stack.last_mut() {
                        parent.children += 1;
                        parent.has_value |= parent.is_object && parent.key.as_deref() == Some("value");
                        parent.key = None;
                    }
                    stack.push(Node { is_object: bytes[at] == b'{', under, ..Node::default() });
                    at += 1;
                }
                b'}' | b']' => {
                    let node = stack.pop().ok_or("malformed parse tree")?;
                    self.close(node, &mut stack)?;
                    at += 1;
                }
                b'"' => {
                    let end = string_end(bytes, at).ok_or("malformed parse tree")?;
                    let value: String = serde_json::from_str(&tree[at..end]).map_err(|_| "malformed parse tree")?;
                    at = end;
                    if let Some(node) = stack.last_mut() {
                        string(node, value);
                    }
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => at += 1,
                _ => {
                    let start = at;
                    while at < bytes.len() && !matches!(bytes[at], b',' | b'}' | b']') {
                        at += 1;
                    }
                    if let Some(node) = stack.last_mut() {
                        let key = if node.is_object { node.key.take() } else { None };
                        node.has_error |= key.as_deref() == Some("error") && &tree[start..at] == "true";
                    }
                }
            }
        }
        if stack.is_empty() { Ok(()) } else { Err("malformed parse tree".into()) }
    }

    fn close(&mut self, node: Node, stack: &mut [Node]) -> Result<(), String> {
        if node.has_error {
            return Err("the statement isn't a SELECT that can be checked".into());
        }
        if !node.is_object {
            if node.under == "statements" && stack.len() == 1 {
                self.statements = node.children;
            }
            // statements[0].node.cte_map.map
            if node.under == "map" && node.children > 0 && stack.len() == 5 && stack[4].under == "cte_map" {
                self.top_level_ctes = true;
            }
            return Ok(());
        }
        if node.under == "sample" || node.under == "at_clause" {
            return Err(format!("the statement holds a {}, which isn't allowed here", node.under));
        }
        if let (Some(name), true) = (&node.cte_key, node.has_value) {
            self.cte(name)?;
        }
        // An expression's function hands its name to the table function around it.
        if node.under == "function"
            && let Some(parent) = stack.last_mut()
        {
            parent.function = node.function.clone();
            parent.function_schema.clone_from(&node.schema);
        }
        let Some(node_type) = &node.node_type else { return Ok(()) };
        if !NODES.contains(&node_type.as_str()) {
            return Err(format!("the statement holds a {node_type}, which isn't allowed here"));
        }
        match node_type.as_str() {
            "BASE_TABLE" => {
                let table = node.table.ok_or("a relation without a name")?;
                // `recurring.t` is what a recursion named `t` has made so far; as a name it counts like `t`.
                if !(node.schema.is_empty() || node.schema == "recurring") || !node.catalog.is_empty() {
                    return Err(format!("the statement names '{}.{}.{table}', which isn't bound", node.catalog, node.schema));
                }
                self.tables.push(table);
            }
            "TABLE_FUNCTION" => {
                let name = node.function.unwrap_or_default();
                if !TABLE_FUNCTIONS.contains(&name.as_str()) || !node.function_schema.is_empty() {
                    return Err(format!("the table function '{name}' isn't allowed here"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A name out of its scope must not become a file or a system view, so it can look like neither.
    fn cte(&mut self, name: &str) -> Result<(), String> {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let system = ["duckdb_", "pg_", "sqlite_", "pragma_"].iter().any(|prefix| name.starts_with(prefix));
        if !plain || system || self.relations.contains(name) {
            return Err(format!("the name '{name}' can't be given in a WITH clause here"));
        }
        self.ctes.insert(name.to_string());
        Ok(())
    }
}

/// A string in an object is a key, or the value of the key before it.
fn string(node: &mut Node, value: String) {
    if !node.is_object {
        return;
    }
    let Some(key) = node.key.take() else {
        node.key = Some(value);
        return;
    };
    match key.as_str() {
        "type" => node.node_type = Some(value),
        "table_name" => node.table = Some(value),
        "schema_name" | "schema" => node.schema = value,
        "catalog_name" | "catalog" => node.catalog = value,
        "function_name" => node.function = Some(value),
        "key" => node.cte_key = Some(value),
        _ => {}
    }
}

/// The offset behind the closing quote of the string that opens at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

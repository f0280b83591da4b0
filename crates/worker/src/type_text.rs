//! DuckDB type names as text, read far enough to know that they are types and nothing else, and to
//! rename the fields of nested values.

use std::fmt::{self, Write};

/// Nesting that is still read.
const DEPTH_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeText {
    /// A name, with what stands in its parentheses: `DECIMAL(12,2)`.
    Plain(String),
    Struct(Vec<(String, TypeText)>),
    List(Box<TypeText>),
    Map(Box<TypeText>, Box<TypeText>),
}

impl TypeText {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.trim() };
        let ty = parser.ty(0).ok_or_else(|| format!("'{text}' isn't a type"))?;
        if parser.rest.is_empty() { Ok(ty) } else { Err(format!("'{text}' isn't a type")) }
    }

    /// SQL for `value`, which has this type, as the type `logical`: the same shape with other field
    /// names, matched by position. `None` when the shapes differ.
    pub fn renamed(&self, value: &str, logical: &TypeText, depth: usize) -> Option<String> {
        if self == logical {
            return Some(value.to_string());
        }
        match (self, logical) {
            (TypeText::Plain(_), TypeText::Plain(_)) => Some(format!("CAST({value} AS {logical})")),
            (TypeText::Struct(from), TypeText::Struct(to)) if from.len() == to.len() => {
                let mut fields = Vec::with_capacity(from.len());
                for ((from_name, from_type), (to_name, to_type)) in from.iter().zip(to) {
                    let inner = format!("struct_extract({value}, {})", quote_text(from_name));
                    fields.push(format!("{} := {}", quote_name(to_name), from_type.renamed(&inner, to_type, depth)?));
                }
                Some(format!("CASE WHEN {value} IS NULL THEN NULL ELSE struct_pack({}) END", fields.join(", ")))
            }
            (TypeText::List(from), TypeText::List(to)) => {
                let name = format!("x{depth}");
                Some(format!("list_transform({value}, lambda {name}: {})", from.renamed(&name, to, depth + 1)?))
            }
            (TypeText::Map(from_key, from_value), TypeText::Map(to_key, to_value)) => {
                let name = format!("x{depth}");
                let key = from_key.renamed(&format!("{name}.key"), to_key, depth + 1)?;
                let entry = from_value.renamed(&format!("{name}.value"), to_value, depth + 1)?;
                Some(format!(
                    "map_from_entries(list_transform(map_entries({value}), lambda {name}: struct_pack(key := {key}, value := {entry})))"
                ))
            }
            _ => None,
        }
    }
}

impl fmt::Display for TypeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeText::Plain(name) => f.write_str(name),
            TypeText::Struct(fields) => {
                f.write_str("STRUCT(")?;
                for (i, (name, ty)) in fields.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{} {ty}", quote_name(name))?;
                }
                f.write_char(')')
            }
            TypeText::List(item) => write!(f, "{item}[]"),
            TypeText::Map(key, value) => write!(f, "MAP({key}, {value})"),
        }
    }
}

/// `"name"`, quotes doubled.
pub fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `'text'`, quotes doubled.
pub fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn ty(&mut self, depth: usize) -> Option<TypeText> {
        if depth > DEPTH_MAX {
            return None;
        }
        let name = self.word()?;
        let mut ty = match name.to_ascii_uppercase().as_str() {
            "STRUCT" => {
                self.expect('(')?;
                let mut fields = Vec::new();
                loop {
                    let field = self.name()?;
                    fields.push((field, self.ty(depth + 1)?));
                    if !self.take(',') {
                        break;
                    }
                }
                self.expect(')')?;
                TypeText::Struct(fields)
            }
            "MAP" => {
                self.expect('(')?;
                let key = self.ty(depth + 1)?;
                self.expect(',')?;
                let value = self.ty(depth + 1)?;
                self.expect(')')?;
                TypeText::Map(Box::new(key), Box::new(value))
            }
            upper => TypeText::Plain(self.parameters(upper)?),
        };
        while self.take('[') {
            self.expect(']')?;
            ty = TypeText::List(Box::new(ty));
        }
        Some(ty)
    }

    fn parameters(&mut self, name: &str) -> Option<String> {
        if !self.take('(') {
            return Some(name.to_string());
        }
        let (inner, rest) = self.rest.split_once(')')?;
        if !inner.chars().all(|c| c.is_ascii_digit() || c == ',' || c == ' ') {
            return None;
        }
        let text = format!("{name}({})", inner.replace(' ', ""));
        self.rest = rest.trim_start();
        Some(text)
    }

    fn word(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        (!word.is_empty()).then(|| word.to_string())
    }

    fn name(&mut self) -> Option<String> {
        let Some(mut rest) = self.rest.strip_prefix('"') else { return self.word() };
        let mut name = String::new();
        loop {
            let (part, after) = rest.split_once('"')?;
            name.push_str(part);
            match after.strip_prefix('"') {
                Some(after) => {
                    name.push('"');
                    rest = after;
                }
                None => {
                    self.rest = after.trim_start();
                    return (!name.contains('\0')).then_some(name);
                }
            }
        }
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Option<()> {
        self.take(c).then_some(())
    }
}

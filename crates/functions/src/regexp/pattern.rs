//! Java's regular expressions, read into a tree whose meaning is certain and written for the
//! engines we have. What isn't surely the same is refused, what Java rejects is an error.

mod parse;
mod write;

use flightpath_types::{Error, Result};

use write::{Target, write, write_top};

/// RE2 takes no pattern whose repetitions inside of repetitions multiply to more.
const RE2_REPETITIONS_MAX: u64 = 1_000;

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Literal(char, Fold),
    Any {
        all: bool,
    },
    Class(Class, Fold),
    Start,
    End,
    AbsoluteEnd,
    Word(bool),
    /// Capturing when numbered.
    Group(Box<Node>, bool),
    Look {
        ahead: bool,
        negated: bool,
        node: Box<Node>,
    },
    Concat(Vec<Node>),
    Alternation(Vec<Node>),
    Repeat {
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
        lazy: bool,
    },
    Backreference(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fold {
    None,
    Ascii,
    Unicode,
}

#[derive(Debug, Clone, PartialEq)]
struct Class {
    negated: bool,
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq)]
enum Item {
    Range(char, char),
    /// A Unicode category, written alike everywhere.
    Category(String, bool),
    /// Everything but these.
    Not(Vec<(char, char)>),
}

/// A pattern once read.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    root: Node,
    pub(super) groups: usize,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self> {
        parse::parse(text)
    }

    /// For fancy-regex.
    pub(super) fn rust(&self) -> Result<String> {
        let mut out = String::new();
        write(&self.root, Target::Rust, &mut out).map_err(Error::not_eligible)?;
        Ok(out)
    }

    /// For RE2, or why not.
    pub(super) fn re2(&self, end_may_move: bool) -> Result<String, String> {
        if repetitions(&self.root) > RE2_REPETITIONS_MAX {
            return Err(format!("a pattern that repeats something more than {RE2_REPETITIONS_MAX} times isn't known on DuckDB"));
        }
        let mut out = String::new();
        write_top(&self.root, Target::Re2 { end_may_move }, &mut out)?;
        Ok(out)
    }

    pub(super) fn may_be_empty(&self) -> bool {
        may_be_empty(&self.root)
    }
}

/// How often the innermost part is written out at the most.
fn repetitions(node: &Node) -> u64 {
    match node {
        Node::Literal(..) | Node::Any { .. } | Node::Class(..) => 1,
        Node::Start | Node::End | Node::AbsoluteEnd | Node::Word(_) | Node::Backreference(_) => 1,
        Node::Group(inner, _) | Node::Look { node: inner, .. } => repetitions(inner),
        Node::Concat(nodes) | Node::Alternation(nodes) => nodes.iter().map(repetitions).max().unwrap_or(1),
        Node::Repeat { node, min, max, .. } => repetitions(node).saturating_mul(u64::from(max.unwrap_or(*min).max(1))),
    }
}

fn may_be_empty(node: &Node) -> bool {
    match node {
        Node::Literal(..) | Node::Any { .. } | Node::Class(..) => false,
        Node::Start | Node::End | Node::AbsoluteEnd | Node::Word(_) | Node::Look { .. } | Node::Backreference(_) => true,
        Node::Group(inner, _) => may_be_empty(inner),
        Node::Concat(nodes) => nodes.iter().all(may_be_empty),
        Node::Alternation(nodes) => nodes.iter().any(may_be_empty),
        Node::Repeat { node, min, .. } => *min == 0 || may_be_empty(node),
    }
}

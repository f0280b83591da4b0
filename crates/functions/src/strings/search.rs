//! Finding, cutting and replacing, in characters (code points) as Databricks counts them.

use std::borrow::Cow;
use std::collections::HashMap;

/// `SUBSTRING` of text: positions start at 1, 0 counts as 1, negative ones from the end; a window
/// that begins before the text is cut.
pub(crate) fn substring(text: &str, position: i32, length: i32) -> &str {
    let (start, end) = window(position, length, || text.chars().count());
    if end <= start || end <= 0 {
        return "";
    }
    if text.is_ascii() {
        let start = clamp(start, text.len());
        return &text[start..clamp(end, text.len()).max(start)];
    }
    let mut bounds = text.char_indices().map(|(i, _)| i).chain(std::iter::once(text.len()));
    let skip = start.max(0) as usize;
    let Some(from) = bounds.nth(skip) else { return "" };
    // `end > start`, and `end > 0`.
    let taken = (end - skip as i64 - 1).max(0) as usize;
    let to = if end - (skip as i64) <= 0 { from } else { bounds.nth(taken).unwrap_or(text.len()) };
    &text[from..to]
}

/// `SUBSTRING` of bytes.
pub(crate) fn substring_bytes(bytes: &[u8], position: i32, length: i32) -> &[u8] {
    let (start, end) = window(position, length, || bytes.len());
    let start = clamp(start, bytes.len());
    &bytes[start..clamp(end, bytes.len()).max(start)]
}

fn window(position: i32, length: i32, count: impl Fn() -> usize) -> (i64, i64) {
    let start = match position {
        p if p > 0 => i64::from(p) - 1,
        0 => 0,
        p => i64::try_from(count()).unwrap_or(i64::MAX) + i64::from(p),
    };
    (start, (start + i64::from(length)).clamp(i64::from(i32::MIN), i64::from(i32::MAX)))
}

fn clamp(index: i64, len: usize) -> usize {
    usize::try_from(index.max(0)).unwrap_or(usize::MAX).min(len)
}

/// The position of `needle`, from 1; 0 for none. Searching starts at character `from` (from 1).
pub(crate) fn locate(text: &str, needle: &str, from: i32) -> i32 {
    if from < 1 {
        return 0;
    }
    if needle.is_empty() {
        return 1;
    }
    let skip = from as usize - 1;
    let Some(start) = text.char_indices().map(|(i, _)| i).chain(std::iter::once(text.len())).nth(skip) else { return 0 };
    match text[start..].find(needle) {
        Some(at) => (skip + text[start..start + at].chars().count() + 1) as i32,
        None => 0,
    }
}

/// `OVERLAY`; a negative `length` means the replacement's.
pub(crate) fn overlay(text: &str, with: &str, position: i32, length: i32) -> String {
    let length = if length >= 0 { length } else { with.chars().count() as i32 };
    let head = substring(text, 1, position.wrapping_sub(1));
    let tail = substring(text, position.wrapping_add(length), i32::MAX);
    format!("{head}{with}{tail}")
}

pub(crate) fn overlay_bytes(bytes: &[u8], with: &[u8], position: i32, length: i32) -> Vec<u8> {
    let length = if length >= 0 { length } else { with.len() as i32 };
    [substring_bytes(bytes, 1, position.wrapping_sub(1)), with, substring_bytes(bytes, position.wrapping_add(length), i32::MAX)].concat()
}

/// How long [`replace`]'s result is, where that is worth a look.
pub(crate) fn replaced_bytes(text: &str, search: &str, with: &str) -> usize {
    if search.is_empty() || text.len().saturating_mul(with.len()) < (1 << 20) {
        return 0;
    }
    text.len().saturating_add(text.matches(search).count().saturating_mul(with.len()))
}

/// `REPLACE`; an empty search text replaces nothing.
pub(crate) fn replace<'a>(text: &'a str, search: &str, with: &str) -> Cow<'a, str> {
    if search.is_empty() || !text.contains(search) { Cow::Borrowed(text) } else { Cow::Owned(text.replace(search, with)) }
}

/// `TRANSLATE`: the first of equal characters counts, those without a counterpart vanish.
pub(crate) fn translate(text: &str, from: &str, to: &str) -> String {
    let mut map = HashMap::new();
    let mut replacements = to.chars();
    for c in from.chars() {
        // NUL in the replacement means "remove", like a missing one.
        let with = replacements.next().filter(|r| *r != '\0');
        map.entry(c).or_insert(with);
    }
    text.chars().filter_map(|c| map.get(&c).copied().unwrap_or(Some(c))).collect()
}

/// `SPLIT_PART` with `part != 0`: from 1, or from the end when negative; `""` outside.
pub(crate) fn split_part<'a>(text: &'a str, delimiter: &str, part: i32) -> &'a str {
    if delimiter.is_empty() {
        return if matches!(part, 1 | -1) { text } else { "" };
    }
    let back = part.unsigned_abs() as usize - 1;
    if part > 0 {
        return text.split(delimiter).nth(back).unwrap_or("");
    }
    // Not `rsplit`: delimiters that overlap are found from the left.
    let parts: Vec<&str> = text.split(delimiter).collect();
    parts.len().checked_sub(back + 1).map_or("", |i| parts[i])
}

/// `SUBSTRING_INDEX`: everything before the `count`th delimiter from the left, or after it from the
/// right. Delimiters may overlap.
pub(crate) fn substring_index<'a>(text: &'a str, delimiter: &str, count: i32) -> &'a str {
    if delimiter.is_empty() || count == 0 {
        return "";
    }
    let (text_bytes, needle) = (text.as_bytes(), delimiter.as_bytes());
    let Some(last) = text_bytes.len().checked_sub(needle.len()) else { return text };
    let is_match = |i: &usize| text_bytes[*i..].starts_with(needle);
    let nth = count.unsigned_abs() as usize - 1;
    if count > 0 {
        (0..=last).filter(is_match).nth(nth).map_or(text, |i| &text[..i])
    } else {
        (0..=last).rev().filter(is_match).nth(nth).map_or(text, |i| &text[i + needle.len()..])
    }
}

/// `FIND_IN_SET`: the position in a comma-separated list, 0 for none or a text with a comma.
pub(crate) fn find_in_set(word: &str, set: &str) -> i32 {
    if word.contains(',') {
        return 0;
    }
    set.split(',').position(|item| item == word).map_or(0, |i| i as i32 + 1)
}

/// `LPAD`/`RPAD` of text.
pub(crate) fn pad(text: &str, length: i32, with: &str, left: bool) -> String {
    let count = text.chars().count() as i64;
    let missing = i64::from(length) - count;
    if missing <= 0 || with.is_empty() {
        return text.chars().take(length.max(0) as usize).collect();
    }
    let padding: String = with.chars().cycle().take(missing as usize).collect();
    if left { padding + text } else { format!("{text}{padding}") }
}

pub(crate) fn pad_bytes(bytes: &[u8], length: i32, with: &[u8], left: bool) -> Vec<u8> {
    let length = length.max(0) as usize;
    if length <= bytes.len() || with.is_empty() {
        return bytes[..length.min(bytes.len())].to_vec();
    }
    let padding: Vec<u8> = with.iter().copied().cycle().take(length - bytes.len()).collect();
    if left { [padding.as_slice(), bytes].concat() } else { [bytes, padding.as_slice()].concat() }
}

/// Levenshtein distance in characters.
pub(crate) fn levenshtein(a: &str, b: &str) -> i32 {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<i32> = (0..=b.len() as i32).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i as i32 + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + i32::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// `SOUNDEX`; a text that doesn't begin with an ASCII letter is its own code.
pub(crate) fn soundex(text: &str) -> String {
    // A to Z; 7 marks H and W, which don't separate equal codes.
    const CODES: &[u8; 26] = b"01230127022455012623017202";
    let bytes = text.as_bytes();
    let Some(first) = bytes.first().map(u8::to_ascii_uppercase).filter(u8::is_ascii_uppercase) else { return text.to_string() };
    let mut out = String::from(char::from(first));
    let mut last = CODES[usize::from(first - b'A')];
    for b in &bytes[1..] {
        let b = b.to_ascii_uppercase();
        if !b.is_ascii_uppercase() {
            last = b'0';
            continue;
        }
        let code = CODES[usize::from(b - b'A')];
        if code == b'7' {
            continue;
        }
        if code != b'0' && code != last {
            out.push(char::from(code));
            if out.len() == 4 {
                return out;
            }
        }
        last = code;
    }
    while out.len() < 4 {
        out.push('0');
    }
    out
}

/// `LIKE`: `%` any run, `_` one character, `escape` before either or itself. `None` when the
/// pattern ends in its escape or escapes another character, which is an error.
pub(crate) fn like_pattern(pattern: &str, escape: char) -> Option<Vec<LikePart>> {
    let mut parts = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c == escape {
            match chars.next() {
                Some(next) if next == escape || next == '_' || next == '%' => parts.push(LikePart::Is(next)),
                _ => return None,
            }
        } else if c == '%' {
            parts.push(LikePart::Run);
        } else if c == '_' {
            parts.push(LikePart::One);
        } else {
            parts.push(LikePart::Is(c));
        }
    }
    Some(parts)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LikePart {
    Is(char),
    One,
    Run,
}

/// Greedy matching with one point to return to: linear but for the runs.
pub(crate) fn like(text: &str, parts: &[LikePart]) -> bool {
    let (mut rest, mut at) = (text.chars(), 0);
    let mut retry: Option<(std::str::Chars<'_>, usize)> = None;
    loop {
        let matched = match parts.get(at) {
            Some(LikePart::Run) => {
                retry = Some((rest.clone(), at + 1));
                at += 1;
                continue;
            }
            Some(LikePart::One) => rest.next().is_some(),
            Some(LikePart::Is(c)) => rest.next() == Some(*c),
            None if rest.as_str().is_empty() => return true,
            None => false,
        };
        if matched {
            at += 1;
            continue;
        }
        let Some((mut from, then)) = retry.take() else { return false };
        if from.next().is_none() {
            return false;
        }
        rest = from.clone();
        retry = Some((from, then));
        at = then;
    }
}

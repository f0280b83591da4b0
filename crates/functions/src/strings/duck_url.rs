//! URLs and base64 on DuckDB. What it reads otherwise than Java refuses the row.

use super::duck;
use crate::def::DuckCall;

/// Java writes a space as `+`, leaves `*` as it is and writes `~` as bytes.
pub(super) fn encode(x: &str) -> String {
    format!("replace(replace(replace(url_encode({x}), '%20', '+'), '%2A', '*'), '~', '%7E')")
}

/// What isn't a digit of base64 is left out; digits that make no whole bytes are refused.
pub(super) fn unbase64(x: &str) -> String {
    let digits = format!("regexp_replace({x}, '[^A-Za-z0-9+/=]', '', 'g')");
    let whole = crate::duckdb::string("([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}(==)?|[A-Za-z0-9+/]{3}=?)?");
    duck::once(&digits, |s| {
        let padded = format!("rpad(rtrim({s}, '='), CAST((length(rtrim({s}, '=')) + 3) // 4 * 4 AS INTEGER), '=')");
        format!(
            "CASE WHEN {s} IS NULL THEN NULL WHEN regexp_full_match({s}, {whole}) THEN from_base64({padded}) ELSE {} END",
            duck::refuse_value("Such base64 isn't known on DuckDB.")
        )
    })
}

/// Bytes beyond ASCII may be no text, which Java mends and DuckDB doesn't.
pub(super) fn decode(x: &str, tolerate: bool) -> String {
    duck::once(x, |s| {
        let broken = if tolerate {
            "CAST(NULL AS VARCHAR)".to_string()
        } else {
            let message = "'The provided URL cannot be decoded: '";
            let rest = "'. Please ensure that the URL is properly formatted and try again.'";
            crate::duckdb::raise("CANNOT_DECODE_URL", "22546", &format!("{message} || {s} || {rest}"))
        };
        format!(
            "CASE WHEN {s} IS NULL THEN NULL WHEN contains(regexp_replace({s}, '%[0-9A-Fa-f]{{2}}', '', 'g'), '%') THEN {broken} \
             WHEN regexp_matches(regexp_replace({s}, {}, '', 'g'), '%[89A-Fa-f][0-9A-Fa-f]') THEN {} ELSE url_decode(replace({s}, '+', ' ')) END",
            crate::duckdb::string("%([cC][2-9a-fA-F]|[dD][0-9a-fA-F])%[89abAB][0-9a-fA-F]"),
            duck::refuse_value("Such bytes of an URL aren't known on DuckDB.")
        )
    })
}

/// Scheme, host, port, path, query and fragment of URLs that Java takes apart alike: with a plain host, and without
/// a user and signs that need escaping.
const PLAIN_URL: &str = concat!(
    r"([A-Za-z][A-Za-z0-9+.-]*)://",
    r"((?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(:[0-9]{1,5})?",
    r"(/(?:[\pL0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?",
    r"(\?(?:[\pL0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?",
    r"(#(?:[\pL0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?",
);

pub(super) fn parse(c: &DuckCall<'_>) -> Result<String, String> {
    let part = duck::text(c, 1).ok_or("a computed part of an URL isn't known on DuckDB")?;
    let key = match c.args.len() {
        0..=2 => None,
        _ => Some(duck::text(c, 2).ok_or("a computed key of an URL's query isn't known on DuckDB")?),
    };
    if key.is_some_and(|key| key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
        return Err("such a key of an URL's query isn't known on DuckDB".into());
    }
    let pattern = crate::duckdb::string(PLAIN_URL);
    Ok(duck::once(&c.args[0], |s| {
        let group = |i: usize| format!("regexp_extract({s}, {pattern}, {i})");
        let behind_sign = |i: usize| format!("CASE WHEN {0} <> '' THEN substr({0}, 2) END", group(i));
        let found = match (part, key) {
            ("QUERY", Some(key)) => {
                let (begins, all) = (format!(r"(?:^\?|&){key}="), format!(r"(?:^\?|&){key}=([^&]*)"));
                let (begins, all, query) = (crate::duckdb::string(&begins), crate::duckdb::string(&all), group(5));
                format!("CASE WHEN regexp_matches({query}, {begins}) THEN regexp_extract({query}, {all}, 1) END")
            }
            (_, Some(_)) | ("USERINFO", None) => "CAST(NULL AS VARCHAR)".into(),
            ("PROTOCOL", None) => group(1),
            ("HOST", None) => group(2),
            ("AUTHORITY", None) => format!("({} || {})", group(2), group(3)),
            ("PATH", None) => group(4),
            ("FILE", None) => format!("({} || {})", group(4), group(5)),
            ("QUERY", None) => behind_sign(5),
            ("REF", None) => behind_sign(6),
            _ => "CAST(NULL AS VARCHAR)".into(),
        };
        format!(
            "CASE WHEN {s} IS NULL THEN NULL WHEN regexp_full_match({s}, {pattern}) THEN {found} ELSE {} END",
            duck::refuse_value("Such an URL isn't known on DuckDB.")
        )
    }))
}

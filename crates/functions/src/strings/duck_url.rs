//! URLs and base64 on DuckDB. What it reads otherwise than Java refuses the row.

use super::duck;

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

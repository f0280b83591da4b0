//! Upper, lower and title case by Unicode's full mappings, which may lengthen a text.

/// `UPPER`: ASCII fast, otherwise every full mapping (`ß` is `SS`).
pub(crate) fn upper(text: &str) -> String {
    text.to_uppercase()
}

/// `LOWER`: full mappings with the final-sigma rule.
pub(crate) fn lower(text: &str) -> String {
    text.to_lowercase()
}

/// `INITCAP`: the first character of the text and after each ASCII space in title case, the rest
/// in lower case. A sigma's form depends on its neighbours in the whole text.
pub(crate) fn initcap(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut new_word = true;
    // `to_lowercase` of the whole decides each sigma; other characters map one by one alike.
    let sigmas: Vec<char> = if text.contains('Σ') { lowered_sigmas(text) } else { Vec::new() };
    let mut next_sigma = sigmas.into_iter();
    for c in text.chars() {
        let sigma = if c == 'Σ' { next_sigma.next() } else { None };
        if new_word {
            push_title(&mut out, c);
        } else if let Some(sigma) = sigma {
            out.push(sigma);
        } else {
            out.extend(c.to_lowercase());
        }
        new_word = c == ' ';
    }
    out
}

/// What each capital sigma of `text` becomes, in order.
fn lowered_sigmas(text: &str) -> Vec<char> {
    let mut rest = text.to_lowercase();
    let mut out = Vec::new();
    for c in text.chars() {
        let len: usize = c.to_lowercase().map(char::len_utf8).sum();
        if c == 'Σ' {
            out.extend(rest.chars().next());
        }
        rest.drain(..len.min(rest.len()));
    }
    out
}

/// Unicode's full title case of one character.
fn push_title(out: &mut String, c: char) {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => out.push('ǅ'),
        'Ǉ' | 'ǈ' | 'ǉ' => out.push('ǈ'),
        'Ǌ' | 'ǋ' | 'ǌ' => out.push('ǋ'),
        'Ǳ' | 'ǲ' | 'ǳ' => out.push('ǲ'),
        // Georgian has capitals but no title case.
        '\u{10D0}'..='\u{10FA}' | '\u{10FD}'..='\u{10FF}' => out.push(c),
        // Greek with iota below: the precomposed title letter where there is one.
        '\u{1F80}'..='\u{1FAF}' => out.extend(char::from_u32(u32::from(c) | 8)),
        'ᾳ' | 'ᾼ' => out.push('ᾼ'),
        'ῃ' | 'ῌ' => out.push('ῌ'),
        'ῳ' | 'ῼ' => out.push('ῼ'),
        'ᾷ' => out.push_str("ᾼ\u{342}"),
        'ῇ' => out.push_str("ῌ\u{342}"),
        'ῷ' => out.push_str("ῼ\u{342}"),
        'ᾲ' => out.push_str("Ὰ\u{345}"),
        'ᾴ' => out.push_str("Ά\u{345}"),
        'ῂ' => out.push_str("Ὴ\u{345}"),
        'ῄ' => out.push_str("Ή\u{345}"),
        'ῲ' => out.push_str("Ὼ\u{345}"),
        'ῴ' => out.push_str("Ώ\u{345}"),
        'ŉ' => out.push_str("ʼN"),
        _ => {
            let mut mapped = c.to_uppercase();
            out.extend(mapped.next());
            // `ß` is `Ss`, `ﬁ` is `Fi`; combining marks have no case.
            out.extend(mapped.flat_map(char::to_lowercase));
        }
    }
}

/// DuckDB's `upper` maps one character to one; those that become several are replaced first.
pub(crate) fn upper_duckdb(operand: &str) -> String {
    let long: Vec<char> = ('\u{80}'..=char::MAX).filter(|c| c.to_uppercase().count() > 1).collect();
    let class: String = long.iter().collect();
    super::duck::once(operand, |s| {
        let replaced = long.iter().fold(s.to_string(), |text, c| {
            let upper: String = c.to_uppercase().collect();
            format!("replace({text}, '{c}', '{upper}')")
        });
        format!("CASE WHEN regexp_matches({s}, '[{class}]') THEN upper({replaced}) ELSE upper({s}) END")
    })
}

/// Words are what stands between spaces: lower case behind a first letter in title case, which is
/// written out for the letters where that isn't DuckDB's upper case.
pub(crate) fn initcap_duckdb(operand: &str) -> String {
    let title = |c: char| {
        let mut title = String::new();
        push_title(&mut title, c);
        title
    };
    let odd = ('\u{80}'..=char::MAX).filter(|c| c.to_uppercase().count() > 1 || title(*c) != c.to_uppercase().collect::<String>());
    let branches: Vec<String> = odd.map(|c| format!("WHEN '{c}' THEN '{}'", title(c))).collect();
    let first = format!("CASE left(fp_w, 1) {} ELSE upper(left(fp_w, 1)) END", branches.join(" "));
    let refuse = super::duck::refuse_value("`initcap` of a text with this letter isn't known on DuckDB.");
    super::duck::once(operand, |s| {
        let word = format!("{first} || lower(substring(fp_w, 2))");
        format!(
            "CASE WHEN regexp_matches({s}, '[İΣ]') THEN {refuse} ELSE array_to_string(list_transform(string_split({s}, ' '), lambda fp_w: {word}), ' ') END"
        )
    })
}

/// DuckDB's `lower` lacks two things: the dot of `İ`, and the final form of sigma.
pub(crate) fn lower_duckdb(operand: &str) -> String {
    const IGNORED: &str = r"[\p{Mn}\p{Me}\p{Cf}\p{Lm}\p{Sk}''.:·’‘․﹒＇．：︓﹕‧·]*";
    const CASED: &str = r"[\p{Lu}\p{Ll}\p{Lt}ªºⅠ-ⅿⒶ-ⓩ]";
    super::duck::once(operand, |s| {
        // A sigma before a cased letter is the plain one (twice: matches that touch overlap); then one
        // after a cased letter is final, and the rest plain again.
        let plain = |text: String| format!(r"regexp_replace({text}, 'Σ({IGNORED}{CASED})', 'σ\1', 'g')");
        let dotted = format!("replace({s}, 'İ', 'i\u{307}')");
        let marked = format!(r"regexp_replace({}, '({CASED}{IGNORED})Σ', '\1ς', 'g')", plain(plain(dotted)));
        format!("CASE WHEN regexp_matches({s}, '[İΣ]') THEN lower({marked}) ELSE lower({s}) END")
    })
}

//! Kernels where no recorded answer is at hand, by Unicode's and the standards' own tables.

use super::encode::{Url, strict_base64, unbase64, url_decode, url_encode};
use super::number_format::Pattern;
use super::printf::{Format, Value};
use super::{case, search};

#[test]
fn title_case_is_unicodes() {
    for (text, expected) in [("ǆ ﬁn ßx", "ǅ Fin Ssx"), ("ὈΔΥΣΣΕΎΣ ΣΑΣ", "Ὀδυσσεύς Σας"), ("ᾳ ῷ", "ᾼ ῼ͂"), ("ა", "ა"), ("a  b\tc", "A  B\tc")]
    {
        assert_eq!(case::initcap(text), expected, "{text}");
    }
}

#[test]
fn like_matches_runs_and_escapes() {
    let like = |text: &str, pattern: &str| search::like(text, &search::like_pattern(pattern, '\\').unwrap());
    for (text, pattern, expected) in [
        ("", "", true),
        ("", "%", true),
        ("abcabd", "%abd", true),
        ("aaa", "a%a%a", true),
        ("aa", "a%a%a", false),
        ("日本", "__", true),
        ("50%", "50\\%", true),
        ("505", "50\\%", false),
        ("mississippi", "%iss%pp_", true),
    ] {
        assert_eq!(like(text, pattern), expected, "{text} LIKE {pattern}");
    }
    assert!(search::like_pattern("a\\", '\\').is_none());
    assert!(search::like_pattern("a\\b", '\\').is_none());
}

#[test]
fn printf_follows_java() {
    let format = |f: &str, v: Value| Format::parse(f).and_then(|f| f.format(&[v]));
    for (f, v, expected) in [
        ("%.2f", Value::Double(1.005), "1.01"),
        ("%,d", Value::Int(-1_234_567, 32), "-1,234,567"),
        ("%(,.1f", Value::Double(-1234.55), "(1,234.6)"),
        ("%+05d", Value::Int(42, 32), "+0042"),
        ("%x", Value::Int(-1, 32), "ffffffff"),
        ("%X", Value::Int(255, 64), "FF"),
        ("%-5s|", Value::Text("ab".into()), "ab   |"),
        ("%.1s", Value::Text("ab".into()), "a"),
        ("%s", Value::Null, "null"),
        ("%s", Value::Decimal(1, 7), "1E-7"),
        ("%s", Value::Float(0.1), "0.1"),
        ("%.2e", Value::Double(9_995.0), "1.00e+04"),
        ("%10.3e|", Value::Double(0.0), " 0.000e+00|"),
        ("%g", Value::Double(0.00001), "1.00000e-05"),
        ("%g", Value::Double(0.0001), "0.000100000"),
        ("%010.1f", Value::Double(f64::NEG_INFINITY), " -Infinity"),
        ("%#08x", Value::Int(255, 32), "0x0000ff"),
        ("100%%", Value::Null, "100%"),
    ] {
        assert_eq!(format(f, v).unwrap(), expected, "{f}");
    }
    for (f, v) in [
        ("%d", Value::Text("x".into())),
        ("%d", Value::Double(1.0)),
        ("%f", Value::Int(1, 32)),
        ("%f", Value::Decimal(1, 1)),
        ("%-d", Value::Int(1, 32)),
        ("%y", Value::Null),
    ] {
        assert!(format(f, v).is_err(), "{f}");
    }
}

#[test]
fn numbers_are_grouped_and_rounded_half_even() {
    for (digits, value, expected) in
        [(0, 2.5, "2"), (0, 3.5, "4"), (1, 0.25, "0.2"), (2, -0.001, "-0.00"), (2, 1e15, "1,000,000,000,000,000.00")]
    {
        assert_eq!(Pattern::digits(digits).format_double(value), expected, "{value}");
    }
    assert_eq!(Pattern::digits(1).format_decimal(-125, 2), "-1.2");
    assert_eq!(Pattern::parse("#,##0.0#").unwrap().format_decimal(1_234_500, 3), "1,234.5");
    assert!(Pattern::parse("0.00E0").is_err());
}

#[test]
fn urls_and_base64_are_read_strictly() {
    assert_eq!(url_encode("a b/ü*~"), "a+b%2F%C3%BC*%7E");
    assert_eq!(url_decode("a+b%2F%C3%BC").as_deref(), Some("a b/ü"));
    assert_eq!(url_decode("%zz"), None);
    let url = Url::parse("https://u:p@ex.org:80/a/b?x=1&y=2#top").unwrap();
    let parts: Vec<Option<String>> =
        ["PROTOCOL", "USERINFO", "HOST", "AUTHORITY", "PATH", "QUERY", "REF", "FILE"].iter().map(|p| url.part(p, None)).collect();
    let expected = ["https", "u:p", "ex.org", "u:p@ex.org:80", "/a/b", "x=1&y=2", "top", "/a/b?x=1&y=2"];
    assert_eq!(parts, expected.map(|e| Some(e.to_string())));
    assert_eq!(url.part("QUERY", Some("y")).as_deref(), Some("2"));
    assert_eq!(Url::parse("not a url"), None);
    assert_eq!(unbase64("YW\r\nJj"), Some(b"abc".to_vec()));
    assert_eq!(unbase64("YQ=="), Some(b"a".to_vec()));
    assert_eq!(unbase64("Y"), None);
    assert_eq!(strict_base64("not*base64!"), None);
}

#[test]
fn windows_of_text_are_cut_at_both_ends() {
    for (position, length, expected) in
        [(0, 2, "日本"), (-2, 5, "語x"), (-5, 3, "日本"), (2, 0, ""), (5, 1, ""), (1, -1, ""), (2, i32::MAX, "本語x")]
    {
        assert_eq!(search::substring("日本語x", position, length), expected, "{position} {length}");
    }
    assert_eq!(search::substring_index("a.b.c", ".", -2), "b.c");
    assert_eq!(search::locate("banana", "an", 3), 4);
}

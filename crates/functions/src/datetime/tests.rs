//! Zones with daylight saving, patterns and calendars, where no recorded answer is at hand: values
//! follow Java's documented rules.

use datafusion::common::ScalarValue;

use super::pattern::{Moment, Pattern};
use crate::def::Typed;
use crate::recorded_tests::{context_in, evaluate, render};
use crate::sig::call_by_name;
use crate::types;

fn text(s: &str) -> Typed {
    Typed::literal(ScalarValue::Utf8(Some(s.into())))
}

fn call(zone: &str, name: &str, args: Vec<Typed>) -> String {
    let ctx = context_in(zone);
    match call_by_name(&ctx, name, args).and_then(|t| evaluate(&t.expr)) {
        Ok(array) => render(&array, 0).to_string().trim_matches('"').to_string(),
        Err(e) => e.class().unwrap_or("?").to_string(),
    }
}

fn instant(s: &str) -> Typed {
    let value = crate::cast::cast_literal(&ScalarValue::Utf8(Some(s.into())), &types::timestamp(), "UTC");
    Typed::literal(value.unwrap())
}

#[test]
fn wall_clocks_follow_the_session_zone() {
    // In Berlin clocks went forward on 2024-03-31 at 02:00 and back on 2024-10-27 at 03:00.
    let cases = [
        ("hour", vec![instant("2024-03-31 00:30:00")], "1"),
        ("hour", vec![instant("2024-03-31 01:30:00")], "3"),
        ("date_trunc", vec![text("DAY"), instant("2024-03-31 10:00:00")], "2024-03-30T23:00:00.000000Z"),
        ("date_trunc", vec![text("MONTH"), instant("2024-07-15 10:00:00")], "2024-06-30T22:00:00.000000Z"),
        // The second of the two hours from 02:00 to 03:00 stays the second.
        ("date_trunc", vec![text("HOUR"), instant("2024-10-27 01:30:00")], "2024-10-27T01:00:00.000000Z"),
        ("date_trunc", vec![text("HOUR"), instant("2024-10-27 00:30:00")], "2024-10-27T00:00:00.000000Z"),
        ("date_format", vec![instant("2024-07-15 10:00:00"), text("HH:mm XXX VV")], r#"{"s":"12:00 +02:00 Europe/Berlin"}"#),
        ("to_timestamp", vec![text("2024-03-31 02:30"), text("yyyy-MM-dd HH:mm")], "2024-03-31T01:30:00.000000Z"),
        ("to_timestamp", vec![text("2024-10-27 02:30"), text("yyyy-MM-dd HH:mm")], "2024-10-27T00:30:00.000000Z"),
        (
            "timestampadd",
            vec![text("DAY"), Typed::literal(ScalarValue::Int32(Some(1))), instant("2024-03-30 11:00:00")],
            "2024-03-31T10:00:00.000000Z",
        ),
        ("timestampdiff", vec![text("HOUR"), instant("2024-03-30 23:00:00"), instant("2024-03-31 22:00:00")], "24"),
        ("unix_timestamp", vec![text("2024-07-01 00:00:00")], "1719784800"),
        ("from_unixtime", vec![Typed::literal(ScalarValue::Int64(Some(0)))], r#"{"s":"1970-01-01 01:00:00"}"#),
    ];
    for (name, args, expected) in cases {
        let shown = format!("{name}({args:?})");
        assert_eq!(call("Europe/Berlin", name, args), expected, "{shown}");
    }
}

#[test]
fn utc_conversions_dont_depend_on_the_session() {
    for session in ["UTC", "America/New_York"] {
        let to = call(session, "from_utc_timestamp", vec![instant("2024-03-10 07:30:00"), text("America/New_York")]);
        assert_eq!(to, "2024-03-10T03:30:00.000000Z");
        let from = call(session, "to_utc_timestamp", vec![instant("2024-03-10 02:30:00"), text("America/New_York")]);
        assert_eq!(from, "2024-03-10T07:30:00.000000Z", "a skipped time moves forward by the gap");
    }
    assert_eq!(call("UTC", "from_utc_timestamp", vec![instant("2024-01-01"), text("Mars/Base")]), "INVALID_TIMEZONE");
}

#[test]
fn patterns_read_only_what_java_reads() {
    let parse =
        |pattern: &str, text: &str| Pattern::for_parsing(pattern).unwrap().parse(text).map(|p| crate::cast::wall_clock_text(p.local));
    let cases = [
        ("yyyyMMdd", "20240229", Some("2024-02-29 00:00:00")),
        ("yyyyMMdd", "20230229", None),
        ("yyyy-MM-dd", "2024-2-29", None),
        ("yyyy-M-d", "2024-2-9", Some("2024-02-09 00:00:00")),
        ("yyyy-MM-dd", "12024-01-01", None),
        ("yyyy-MM-dd", "+12024-01-01", Some("+12024-01-01 00:00:00")),
        ("dd MMM yyyy", "05 JAN 2024", Some("2024-01-05 00:00:00")),
        ("dd MMM yyyy", "05 January 2024", None),
        ("hh:mm a", "12:30 am", Some("1970-01-01 00:30:00")),
        ("hh:mm a", "13:30 am", None),
        ("HH:mm:ss.SSS", "10:11:12.5", Some("1970-01-01 10:11:12.5")),
        ("HH:mm:ss.SSS", "10:11:12.1234", None),
        ("yyyyMMddHHmmssSSS", "20240229101112123", None),
        ("yyyy-DDD", "2023-366", None),
        ("yyyy-MM-dd[ HH:mm]", "2024-02-29", Some("2024-02-29 00:00:00")),
        ("yyyy-MM-dd[ HH:mm]", "2024-02-29 10:11", Some("2024-02-29 10:11:00")),
        ("yyyy-MM-dd", "2024-02-29 ", None),
    ];
    for (pattern, text, expected) in cases {
        assert_eq!(parse(pattern, text).as_deref(), expected, "{text} by {pattern}");
    }
    for illegal in ["YYYY", "ww", "uuuuu", "MMMMM", "yyyyyyy", "{", "ee", "A", "aa"] {
        assert!(Pattern::for_formatting(illegal).is_err(), "{illegal}");
    }
}

#[test]
fn formatting_marks_years_beyond_four_digits() {
    let at = |days: i64| Moment { local: days * super::pattern::MICROS_PER_DAY, offset: 0, zone: "UTC" };
    let pattern = Pattern::for_formatting("yyyy").unwrap();
    assert_eq!(pattern.format(&at(3_672_148)).unwrap(), "+12024");
    assert_eq!(pattern.format(&at(-719_893)).unwrap(), "-0001");
    assert_eq!(Pattern::for_formatting("yyyy G").unwrap().format(&at(-719_893)).unwrap(), "0002 BC");
}

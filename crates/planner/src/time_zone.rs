//! Names of time zones, as a session may set them.

use flightpath_types::{Error, ErrorKind, Result};

/// An IANA name, `Z`, or an offset such as `+02:00` of at most 18 hours.
pub fn check_time_zone(name: &str) -> Result<()> {
    if name.parse::<chrono_tz::Tz>().is_ok() || matches!(name, "Z" | "z") || is_offset(name) {
        return Ok(());
    }
    Err(Error::classed(
        ErrorKind::InvalidArgument,
        "INVALID_TIMEZONE",
        "22009",
        format!(
            "The timezone: {name} is invalid. The timezone must be either a region-based zone ID or a zone offset: 'Area/City' or '+HH:MM'."
        ),
    ))
}

fn is_offset(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['+', '-']) else { return false };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "00"));
    let number =
        |part: &str, max: u32| part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit()) && part.parse().is_ok_and(|n: u32| n <= max);
    number(hours, 18) && minutes.len() == 2 && number(minutes, 59) && !(hours.parse() == Ok(18) && minutes != "00")
}

#[cfg(test)]
mod tests {
    use super::check_time_zone;

    #[test]
    fn zones_are_regions_or_offsets() {
        for good in ["UTC", "Europe/Berlin", "America/Los_Angeles", "Z", "+02:00", "-08:30", "+5", "+18:00"] {
            assert!(check_time_zone(good).is_ok(), "{good}");
        }
        for bad in ["", "Europe/Atlantis", "+19:00", "+18:30", "02:00", "+2:0", "+aa:bb", "UTC'"] {
            assert!(check_time_zone(bad).is_err(), "{bad}");
        }
    }
}

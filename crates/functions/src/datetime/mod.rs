//! Dates, timestamps and intervals. Everything that depends on the session's time zone takes it
//! from the call; nothing reads the machine's clock or zone.

mod duck;
mod make;
mod now;
mod parts;
pub(crate) mod pattern;
mod shift;
mod text;
mod windows;
mod zones;

#[cfg(test)]
mod tests;

pub(crate) use duck::timestamp_of_seconds;
pub(crate) use make::MAKE;
pub(crate) use now::NOW;
pub(crate) use parts::PARTS;
pub(crate) use shift::SHIFT;
pub(crate) use text::TEXT;
pub(crate) use windows::WINDOWS;
pub(crate) use zones::ZONES;

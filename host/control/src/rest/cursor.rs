//! Cursors, which are opaque to callers, and other texts that stand in URLs.

use std::fmt::Display;

use chrono::DateTime;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::store::Position;

/// What stands for itself in a path (RFC 3986, unreserved); everything else is encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A cursor as callers see it: opaque.
pub(super) fn write_cursor(position: &Position) -> String {
    hex::encode(format!("{} {}", position.created_at.timestamp_micros(), position.id))
}

/// Reads a cursor back.
pub(super) fn read_cursor(text: &str) -> Result<Position, String> {
    let read = || {
        let plain = String::from_utf8(hex::decode(text).ok()?).ok()?;
        let (micros, id) = plain.split_once(' ').filter(|_| storable(&plain))?;
        let created_at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
        Some(Position { created_at, id: id.to_owned() })
    };
    read().ok_or_else(|| "not a cursor of an earlier answer".to_owned())
}

/// A cursor of a list that is ordered by name.
pub(super) fn write_name_cursor(name: &str) -> String {
    hex::encode(name)
}

/// Reads a cursor of a list that is ordered by name.
pub(super) fn read_name_cursor(text: &str) -> Result<String, String> {
    let read = || String::from_utf8(hex::decode(text).ok()?).ok().filter(|name| storable(name));
    read().ok_or_else(|| "not a cursor of an earlier answer".to_owned())
}

/// Whether anything can be called so: PostgreSQL cannot even compare with the rest.
fn storable(text: &str) -> bool {
    !text.contains('\0')
}

/// A cursor of a list that is ordered by number.
pub(super) fn write_number_cursor(number: i64) -> String {
    hex::encode(number.to_string())
}

/// Reads a cursor of a list that is ordered by number.
pub(super) fn read_number_cursor(text: &str) -> Result<i64, String> {
    let number = read_name_cursor(text).ok().and_then(|number| number.parse().ok());
    number.ok_or_else(|| "not a cursor of an earlier answer".to_owned())
}

/// A name as a segment of a path.
pub(super) fn encoded_segment(name: &str) -> impl Display {
    utf8_percent_encode(name, SEGMENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::now;

    #[test]
    fn cursors_come_back_as_they_went() {
        let position = Position { created_at: now(), id: "x y".into() };
        assert_eq!(read_cursor(&write_cursor(&position)), Ok(position));
        for bad in ["", "zz", "00", &hex::encode("12"), &hex::encode("x y"), &hex::encode([0xff, 0x20])] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
        assert_eq!(read_number_cursor(&write_number_cursor(42)), Ok(42));
        for bad in ["", "zz", &hex::encode("x")] {
            assert!(read_number_cursor(bad).is_err(), "{bad}");
        }
    }
}

//! The parameters of a request's URL. An unknown or repeated one is an error: it would be ignored otherwise, and
//! the caller would believe that it worked.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use axum::extract::{FromRequestParts as _, Query};
use chrono::DateTime;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::problem::{FieldError, Problem};
use crate::domain::{GoDuration, InvalidDuration};
use crate::store::Position;

/// What stands for itself in a path (RFC 3986, unreserved); everything else is encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Items on a page, if the caller does not say.
const DEFAULT_LIMIT: u32 = 50;
/// Items on a page at most.
const LARGEST_LIMIT: u32 = 500;

/// The parameters, each given once.
pub(super) struct Parameters {
    values: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl Parameters {
    /// Reads them; only those named are allowed.
    pub(super) async fn read(parts: &mut Parts, allowed: &[&str]) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, &()).await;
        let Ok(Query(pairs)) = pairs else {
            return Err(Problem::bad_request(vec![FieldError::new(
                "",
                "the query of the URL cannot be read",
            )]));
        };
        let mut read = Self { values: BTreeMap::new(), errors: Vec::new() };
        for (name, value) in pairs {
            if !allowed.contains(&name.as_str()) {
                read.errors.push(FieldError::new(name, "unknown parameter"));
            } else if read.values.insert(name.clone(), value).is_some() {
                read.errors.push(FieldError::new(name, "given more than once"));
            }
        }
        Ok(read)
    }

    /// One parameter, read by a function that says what is wrong.
    pub(super) fn take<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match read(&self.values.remove(name)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.errors.push(FieldError::new(name, message));
                None
            }
        }
    }

    /// A parameter `wait`, cut to a limit.
    pub(super) fn wait(&mut self, limit: Duration) -> Option<Duration> {
        self.take("wait", |text| match GoDuration::parse(text) {
            Ok(wait) => Ok(wait.length().min(limit)),
            Err(InvalidDuration::NotPositive) if !text.starts_with('-') => Ok(Duration::ZERO),
            Err(error) => Err(error.to_string()),
        })
    }

    /// A parameter that is `true` or `false`.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let flag = self.take(name, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        });
        flag.unwrap_or(false)
    }

    /// A parameter `limit`: how many items belong on a page.
    pub(super) fn limit(&mut self) -> u32 {
        let limit = self.take("limit", |text| match text.parse::<u32>() {
            Ok(limit) if (1..=LARGEST_LIMIT).contains(&limit) => Ok(limit),
            _ => Err(format!("must be a number from 1 to {LARGEST_LIMIT}")),
        });
        limit.unwrap_or(DEFAULT_LIMIT)
    }

    /// All errors, if there are any.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::bad_request(self.errors)) }
    }
}

/// A cursor as callers see it: opaque.
pub(super) fn write_cursor(position: &Position) -> String {
    hex::encode(format!("{} {}", position.created_at.timestamp_micros(), position.id))
}

/// Reads a cursor back.
pub(super) fn read_cursor(text: &str) -> Result<Position, String> {
    let read = || {
        let plain = String::from_utf8(hex::decode(text).ok()?).ok()?;
        let (micros, id) = plain.split_once(' ')?;
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
    let read = || String::from_utf8(hex::decode(text).ok()?).ok();
    read().ok_or_else(|| "not a cursor of an earlier answer".to_owned())
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
    }
}

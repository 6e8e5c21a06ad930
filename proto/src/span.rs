//! Durations as Go writes them: `30m`, `2h30m`, `1.5h`, `300ms`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// It does not follow the grammar.
    #[error("not a duration like \"30m\" or \"2h30m\"")]
    Syntax,
    /// Zero or less.
    #[error("must be more than zero")]
    NotPositive,
    /// More than about 292 years.
    #[error("too long")]
    TooLong,
}

/// A length of time, more than zero, kept with the text it was written in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct GoDuration {
    text: String,
    #[serde(skip)]
    length: Duration,
}

impl GoDuration {
    /// Reads and checks a duration.
    pub fn parse(text: &str) -> Result<Self, InvalidDuration> {
        if let Some(positive) = text.strip_prefix('-') {
            return parse_nanos(positive).and(Err(InvalidDuration::NotPositive));
        }
        let nanos = parse_nanos(text.strip_prefix('+').unwrap_or(text))?;
        if nanos == 0 {
            return Err(InvalidDuration::NotPositive);
        }
        Ok(Self { text: text.to_owned(), length: Duration::from_nanos(nanos) })
    }

    /// A length as it is usually written, to the millisecond; at least one.
    pub fn of(length: Duration) -> Self {
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1);
        let text = if millis % 1000 == 0 { format!("{}s", millis / 1000) } else { format!("{millis}ms") };
        Self { text, length: Duration::from_millis(millis) }
    }

    /// The length.
    pub fn length(&self) -> Duration {
        self.length
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn parse_nanos(text: &str) -> Result<u64, InvalidDuration> {
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err(InvalidDuration::Syntax);
    }
    let mut total: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(InvalidDuration::Syntax)?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit_nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(InvalidDuration::Syntax),
        };
        total = total.checked_add(part_nanos(number, unit_nanos)?).ok_or(InvalidDuration::TooLong)?;
        rest = after;
    }
    // Go keeps durations in a signed 64-bit number of nanoseconds.
    i64::try_from(total).ok().and_then(|nanos| u64::try_from(nanos).ok()).ok_or(InvalidDuration::TooLong)
}

fn part_nanos(number: &str, unit_nanos: u128) -> Result<u128, InvalidDuration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(InvalidDuration::Syntax);
    }
    if whole.len() > 20 {
        return Err(InvalidDuration::TooLong);
    }
    let whole: u128 =
        if whole.is_empty() { 0 } else { whole.parse().map_err(|_| InvalidDuration::Syntax)? };
    // Beyond nanoseconds there is nothing to keep; Go drops those digits too.
    let fraction = fraction.get(..fraction.len().min(15)).unwrap_or_default();
    let fraction_nanos = if fraction.is_empty() {
        0
    } else {
        let digits: u128 = fraction.parse().map_err(|_| InvalidDuration::Syntax)?;
        let places = u32::try_from(fraction.len()).map_err(|_| InvalidDuration::Syntax)?;
        digits * unit_nanos / 10u128.pow(places)
    };
    whole
        .checked_mul(unit_nanos)
        .and_then(|nanos| nanos.checked_add(fraction_nanos))
        .ok_or(InvalidDuration::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read() {
        for (text, millis) in [
            ("30m", 1_800_000),
            ("2h30m", 9_000_000),
            ("1.5h", 5_400_000),
            ("300ms", 300),
            (".5s", 500),
            ("+1m30s", 90_000),
            ("1000us", 1),
        ] {
            assert_eq!(
                GoDuration::parse(text).map(|d| d.length()),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn refused() {
        for text in ["", "30", "m", "1d", "1h 30m", "1.2.3s", ".s", "five minutes", "1H"] {
            assert_eq!(GoDuration::parse(text), Err(InvalidDuration::Syntax), "{text:?}");
        }
        for text in ["0", "0s", "-5m", "0h0m"] {
            assert_eq!(GoDuration::parse(text), Err(InvalidDuration::NotPositive), "{text:?}");
        }
        for text in ["9999999999h", "99999999999999999999999s"] {
            assert_eq!(GoDuration::parse(text), Err(InvalidDuration::TooLong), "{text:?}");
        }
    }
}

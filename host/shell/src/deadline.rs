//! How long a call may take.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// For callers that set no limit.
const DEFAULT: Duration = Duration::from_secs(60);

/// Nobody holds a permit and a session's lock for longer than that.
const LONGEST: Duration = Duration::from_secs(600);

/// What is left of the caller's time for the way back: this part of it, within these limits. A server on a socket drops
/// a call at the very moment at which the caller's time is over, and nobody would see how it ended.
const WAY_BACK: (u32, Duration, Duration) = (20, Duration::from_millis(20), Duration::from_millis(500));

/// The caller's limit from `grpc-timeout` (gRPC over HTTP/2, "Timeout"), which no transport in memory would enforce,
/// less what the answer's way back may take.
pub(crate) fn of_request(metadata: &MetadataMap) -> Duration {
    let given = metadata.get("grpc-timeout").and_then(|value| parse(value.to_str().ok()?));
    given.map_or(DEFAULT, less_the_way_back).min(LONGEST)
}

fn less_the_way_back(given: Duration) -> Duration {
    let (part, least, most) = WAY_BACK;
    given.saturating_sub((given / part).clamp(least, most))
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_units_of_the_protocol_are_read() {
        for (text, duration) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("6n", Duration::from_nanos(6)),
        ] {
            assert_eq!(parse(text), Some(duration), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "ä"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_call_without_a_limit_gets_one_and_none_is_endless() {
        let mut metadata = MetadataMap::new();
        assert_eq!(of_request(&metadata), DEFAULT);
        metadata.insert("grpc-timeout", "99999999H".parse().unwrap());
        assert_eq!(of_request(&metadata), LONGEST);
    }

    #[test]
    fn the_answer_has_time_for_its_way_back() {
        for (given, left) in [(10, 0), (100, 80), (2000, 1900), (60_000, 59_500)] {
            assert_eq!(
                less_the_way_back(Duration::from_millis(given)),
                Duration::from_millis(left),
                "{given}"
            );
        }
    }
}

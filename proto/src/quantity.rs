//! Quantities as Kubernetes writes them: `512Mi`, `2Gi`, `1000m`, `0.5`, `1e3`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuantity {
    /// It does not follow the grammar.
    #[error("not a quantity like \"512Mi\", \"2Gi\", \"1000m\" or \"0.5\"")]
    Syntax,
    /// Zero or less.
    #[error("must be more than zero")]
    NotPositive,
    /// Finer than the smallest unit of its kind.
    #[error("finer than {0}, the smallest unit there is")]
    TooFine(&'static str),
    /// Larger than anything a backend could mean.
    #[error("too large")]
    TooLarge,
}

/// A thousand million parts of one make every suffix exact.
const NANO: u128 = 1_000_000_000;

/// The value in billionths.
fn parse_nanos(text: &str) -> Result<u128, InvalidQuantity> {
    if text.starts_with('-') {
        // Told apart from nonsense, because the answer to the caller is another one.
        return parse_nanos(text.get(1..).unwrap_or_default()).and(Err(InvalidQuantity::NotPositive));
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(InvalidQuantity::Syntax);
    }
    let (multiplier, divisor) = scale(suffix)?;

    let digits = format!("{whole}{fraction}");
    if digits.len() > 30 {
        return Err(InvalidQuantity::TooLarge);
    }
    let mantissa: u128 = digits.parse().map_err(|_| InvalidQuantity::Syntax)?;
    let decimals = u32::try_from(fraction.len()).map_err(|_| InvalidQuantity::Syntax)?;
    let divisor = 10u128
        .checked_pow(decimals)
        .and_then(|tens| tens.checked_mul(divisor))
        .ok_or(InvalidQuantity::TooFine("a billionth"))?;
    let scaled = mantissa.checked_mul(multiplier).ok_or(InvalidQuantity::TooLarge)?;
    // Reduce before multiplying by a thousand million, or large values would overflow on the way.
    let whole_part = (scaled / divisor).checked_mul(NANO).ok_or(InvalidQuantity::TooLarge)?;
    let rest = (scaled % divisor).checked_mul(NANO).ok_or(InvalidQuantity::TooLarge)?;
    if rest % divisor != 0 {
        return Err(InvalidQuantity::TooFine("a billionth"));
    }
    let nanos = whole_part.checked_add(rest / divisor).ok_or(InvalidQuantity::TooLarge)?;
    if nanos == 0 { Err(InvalidQuantity::NotPositive) } else { Ok(nanos) }
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Result<(u128, u128), InvalidQuantity> {
    let scale = match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (10u128.pow(3), 1),
        "M" => (10u128.pow(6), 1),
        "G" => (10u128.pow(9), 1),
        "T" => (10u128.pow(12), 1),
        "P" => (10u128.pow(15), 1),
        "E" => (10u128.pow(18), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E']).ok_or(InvalidQuantity::Syntax)?;
            let (negative, digits) = match digits.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, digits.strip_prefix('+').unwrap_or(digits)),
            };
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(InvalidQuantity::Syntax);
            }
            let power: u32 = digits.parse().map_err(|_| InvalidQuantity::TooLarge)?;
            let tens = 10u128.checked_pow(power).ok_or(InvalidQuantity::TooLarge)?;
            if negative { (1, tens) } else { (tens, 1) }
        }
    };
    Ok(scale)
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $nanos_per_unit:expr, $unit:literal, $getter:ident, $getter_doc:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(transparent)]
        pub struct $name {
            text: String,
            #[serde(skip)]
            units: u64,
        }

        impl $name {
            /// Reads and checks a quantity.
            pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
                let nanos = parse_nanos(text)?;
                if nanos % $nanos_per_unit != 0 {
                    return Err(InvalidQuantity::TooFine($unit));
                }
                let units = i64::try_from(nanos / $nanos_per_unit)
                    .ok()
                    .and_then(|units| u64::try_from(units).ok())
                    .ok_or(InvalidQuantity::TooLarge)?;
                Ok(Self { text: text.to_owned(), units })
            }

            /// As the caller wrote it.
            pub fn as_str(&self) -> &str {
                &self.text
            }

            #[doc = $getter_doc]
            pub fn $getter(&self) -> u64 {
                self.units
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

quantity!(
    /// An amount of memory or storage: a whole number of bytes.
    ByteQuantity,
    NANO,
    "one byte",
    bytes,
    "The amount in bytes."
);
quantity!(
    /// An amount of processor time: thousandths of a core.
    CpuQuantity,
    NANO / 1000,
    "1m, a thousandth of a core",
    millicores,
    "The amount in thousandths of a core."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        for (text, bytes) in [
            ("1", 1),
            ("512Mi", 512 << 20),
            ("2Gi", 2 << 30),
            ("0.5Gi", 512 << 20),
            ("1.5k", 1500),
            ("1e3", 1000),
            ("12E", 12_000_000_000_000_000_000 % (1 << 63)),
            ("+3M", 3_000_000),
            ("5000m", 5),
            (".5k", 500),
            ("10.", 10),
        ] {
            if text == "12E" {
                assert_eq!(ByteQuantity::parse(text), Err(InvalidQuantity::TooLarge));
                continue;
            }
            assert_eq!(ByteQuantity::parse(text).map(|q| q.bytes()), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn cpu() {
        for (text, milli) in [("1000m", 1000), ("0.5", 500), ("1", 1000), ("2.25", 2250), ("1e2", 100_000)] {
            assert_eq!(CpuQuantity::parse(text).map(|q| q.millicores()), Ok(milli), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in
            ["", "Gi", "2gb", "2 Gi", " 2Gi", "1..5", "1.2.3", "2GiB", "0x10", "1e", "e3", "½", ".", "NaN"]
        {
            assert_eq!(ByteQuantity::parse(text), Err(InvalidQuantity::Syntax), "{text:?}");
        }
        for text in ["0", "0Gi", "-1", "-2Gi", "0.000"] {
            assert_eq!(ByteQuantity::parse(text), Err(InvalidQuantity::NotPositive), "{text:?}");
        }
        assert_eq!(ByteQuantity::parse("100m"), Err(InvalidQuantity::TooFine("one byte")));
        assert!(matches!(CpuQuantity::parse("0.5m"), Err(InvalidQuantity::TooFine(_))));
        for text in ["9999999999Ei", "1e400", "1e99999999999", "99999999999999999999999999999999999999"] {
            assert_eq!(ByteQuantity::parse(text), Err(InvalidQuantity::TooLarge), "{text:?}");
        }
    }

    #[test]
    fn keeps_its_text() {
        let quantity: ByteQuantity = serde_json::from_str("\"0.5Gi\"").unwrap();
        assert_eq!(serde_json::to_string(&quantity).unwrap(), "\"0.5Gi\"");
        assert!(serde_json::from_str::<ByteQuantity>("\"lots\"").is_err());
    }
}

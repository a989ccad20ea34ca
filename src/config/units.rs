//! Quantities as people write them: durations and sizes with their unit in the text.

use std::time::Duration;

/// Reads a duration such as `"4500ms"`, `"10s"`, `"24h"` or `"1h 30m"`.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!("a duration needs its unit, such as \"{text}s\" or \"{text}ms\""));
    }
    humantime::parse_duration(text).map_err(|_| "units are ms, s, m, h and d, such as \"1h 30m\"".to_owned())
}

/// Reads a size such as `"32 MiB"`, `"512KiB"` or `"1 GB"`.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!("a size needs its unit, such as \"{text} MiB\" or \"{text} B\""));
    }
    let size: bytesize::ByteSize =
        text.parse().map_err(|_| "units are B, KB, MB, GB and KiB, MiB, GiB, such as \"32 MiB\"".to_owned())?;
    Ok(size.as_u64())
}

/// Reads a share such as `"10%"`, in whole percent.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_percent(text: &str) -> Result<u8, String> {
    let text = text.trim();
    let Some(number) = text.strip_suffix('%') else {
        return Err(if text.parse::<u8>().is_ok() {
            format!("a percentage needs its sign, such as \"{text}%\"")
        } else {
            "write a percentage such as \"10%\"".to_owned()
        });
    };
    number.trim_end().parse().map_err(|_| "write a whole number before the sign, such as \"10%\"".to_owned())
}

/// Writes a duration as [`parse_duration`] reads it, in the largest unit that keeps it whole.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, len) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= len && millis.is_multiple_of(len) {
            return format!("{}{unit}", millis / len);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

/// Writes a size as [`parse_bytes`] reads it, in the largest unit that keeps it whole.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    for (unit, len) in [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= len && bytes.is_multiple_of(len) {
            return format!("{} {unit}", bytes / len);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_spellings_are_understood() {
        assert_eq!(parse_duration("4500ms"), Ok(Duration::from_millis(4500)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_bytes("32 MiB"), Ok(32 << 20));
        assert_eq!(parse_bytes("512KiB"), Ok(512 << 10));
        assert_eq!(parse_bytes("1 GB"), Ok(1_000_000_000));
    }

    #[test]
    fn a_bare_number_is_told_which_unit_is_missing() {
        assert_eq!(parse_duration("10").unwrap_err(), "a duration needs its unit, such as \"10s\" or \"10ms\"");
        assert_eq!(parse_bytes("32").unwrap_err(), "a size needs its unit, such as \"32 MiB\" or \"32 B\"");
        for bad in ["", "ten", "10 parsecs", "-1s", "99999999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "lots", "10 furlongs", "-1 B"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_share_has_its_sign() {
        assert_eq!((parse_percent("10%"), parse_percent(" 7 % ")), (Ok(10), Ok(7)));
        assert_eq!(parse_percent("10").unwrap_err(), "a percentage needs its sign, such as \"10%\"");
        for bad in ["", "%", "-1%", "1.5%", "300%", "ten%"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0_u64..1 << 40, bytes in 0_u64..1 << 50) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
    }
}

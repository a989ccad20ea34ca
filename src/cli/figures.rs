//! Numbers as people read them, each with its unit, and tables of them.

use super::render::{columns, visible};
use std::time::Duration;

/// Writes a whole number with commas.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes seconds with two or three digits and a fitting unit; a dash for none.
pub(super) fn time(seconds: f64) -> String {
    if seconds <= 0.0 {
        return "-".to_owned();
    }
    let (value, unit) = if seconds < 0.001 {
        (seconds * 1e6, "µs")
    } else if seconds < 1.0 {
        (seconds * 1e3, "ms")
    } else {
        (seconds, "s")
    };
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// Writes a share in percent; a dash for one of nothing.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let permille = u128::from(part) * 1000 / u128::from(whole);
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Writes octets with a binary unit.
pub(super) fn octets(n: u64) -> String {
    bytesize::ByteSize::b(n).display().iec().to_string()
}

/// Writes how long something has been so, in its two greatest units.
pub(super) fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, _) => format!("{minutes} min {} s", whole % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A table with a head; the columns named in `right` are numbers and stand at the right.
pub(super) fn table(head: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let mut all = vec![head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    all.extend(rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()));
    for &column in right {
        let width = all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        for cell in all.iter_mut().filter_map(|row| row.get_mut(column)) {
            *cell = format!("{}{cell}", " ".repeat(width - cell.chars().count()));
        }
    }
    columns(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_few_digits() {
        assert_eq!([count(0), count(999), count(48_211), count(1_000_000)], ["0", "999", "48,211", "1,000,000"]);
        assert_eq!([0.0, 0.000_04, 0.0712, 1.902, 12.4].map(time), ["-", "40 µs", "71 ms", "1.9 s", "12 s"]);
        assert_eq!([share(85, 100), share(1, 3), share(0, 0)], ["85.0 %", "33.3 %", "-"]);
        assert_eq!([5.0, 61.0, 49_459.0, 200_000.0].map(span), ["5 s", "1 min 1 s", "13 h 44 min", "2 d 7 h"]);
    }

    #[test]
    fn numbers_stand_at_the_right_and_nothing_moves_the_cursor() {
        let rows = [
            vec!["a\u{1b}[2J".to_owned(), "5".to_owned(), String::new()],
            vec!["b".to_owned(), "1,000".to_owned(), "x".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "N", "Z"], &[1], &rows),
            "NAME            N  Z\na\\u{1b}[2J      5  -\nb           1,000  x\n"
        );
    }
}

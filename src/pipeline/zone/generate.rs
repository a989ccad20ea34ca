//! `$GENERATE RANGE OWNER [TTL] [CLASS] TYPE DATA`: many records from one line, as BIND invented it.

/// Records one `$GENERATE` makes: all hosts of an IPv4 /16.
const MAX_GENERATED: u64 = 65_536;
/// Digits a number is padded to: a label has at most 63 octets.
const MAX_WIDTH: usize = 63;

/// Reads `START-STOP` or `START-STOP/STEP`.
pub(super) fn range(text: &str) -> Result<impl Iterator<Item = i64> + use<>, &'static str> {
    const EXPECTED: &str = "a range such as 1-254 or 0-100/2, of at most 65536 numbers";
    let (bounds, step) = text.split_once('/').unwrap_or((text, "1"));
    let (start, stop) = bounds.split_once('-').ok_or(EXPECTED)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| EXPECTED);
    let (start, stop, step) = (number(start)?, number(stop)?, number(step)?);
    if start > stop || step == 0 || u64::from((stop - start) / step) >= MAX_GENERATED {
        return Err(EXPECTED);
    }
    let step = usize::try_from(step).map_err(|_| EXPECTED)?;
    Ok((i64::from(start)..=i64::from(stop)).step_by(step))
}

/// Replaces each `$` and `${OFFSET[,WIDTH[,BASE]]}` by the number; `\$` and `$$` stay a dollar sign.
pub(super) fn substitute(template: &str, value: i64) -> Result<String, &'static str> {
    let mut out = String::with_capacity(template.len() + 4);
    let mut rest = template;
    while let Some(at) = rest.find(['$', '\\']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        if tail.starts_with('\\') {
            // An escape passes whole; the name or string reads it later.
            let len = tail.char_indices().nth(2).map_or(tail.len(), |(end, _)| end);
            out.push_str(&tail[..len]);
            rest = &tail[len..];
        } else if let Some(after) = tail.strip_prefix("$$") {
            out.push_str("\\$");
            rest = after;
        } else if let Some(modifier) = tail.strip_prefix("${") {
            let (modifier, after) = modifier.split_once('}').ok_or("a } after ${")?;
            out.push_str(&format(modifier, value)?);
            rest = after;
        } else {
            out.push_str(&value.to_string());
            rest = &tail[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Writes the number as `OFFSET[,WIDTH[,BASE]]` asks.
fn format(modifier: &str, value: i64) -> Result<String, &'static str> {
    const EXPECTED: &str = "${OFFSET,WIDTH,BASE} with BASE d, o, x, X, n or N, and no number below 0";
    let mut parts = modifier.split(',');
    let offset: i64 = parts.next().unwrap_or_default().parse().map_err(|_| EXPECTED)?;
    let width: usize = parts.next().map_or(Ok(0), str::parse).map_err(|_| EXPECTED)?;
    let base = parts.next().unwrap_or("d");
    let number = value.checked_add(offset).and_then(|sum| u64::try_from(sum).ok()).ok_or(EXPECTED)?;
    if parts.next().is_some() || width > MAX_WIDTH {
        return Err(EXPECTED);
    }
    Ok(match base {
        "d" => format!("{number:0width$}"),
        "o" => format!("{number:0width$o}"),
        "x" => format!("{number:0width$x}"),
        "X" => format!("{number:0width$X}"),
        "n" | "N" => nibbles(number, width, base == "N"),
        _ => return Err(EXPECTED),
    })
}

/// Writes hexadecimal digits from the lowest on with dots between them, as ip6.arpa wants them; the width counts the
/// dots too.
fn nibbles(mut number: u64, width: usize, upper: bool) -> String {
    let mut out = String::new();
    loop {
        let digit = char::from_digit(u32::try_from(number & 0xf).unwrap_or(0), 16).unwrap_or('0');
        out.push(if upper { digit.to_ascii_uppercase() } else { digit });
        number >>= 4;
        if number == 0 && out.len() >= width {
            return out;
        }
        out.push('.');
        if number == 0 && out.len() >= width {
            return out;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_bounded_and_stepped() {
        assert_eq!(range("1-10/4").unwrap().collect::<Vec<_>>(), [1, 5, 9]);
        assert_eq!(range("0-65535").unwrap().count(), 65_536);
        for bad in ["0-65536", "5-1", "1-5/0", "1", "a-b", "-1-5", "1-4294967295"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_modifier_form_is_written() {
        let make = |template: &str| substitute(template, 26).unwrap();
        assert_eq!(make("a$b$"), "a26b26");
        assert_eq!(make("${-6}"), "20");
        assert_eq!(make("${0,5}"), "00026");
        assert_eq!(make("${0,4,x}-${0,0,X}-${0,3,o}"), "001a-1A-032");
        assert_eq!(make("${0,7,n}.x"), "a.1.0.0.x");
        assert_eq!(make("${0,3,N}"), "A.1");
        assert_eq!(make(r"\$$$x\\"), r"\$\$x\\");
    }

    #[test]
    fn bad_modifiers_are_refused() {
        for bad in ["${", "${x}", "${0,1,q}", "${-27}", "${0,64}", "${0,1,d,4}", "${}"] {
            assert!(substitute(bad, 26).is_err(), "{bad}");
        }
    }
}

//! Which kernel this is.

/// Where the kernel says so.
const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// Returns the kernel's major and minor version; none is known when it does not say.
#[must_use]
pub fn version() -> Option<(u32, u32)> {
    parse(&std::fs::read_to_string(RELEASE).ok()?)
}

/// Returns what the kernel calls its release.
#[must_use]
pub fn release() -> Option<String> {
    std::fs::read_to_string(RELEASE).ok().map(|text| text.trim().to_owned())
}

/// Reads the start of `6.12.5-amd64`.
fn parse(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..end].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_however_distributions_write_them() {
        for (text, expected) in [
            ("6.12.5-amd64\n", Some((6, 12))),
            ("5.4-rc1", Some((5, 4))),
            ("4.19", Some((4, 19))),
            ("", None),
            ("six.1", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert!(version().is_some_and(|(major, _)| major >= 3));
    }
}

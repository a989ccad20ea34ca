//! What the connections to upstreams need of this machine: files that hold what they should, and capabilities.

use crate::config::{Diagnostic, Required, Requirement};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Octets of a PEM file at most; the bundle of a distribution has some 250 KiB.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// From here on binding a socket to an interface takes no capability (commit c427bfec18f2 of the kernel, "enable
/// SO_BINDTODEVICE for non-root users").
const FREE_INTERFACES: (u32, u32) = (5, 7);
/// From here on CAP_NET_RAW is enough to mark packets (socket(7), SO_MARK).
const RAW_MARKS: (u32, u32) = (5, 17);

/// Looks at every requirement; `kernel` is the version of the kernel.
pub(super) fn check(requirements: &[Requirement], kernel: Option<(u32, u32)>) -> Vec<Diagnostic> {
    requirements.iter().filter_map(|requirement| problem(requirement, kernel)).collect()
}

fn problem(requirement: &Requirement, kernel: Option<(u32, u32)>) -> Option<Diagnostic> {
    let at = requirement.at.clone();
    let problem = match &requirement.what {
        Required::Certificates(path) => file(requirement, path, "certificates", |bytes| {
            let mut all = CertificateDer::pem_slice_iter(bytes);
            all.next().unwrap_or(Err(pem::Error::NoItemsFound))?;
            all.try_for_each(|next| next.map(drop))
        })?,
        Required::Key(path) => {
            file(requirement, path, "a private key", |bytes| PrivateKeyDer::from_pem_slice(bytes).map(drop))?
        }
        Required::Mark(mark) => {
            let (expected, capability) = match kernel {
                Some(version) if version >= RAW_MARKS => {
                    ("CAP_NET_RAW, or CAP_NET_ADMIN, which may do more", "CAP_NET_RAW")
                }
                Some(_) => ("CAP_NET_ADMIN: before Linux 5.17 CAP_NET_RAW is not enough", "CAP_NET_ADMIN"),
                None => ("CAP_NET_ADMIN; from Linux 5.17 on CAP_NET_RAW is enough", "CAP_NET_ADMIN"),
            };
            let expected =
                format!("the daemon to have a capability, without which no packet can be marked: {expected}");
            Diagnostic::advice("needs-capability", at, expected).found(mark.to_string()).hint(drop_in(capability))
        }
        Required::Interface(name) => {
            if kernel.is_some_and(|version| version >= FREE_INTERFACES) {
                return None;
            }
            let expected =
                "the daemon to have the capability CAP_NET_RAW: before Linux 5.7 binding to an interface takes it";
            Diagnostic::advice("needs-capability", at, expected).found(format!("{name:?}")).hint(drop_in("CAP_NET_RAW"))
        }
    };
    Some(problem.key(&requirement.key))
}

/// Says what the systemd unit needs.
fn drop_in(capability: &str) -> String {
    format!(
        "with systemd: `systemctl edit truename`, and there: [Service], AmbientCapabilities={capability}, \
         CapabilityBoundingSet={capability} (each on a line of its own)"
    )
}

/// Reports a PEM file that cannot be read or does not hold `what`.
fn file(
    requirement: &Requirement,
    path: &Path,
    what: &str,
    read: impl FnOnce(&[u8]) -> Result<(), pem::Error>,
) -> Option<Diagnostic> {
    let shown = path.display();
    let error = |code, expected: String, found: String| {
        Some(Diagnostic::error(code, requirement.at.clone(), expected).found(found))
    };
    let bytes = match contents(path) {
        Ok(bytes) => bytes,
        Err(problem) => {
            let readable = format!("a file with {what} that this user can read, of at most 4 MiB");
            return error("unreadable-file", readable, format!("{shown}: {problem}"));
        }
    };
    let problem = match read(&bytes) {
        Ok(()) => return None,
        Err(pem::Error::NoItemsFound) if bytes.starts_with(&[0x30]) => "DER, the binary form".to_owned(),
        Err(pem::Error::NoItemsFound) => "nothing of that kind".to_owned(),
        Err(problem) => problem.to_string(),
    };
    let problem = error("bad-pem", format!("{what} in PEM"), format!("{shown}: {problem}"));
    problem.map(|problem| {
        problem.hint("PEM has lines such as -----BEGIN CERTIFICATE-----; openssl x509 -inform der turns DER into it")
    })
}

fn contents(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    // A pipe or a device could be read for ever.
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("no ordinary file"));
    }
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Location, diagnostic};
    use std::path::PathBuf;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";

    fn found(what: Required, kernel: Option<(u32, u32)>) -> String {
        let at = Location { file: Path::new("truename.toml").into(), line: 3, column: 7 };
        let requirement = Requirement { at, key: "upstream.corp.ca_file".to_owned(), what };
        diagnostic::gcc(&check(&[requirement], kernel))
    }

    #[test]
    fn files_are_read_and_what_is_wrong_with_them_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = write("good.pem", format!("a comment\n{CERTIFICATE}{CERTIFICATE}{KEY}").as_bytes());
        assert_eq!(found(Required::Certificates(good.clone()), None), "");
        assert_eq!(found(Required::Key(good), None), "");
        let half = format!("{CERTIFICATE}-----BEGIN CERTIFICATE-----\nMAA=\n");
        for (name, text, code, part) in [
            ("empty.pem", b"".as_slice(), "bad-pem", "nothing of that kind"),
            ("key.pem", KEY.as_bytes(), "bad-pem", "nothing of that kind"),
            ("der.pem", b"\x30\x03\x02\x01\x00", "bad-pem", "DER, the binary form"),
            ("base64.pem", b"-----BEGIN CERTIFICATE-----\n#\n-----END CERTIFICATE-----\n", "bad-pem", "base64"),
            ("half.pem", half.as_bytes(), "bad-pem", "end"),
        ] {
            let got = found(Required::Certificates(write(name, text)), None);
            assert!(got.contains(code) && got.contains(part) && got.contains(name), "{name}: {got}");
            assert!(
                got.starts_with("truename.toml:3:7: error: upstream.corp.ca_file: expected certificates in PEM"),
                "{got}"
            );
        }
        let missing = found(Required::Key(folder.path().join("none.pem")), None);
        assert!(missing.contains("unreadable-file") && missing.contains("none.pem: No such file"), "{missing}");
        let folder_itself = found(Required::Key(folder.path().to_owned()), None);
        assert!(folder_itself.contains("no ordinary file"), "{folder_itself}");
        let big = write("big.pem", &vec![b'a'; usize::try_from(MAX_FILE_BYTES + 1).unwrap()]);
        assert!(found(Required::Certificates(big), None).contains("too large"));
    }

    #[test]
    fn capabilities_are_advice_with_the_drop_in_that_gives_them() {
        let mark = |kernel| found(Required::Mark(256), kernel);
        for (kernel, capability) in
            [(Some((5, 17)), "RAW"), (Some((6, 1)), "RAW"), (Some((5, 16)), "ADMIN"), (None, "ADMIN")]
        {
            let mark = mark(kernel);
            assert!(mark.contains("note:") && mark.contains(&format!("Capabilities=CAP_NET_{capability}")), "{mark}");
        }
        assert!(mark(None).contains("from Linux 5.17 on CAP_NET_RAW is enough"));
        let interface = |kernel| found(Required::Interface("wg0".to_owned()), kernel);
        assert_eq!(interface(Some((5, 7))), "");
        assert_eq!(interface(Some((6, 0))), "");
        for old in [Some((5, 6)), Some((4, 19)), None] {
            assert!(interface(old).contains("AmbientCapabilities=CAP_NET_RAW"), "{old:?}");
        }
    }
}

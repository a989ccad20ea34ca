//! What is to be done on a machine of which this and that is known. Pure: nothing is read and nothing changed here.

use super::facts::{Facts, Owner, Resolvconf};
use super::file::BACKUP;
use serde::{Deserialize, Serialize};

/// The first version of systemd that knows StopPropagatedFrom=: with an earlier one names would stay with a daemon that is
/// gone.
const SYSTEMD: u32 = 249;

/// The way names are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A link of our own in systemd-resolved.
    Resolved,
    /// NetworkManager leaves resolv.conf alone until the next boot, and the file is ours.
    NetworkManager,
    /// A record of resolvconf, Debian's or openresolv's.
    Resolvconf,
    /// resolv.conf itself.
    File,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Resolved, Self::NetworkManager, Self::Resolvconf, Self::File];

    /// Returns the word that stands for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::NetworkManager => "network-manager",
            Self::Resolvconf => "resolvconf",
            Self::File => "file",
        }
    }
}

/// One thing that is done, and can be undone by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A link with our address as its resolver for all names.
    Link,
    /// A drop-in that keeps NetworkManager from writing resolv.conf.
    NetworkManager,
    /// A record of Debian's resolvconf.
    DebianResolvconf,
    /// A record of openresolv that excludes the others.
    Openresolv,
    /// resolv.conf.
    File,
}

impl Step {
    /// Says what it does, for a plan.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Link => {
                "add the link truename0 to systemd-resolved: all names (~.) to 127.0.0.1; no file is changed".to_owned()
            }
            Self::NetworkManager => {
                "have NetworkManager leave /etc/resolv.conf alone until the next boot (/run/NetworkManager/conf.d)"
                    .to_owned()
            }
            Self::DebianResolvconf => {
                "tell resolvconf of 127.0.0.1 (lo.truename), which it puts first and alone".to_owned()
            }
            Self::Openresolv => "tell openresolv of 127.0.0.1 (lo.truename), exclusively".to_owned(),
            Self::File => format!("write nameserver 127.0.0.1 to /etc/resolv.conf; the present one becomes {BACKUP}"),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The way.
    pub method: Method,
    /// Its steps, in their order.
    pub steps: Vec<Step>,
    /// What should be known beforehand.
    pub warnings: Vec<String>,
}

/// Why nothing is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{found}")]
pub struct Refusal {
    /// What was found.
    pub found: String,
    /// What would do.
    pub expected: String,
    /// What helps.
    pub hint: String,
}

/// Makes the plan; `wanted` is the way that somebody asked for.
///
/// # Errors
/// When the names of this machine cannot be taken over safely, or not in the way that was asked for.
pub fn decide(facts: &Facts, wanted: Option<Method>) -> Result<Plan, Refusal> {
    if let Some(holder) = &facts.port_53 {
        return Err(refusal(
            format!("port 53 of 127.0.0.1 is held by {holder}"),
            "truename there, or nobody",
            "stop that program, or have it listen elsewhere; then say this again",
        ));
    }
    if let Some(version) = facts.systemd_version.filter(|version| facts.has_units && *version < SYSTEMD) {
        return Err(refusal(
            format!(
                "this is systemd {version}, which does not stop the take-over with the daemon (StopPropagatedFrom=)"
            ),
            "systemd 249 or later",
            "point your programs at 127.0.0.1 by hand, or take truename's units away and see to the daemon yourself",
        ));
    }
    let method = wanted.unwrap_or_else(|| method_for(facts));
    let mut steps = match method {
        Method::Resolved => resolved(facts)?,
        Method::NetworkManager => network_manager(facts)?,
        Method::Resolvconf => resolvconf(facts)?,
        Method::File => Vec::new(),
    };
    // Whoever else writes the file has been told; the file itself is left.
    if method == Method::File || method == Method::NetworkManager || past_the_stub(facts, method) {
        file(facts)?;
        steps.push(Step::File);
    }
    Ok(Plan { method, steps, warnings: warnings(facts, method) })
}

/// Makes the plan for a machine on which names were taken over in the way `done`: a file of ours does not tell who managed it.
///
/// # Errors
/// As [`decide`].
pub fn decide_again(facts: &Facts, wanted: Option<Method>, done: Option<Method>) -> Result<Plan, Refusal> {
    match done.filter(|_| wanted.is_none() && facts.owner == Owner::Truename) {
        // Whoever managed it may be gone.
        Some(done) => decide(facts, Some(done)).or_else(|_| decide(facts, None)),
        None => decide(facts, wanted),
    }
}

fn method_for(facts: &Facts) -> Method {
    if facts.uses_resolved() {
        return Method::Resolved;
    }
    match facts.owner {
        Owner::ResolvedStub => Method::Resolved,
        Owner::DebianResolvconf | Owner::Openresolv => Method::Resolvconf,
        Owner::NetworkManager if facts.network_manager.is_some() => Method::NetworkManager,
        Owner::Missing
        | Owner::Truename
        | Owner::ResolvedUplink
        | Owner::NetworkManager
        | Owner::Wsl
        | Owner::CloudInit
        | Owner::Tailscale
        | Owner::Somebody => Method::File,
    }
}

/// Tells whether programs that read resolv.conf themselves (Go, dig) would go past systemd-resolved.
fn past_the_stub(facts: &Facts, method: Method) -> bool {
    method == Method::Resolved && facts.owner != Owner::ResolvedStub
}

fn resolved(facts: &Facts) -> Result<Vec<Step>, Refusal> {
    if facts.has_resolved {
        return Ok(vec![Step::Link]);
    }
    Err(refusal(
        "systemd-resolved does not answer, but programs are told to ask it".to_owned(),
        "systemd-resolved running",
        "start it with `sudo systemctl start systemd-resolved`, or take the file: `sudo truename up --method file`",
    ))
}

fn network_manager(facts: &Facts) -> Result<Vec<Step>, Refusal> {
    if facts.network_manager.is_some() {
        return Ok(vec![Step::NetworkManager]);
    }
    Err(refusal(
        "NetworkManager does not answer on D-Bus".to_owned(),
        "NetworkManager running",
        "start it with `sudo systemctl start NetworkManager`, or leave --method away",
    ))
}

fn resolvconf(facts: &Facts) -> Result<Vec<Step>, Refusal> {
    match facts.resolvconf {
        Some(Resolvconf::Debian) => Ok(vec![Step::DebianResolvconf]),
        Some(Resolvconf::Openresolv) => Ok(vec![Step::Openresolv]),
        Some(Resolvconf::Systemd) | None => Err(refusal(
            "there is no resolvconf of its own here".to_owned(),
            "Debian's resolvconf, or openresolv",
            "leave --method away, or say `--method file`",
        )),
    }
}

fn file(facts: &Facts) -> Result<(), Refusal> {
    if facts.is_immutable {
        return Err(refusal(
            "/etc/resolv.conf has the attribute `immutable`: somebody wants it to stay as it is".to_owned(),
            "a file that can be replaced",
            "if that was you, take the attribute away with `sudo chattr -i /etc/resolv.conf`; then say this again",
        ));
    }
    if facts.owner == Owner::Wsl && !facts.wsl_leaves_file {
        return Err(refusal(
            "Windows writes /etc/resolv.conf whenever this machine starts".to_owned(),
            "`generateResolvConf = false` below `[network]` in /etc/wsl.conf",
            "put these two lines into /etc/wsl.conf, say `wsl.exe --shutdown` in Windows, and then this again:\n            \
             [network]\n            generateResolvConf = false",
        ));
    }
    Ok(())
}

fn warnings(facts: &Facts, method: Method) -> Vec<String> {
    let mut all = Vec::new();
    if method == Method::Resolved {
        let is_all = |link: &&super::facts::LinkDns| link.domains.iter().any(|domain| domain == "~.");
        all.extend(facts.links.iter().filter(is_all).map(|link| {
            format!("{} claims all names as well: systemd-resolved asks both and takes the first answer", link.name)
        }));
        let own = facts.links.iter().flat_map(|link| link.domains.iter().map(move |domain| (link, domain)));
        let own = own.filter(|(_, domain)| domain.starts_with('~') && *domain != "~.");
        all.extend(
            own.map(|(link, domain)| format!("names below {} go on to {}", domain.trim_start_matches('~'), link.name)),
        );
    }
    let writes_file = method == Method::File;
    if writes_file && facts.owner == Owner::CloudInit {
        all.push(
            "cloud-init writes /etc/resolv.conf when the machine starts; truename takes it over again then".to_owned(),
        );
    }
    if writes_file && facts.owner == Owner::Tailscale {
        all.push(
            "tailscale writes /etc/resolv.conf too: `tailscale set --accept-dns=false` keeps it from that".to_owned(),
        );
    }
    if facts.previous.is_empty() {
        all.push(
            "no resolver of this machine was found: public names need an upstream group in the configuration"
                .to_owned(),
        );
    }
    if !facts.has_systemd {
        all.push(
            "without systemd nothing gives the names back when truename dies: `sudo truename down` does".to_owned(),
        );
    }
    all
}

fn refusal(found: String, expected: &str, hint: &str) -> Refusal {
    Refusal { found, expected: expected.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::takeover::facts::{LinkDns, NetworkManager};

    /// A Debian laptop with nothing special.
    fn plain() -> Facts {
        let previous = vec!["192.168.1.1:53".parse().unwrap()];
        Facts { is_root: true, has_systemd: true, owner: Owner::Somebody, previous, ..Facts::default() }
    }

    fn planned(facts: &Facts) -> (Method, Vec<Step>) {
        let plan = decide(facts, None).unwrap();
        (plan.method, plan.steps)
    }

    #[test]
    fn every_machine_has_its_way() {
        let manager = Some(NetworkManager { mode: "default".to_owned(), rc_manager: "symlink".to_owned() });
        let (debian, open) = (Some(Resolvconf::Debian), Some(Resolvconf::Openresolv));
        for (what, facts, method, steps) in [
            ("plain file", plain(), Method::File, vec![Step::File]),
            ("no file", Facts { owner: Owner::Missing, ..plain() }, Method::File, vec![Step::File]),
            (
                "resolved by its stub",
                Facts { has_resolved: true, owner: Owner::ResolvedStub, ..plain() },
                Method::Resolved,
                vec![Step::Link],
            ),
            (
                "resolved by its stub and NetworkManager",
                Facts {
                    has_resolved: true,
                    owner: Owner::ResolvedStub,
                    nss_resolve: true,
                    network_manager: manager.clone(),
                    ..plain()
                },
                Method::Resolved,
                vec![Step::Link],
            ),
            (
                "resolved for getaddrinfo, a file for the rest",
                Facts { has_resolved: true, nss_resolve: true, ..plain() },
                Method::Resolved,
                vec![Step::Link, Step::File],
            ),
            (
                "resolved runs, and nobody asks it",
                Facts { has_resolved: true, owner: Owner::ResolvedUplink, ..plain() },
                Method::File,
                vec![Step::File],
            ),
            (
                "NetworkManager alone",
                Facts { owner: Owner::NetworkManager, network_manager: manager.clone(), ..plain() },
                Method::NetworkManager,
                vec![Step::NetworkManager, Step::File],
            ),
            (
                "a file of a NetworkManager that is gone",
                Facts { owner: Owner::NetworkManager, ..plain() },
                Method::File,
                vec![Step::File],
            ),
            (
                "NetworkManager through resolvconf",
                Facts { owner: Owner::DebianResolvconf, network_manager: manager, resolvconf: debian, ..plain() },
                Method::Resolvconf,
                vec![Step::DebianResolvconf],
            ),
            (
                "openresolv",
                Facts { owner: Owner::Openresolv, resolvconf: open, ..plain() },
                Method::Resolvconf,
                vec![Step::Openresolv],
            ),
            (
                "WSL that leaves the file",
                Facts { owner: Owner::Somebody, is_wsl: true, wsl_leaves_file: true, ..plain() },
                Method::File,
                vec![Step::File],
            ),
            (
                "the first systemd that will do",
                Facts { has_units: true, systemd_version: Some(249), ..plain() },
                Method::File,
                vec![Step::File],
            ),
            (
                "an old systemd without our units",
                Facts { systemd_version: Some(245), ..plain() },
                Method::File,
                vec![Step::File],
            ),
            // An immutable file is in nobody's way when it need not be written.
            (
                "resolved by its stub, immutable",
                Facts { has_resolved: true, owner: Owner::ResolvedStub, is_immutable: true, ..plain() },
                Method::Resolved,
                vec![Step::Link],
            ),
        ] {
            assert_eq!(planned(&facts), (method, steps), "{what}");
        }
    }

    #[test]
    fn on_a_machine_that_is_taken_the_plan_is_the_one_that_was_carried_out() {
        let network_manager = Some(NetworkManager { mode: "default".to_owned(), rc_manager: "symlink".to_owned() });
        let managed = Facts { owner: Owner::Truename, network_manager, ..plain() };
        let again = |facts: &Facts, wanted, done| decide_again(facts, wanted, done).unwrap().method;
        assert_eq!(again(&managed, None, Some(Method::NetworkManager)), Method::NetworkManager);
        assert_eq!(again(&managed, Some(Method::File), Some(Method::NetworkManager)), Method::File);
        assert_eq!(again(&managed, None, None), Method::File);
        // It is gone since, or somebody else has written the file.
        let alone = Facts { owner: Owner::Truename, ..plain() };
        assert_eq!(again(&alone, None, Some(Method::NetworkManager)), Method::File);
        assert_eq!(again(&plain(), None, Some(Method::NetworkManager)), Method::File);
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_what_helps() {
        for (facts, wanted, word) in [
            (Facts { is_immutable: true, ..plain() }, None, "chattr -i"),
            (Facts { owner: Owner::Wsl, is_wsl: true, ..plain() }, None, "generateResolvConf = false"),
            (Facts { owner: Owner::ResolvedStub, ..plain() }, None, "systemctl start systemd-resolved"),
            (Facts { owner: Owner::DebianResolvconf, ..plain() }, None, "--method file"),
            (Facts { port_53: Some("pid 9 (dnsmasq)".to_owned()), ..plain() }, None, "stop that program"),
            (Facts { has_units: true, systemd_version: Some(248), ..plain() }, None, "by hand"),
            (plain(), Some(Method::Resolved), "systemd-resolved"),
            (plain(), Some(Method::NetworkManager), "NetworkManager"),
            (plain(), Some(Method::Resolvconf), "--method"),
            (Facts { resolvconf: Some(Resolvconf::Systemd), ..plain() }, Some(Method::Resolvconf), "--method"),
        ] {
            let refusal = decide(&facts, wanted).unwrap_err();
            assert!(refusal.hint.contains(word), "{refusal:?}");
        }
    }

    #[test]
    fn what_should_be_known_beforehand_is_said() {
        let link = |name: &str, domain: &str| LinkDns { name: name.to_owned(), domains: vec![domain.to_owned()] };
        let links = vec![link("wg0", "~."), link("tun0", "~corp.example"), link("eth0", "fritz.box")];
        let vpn = Facts { has_resolved: true, owner: Owner::ResolvedStub, links, ..plain() };
        let warnings = decide(&vpn, None).unwrap().warnings;
        assert!(warnings[0].contains("wg0 claims all names"), "{warnings:?}");
        assert_eq!((warnings[1].as_str(), warnings.len()), ("names below corp.example go on to tun0", 2));
        let alone = Facts { previous: Vec::new(), has_systemd: false, owner: Owner::CloudInit, ..plain() };
        assert_eq!(decide(&alone, None).unwrap().warnings.len(), 3);
    }
}

//! The bytes of a master file: what loads without an error prints, and what was printed loads to the same records.

use super::hosts::NoRoutes;
use super::rig::{self, Scene};
use std::cell::OnceCell;
use truename::config::{Config, Diagnostic, ViewId};
use truename::dns::answer::Answer;
use truename::dns::encode::MessageBuilder;
use truename::dns::wire::Section;
use truename::dns::{Name, Origin, Record, Rtype};
use truename::pipeline::zone::presentation::record_line;
use truename::pipeline::zone::{Outcome, Zones};

/// Problems a zone may have; one more says how many were left out.
const MAX_DIAGNOSTICS: usize = 101;
/// Names looked up in one run: the rest is more of the same.
const MAX_LOOKUPS: usize = 100;
/// Octets of a text: a `$GENERATE` of few octets makes 65,536 records, so several would only be slow.
const MAX_BYTES: usize = 16 << 10;

thread_local! {
    static SCENE: OnceCell<Scene<Config>> = const { OnceCell::new() };
}

/// One zone file.
fn scene() -> Scene<Config> {
    Scene::new("zone", |path| {
        let mut config =
            rig::config("[hosts]\nfiles = []\n[[zone]]\nname = \"lab.example\"\nreverse = true\nrecords = []\n");
        config.zones[0].file = Some(path.to_owned());
        config
    })
}

pub fn run(data: &[u8]) {
    // A large $GENERATE is slow for a fuzzer and says nothing more than a small one.
    if rig::names_devices(data) || data.len() > MAX_BYTES || generates_much(data) {
        return;
    }
    SCENE.with(|cell| {
        let scene = cell.get_or_init(scene);
        let (zones, diagnostics) = load(scene, data);
        assert!(diagnostics.len() <= MAX_DIAGNOSTICS, "{} problems", diagnostics.len());
        if let Ok(text) = std::str::from_utf8(data) {
            check_places(scene, text, &diagnostics);
        }
        let records: Vec<Record> = zones.records().collect();
        check_answers(&zones, &records);
        if diagnostics.iter().any(Diagnostic::is_error) {
            return;
        }
        let printed: String = records.iter().map(|record| record_line(record) + "\n").collect();
        let (again, problems) = load(scene, printed.as_bytes());
        assert!(!problems.iter().any(Diagnostic::is_error), "what was printed does not load: {problems:?}\n{printed}");
        let reloaded: Vec<Record> = again.records().collect();
        assert_eq!(reloaded, records, "what was printed loads to other records:\n{printed}");
    });
}

fn load(scene: &Scene<Config>, text: &[u8]) -> (Zones, Vec<Diagnostic>) {
    scene.write(text);
    Zones::load(&scene.config, 0)
}

fn generates_much(data: &[u8]) -> bool {
    let upper = data.to_ascii_uppercase();
    let many = upper.windows(9).filter(|at| at == b"$GENERATE").count();
    let long = upper.split(|byte| !byte.is_ascii_digit()).any(|digits| digits.len() > 2);
    many > 1 || (many == 1 && long)
}

fn check_places(scene: &Scene<Config>, text: &str, diagnostics: &[Diagnostic]) {
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in diagnostics.iter().filter(|problem| *problem.at.file == *scene.path) {
        if problem.at.line == 0 {
            continue;
        }
        let line = lines.get(problem.at.line as usize - 1).unwrap_or_else(|| panic!("{problem:?}"));
        assert!((1..=line.chars().count() + 1).contains(&(problem.at.column as usize)), "{problem:?} in {line:?}");
        assert!(!problem.expected.is_empty(), "{problem:?}");
    }
}

/// Asks for every record, and for a name below it, and for the type nobody has.
fn check_answers(zones: &Zones, records: &[Record]) {
    for record in records.iter().take(MAX_LOOKUPS) {
        let answer = zones.answer(ViewId(0), &record.owner, record.rtype, true, &NoRoutes);
        // At and below zone cuts the zone does not answer; everywhere else what is in it is found.
        if let Outcome::Local(local) = &answer {
            let has = local.answers.iter().any(|found| found.rtype == record.rtype && found.owner == record.owner);
            let covered = local.answers.iter().any(|found| found.rtype == Rtype::DNAME);
            assert!(has || covered || local.rcode.0 == 2, "{record:?} is not found: {local:?}");
        }
        check_message(&record.owner, record.rtype, &answer);
        check_message(
            &record.owner,
            Rtype(65_281),
            &zones.answer(ViewId(0), &record.owner, Rtype(65_281), true, &NoRoutes),
        );
        if let Ok(below) = record.owner.prepend(b"below") {
            check_message(&below, record.rtype, &zones.answer(ViewId(0), &below, record.rtype, false, &NoRoutes));
        }
    }
}

/// Checks that an answer can be written and read back.
fn check_message(qname: &Name, qtype: Rtype, outcome: &Outcome) {
    let Outcome::Local(local) = outcome else { return };
    let mut builder = MessageBuilder::response(qname, qtype, local.rcode);
    for record in &local.answers {
        builder.push(Section::Answer, record);
    }
    for record in &local.authority {
        builder.push(Section::Authority, record);
    }
    let answer = Answer { message: builder.finish(), origin: Origin::Zone, ede: None };
    super::walk::walk(&answer.message);
    // SIG and NXT are obsolete (RFC 3755): their data is taken as written, and a reader may find no name in it.
    let is_obsolete = |record: &Record| matches!(record.rtype.0, 24 | 30);
    if answer.message.len() < 60_000 && !local.answers.iter().any(is_obsolete) {
        assert_eq!(answer.records(Section::Answer), local.answers, "what was written reads otherwise");
        assert_eq!(answer.records(Section::Authority), local.authority, "what was written reads otherwise");
    }
}

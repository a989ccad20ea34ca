//! Records as lines of text, read by the program's own zone reader so that every type works.

use truename::config::{Diagnostic, ViewId, load_text};
use truename::dns::{Name, Record, Rtype};
use truename::pipeline::zone::presentation::record_line;
use truename::pipeline::zone::{Context, Outcome, Zones};

/// Reads `OWNER TTL TYPE DATA`; names are absolute.
pub(super) fn parse(line: &str) -> Result<Record, String> {
    let usage = "write owner, TTL, type and data, as in \"www.example.org. 300 A 93.184.216.34\"";
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().filter(|word| !word.is_empty()).ok_or(usage);
    let (owner, ttl, rtype, data) = (word()?, word()?, word()?, word()?);
    let name = Name::parse(owner).map_err(|error| error.to_string())?;
    let ttl: u32 = ttl.parse().map_err(|_| usage)?;
    let rtype: Rtype = rtype.parse().map_err(|_| usage)?;
    // SOA and NS stand at an apex; a CNAME never may.
    let apex = if matches!(rtype, Rtype::SOA | Rtype::NS) { name.to_string() } else { ".".to_owned() };
    let value = |text: &str| toml::Value::from(text).to_string();
    let text = format!(
        "[hosts]\nfiles = []\n[[zone]]\nname = {}\nrecords = [{{ name = {}, type = {}, value = {}, ttl = \"{ttl}s\" }}]\n",
        value(&apex),
        value(&name.to_string()),
        value(&rtype.to_string()),
        value(data),
    );
    let loaded = load_text("record", &text);
    let found = |problems: &[Diagnostic]| {
        problems.iter().filter(|problem| problem.is_error()).map(|problem| format!("{problem:?}")).collect::<String>()
    };
    let config = loaded.config.ok_or_else(|| found(&loaded.diagnostics))?;
    let (zones, problems) = Zones::load(&config, 0);
    match zones.answer(ViewId(0), &name, rtype, true, &Nowhere) {
        Outcome::Local(local) => local.answers.into_iter().find(|record| record.rtype == rtype),
        Outcome::NotOurs | Outcome::PrivateSystemOnly => None,
    }
    .ok_or_else(|| format!("cannot be read: {}", found(&problems)))
}

/// Writes a record the way [`parse`] reads it.
pub(super) fn line(record: &Record) -> String {
    record_line(record).replacen(" IN ", " ", 1)
}

/// No routes.
struct Nowhere;

impl Context for Nowhere {
    fn explicitly_routed(&self, _: &Name) -> bool {
        false
    }

    fn private_route(&self, _: &Name) -> bool {
        false
    }
}

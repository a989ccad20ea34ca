//! `truename demo`: liars on loopback, and what becomes of what they say.

use super::args::DemoArguments;
use super::exit::{Failed, Outcome};
use super::figures::table;
use super::render;
use crate::app;
use crate::pipeline::guard::verdict::Sign;
use serde_json::Value;

/// Runs the demonstration and prints it.
pub(super) fn run(arguments: &DemoArguments) -> Result<Outcome, Failed> {
    let document = app::demo().map_err(Failed::Run)?;
    render::result(&if arguments.json { format!("{document:#}") } else { shown(&document) })?;
    Ok(Outcome::Fine)
}

fn shown(document: &Value) -> String {
    let rows = document["resolvers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let answers: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let verdict = text(row, "decided").split(", goes on").next().unwrap_or_default().to_owned();
            vec![text(row, "resolver"), text(row, "plain_forwarder"), text(row, "truename"), verdict]
        })
        .collect();
    let mut out =
        table(&["THIS RESOLVER", "A PLAIN FORWARDER GIVES", "TRUENAME GIVES", "BECAUSE IT IS"], &[], &answers);
    out += "\nWhy\n";
    let mut told: Vec<&Sign> = Vec::new();
    for row in rows {
        let words = text(row, "because");
        for sign in words.split(", ").filter_map(|word| Sign::ALL.iter().find(|sign| sign.as_str() == word)) {
            if !told.contains(&sign) {
                told.push(sign);
            }
        }
    }
    let signs: Vec<Vec<String>> =
        told.iter().map(|sign| vec![format!("  {}", sign.as_str()), sign.help().to_owned()]).collect();
    out += &render::columns(&signs);
    out += "\nEvery resolver was a socket on loopback; two honest ones of different operators were there to hold answers against.\n\
            With a real network: guard = \"enforce\" on a [[route]], and truename explain NAME.\n";
    out
}

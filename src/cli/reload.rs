//! `truename reload`: read everything again, and the outcome.

use super::args::ReloadArguments;
use super::exit::{Failed, Outcome};
use super::{daemon, render};
use crate::control::Door;
use http::Method;
use serde_json::Value;

/// Has the daemon read its configuration again; negative when it was refused.
pub(super) fn run(arguments: &ReloadArguments) -> Result<Outcome, Failed> {
    let document = daemon::ask(&arguments.read.at, Door::Control, &Method::POST, "/reload")?;
    let outcome: Value = daemon::read(&document)?;
    let ok = outcome["ok"] == true;
    if arguments.read.json {
        render::result(&daemon::text(&document))?;
    } else {
        let problems = outcome["diagnostics"].as_array().map(Vec::as_slice).unwrap_or_default();
        render::complain(&problems.iter().map(line).collect::<String>());
        if let Some(error) = outcome["error"].as_str() {
            render::complain(&format!("error: {}", render::visible(error)));
        }
        let generation = &outcome["generation"];
        render::result(&if ok {
            format!("reloaded: generation {generation} is in force")
        } else {
            format!("refused: generation {generation} stays in force")
        })?;
    }
    Ok(if ok { Outcome::Fine } else { Outcome::Negative })
}

/// One problem in one line, as compilers write them.
fn line(problem: &Value) -> String {
    let text = |name: &str| render::visible(problem[name].as_str().unwrap_or_default());
    let hint = problem["hint"].as_str().map(|hint| format!("; {}", render::visible(hint))).unwrap_or_default();
    let (line, column) = (&problem["line"], &problem["column"]);
    format!(
        "{}:{line}:{column}: {}: {}: found {}, expected {}{hint}\n",
        text("file"),
        text("severity"),
        text("key"),
        text("found"),
        text("expected")
    )
}

//! `truename reload`, `pause` and `resume`: have the daemon change what is in force, and its outcome.

use super::args::{PauseArguments, ReadArguments, ReloadArguments};
use super::exit::{Failed, Outcome};
use super::{daemon, render};
use crate::config::units::format_duration;
use crate::control::Door;
use http::Method;
use serde_json::Value;

/// Has the daemon read its configuration again; negative when it was refused.
pub(super) fn run(arguments: &ReloadArguments) -> Result<Outcome, Failed> {
    change(&arguments.read, "/reload", "reloaded")
}

/// Has the daemon turn its routes off for a while.
pub(super) fn pause(arguments: &PauseArguments) -> Result<Outcome, Failed> {
    let length = format_duration(arguments.length);
    change(&arguments.read, &format!("/pause?for={}", daemon::encoded(&length)), &format!("paused for {length}"))
}

/// Has the daemon turn them on again.
pub(super) fn resume(arguments: &ReadArguments) -> Result<Outcome, Failed> {
    change(arguments, "/resume", "not paused")
}

fn change(read: &ReadArguments, target: &str, done: &str) -> Result<Outcome, Failed> {
    let document = daemon::ask(&read.at, Door::Control, &Method::POST, target)?;
    let outcome: Value = daemon::read(&document)?;
    let ok = outcome["ok"] == true;
    if read.json {
        render::result(&daemon::text(&document))?;
    } else {
        let problems = outcome["diagnostics"].as_array().map(Vec::as_slice).unwrap_or_default();
        let lines: String = problems.iter().map(line).collect();
        if !lines.is_empty() {
            render::complain(&lines);
        }
        if let Some(error) = outcome["error"].as_str() {
            render::complain(&format!("error: {}", render::visible(error)));
        }
        let generation = &outcome["generation"];
        render::result(&if ok {
            format!("{done}: generation {generation} is in force")
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

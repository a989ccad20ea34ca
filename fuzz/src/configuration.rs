//! A configuration's text: a configuration or errors, never both and never neither, each problem with a place in the
//! text.

use super::rig;
use std::path::Path;
use truename::config::diagnostic::{Format, render};
use truename::config::{Diagnostic, Loaded, load_text};

/// Problems listed at most; one more says how many were left out.
const MAX_DIAGNOSTICS: usize = 1001;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files that are included would be read.
    if rig::names_devices(data) || text.contains("include") {
        return;
    }
    let loaded = load_text("fuzz.toml", text);
    let is_error = loaded.diagnostics.iter().any(Diagnostic::is_error);
    assert_eq!(loaded.config.is_none(), is_error, "an error, or a configuration");
    assert_eq!(loaded.partial.is_some(), is_error, "what was understood is for errors only");
    assert_eq!(loaded.files, [Path::new("fuzz.toml")]);
    assert!(loaded.diagnostics.len() <= MAX_DIAGNOSTICS, "{} problems", loaded.diagnostics.len());
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in &loaded.diagnostics {
        check_problem(problem, &lines);
    }
    // JSON takes more time than all the rest: for one in four.
    let formats = [Format::Human, Format::Gcc, Format::Json];
    check_shown(&loaded, if data.len().is_multiple_of(4) { &formats } else { &formats[..2] });
    // One in sixteen: it doubles the time.
    if data.len().is_multiple_of(16) {
        let again = load_text("fuzz.toml", text);
        assert_eq!((&again.config, &again.diagnostics), (&loaded.config, &loaded.diagnostics), "not the same twice");
    }
    if let Some(config) = &loaded.config {
        assert!(config.groups.iter().any(|group| group.name == "system"), "a group named system is always there");
        for route in &config.routes {
            assert!(usize::from(route.upstream.0) < config.groups.len(), "route {} leads nowhere", route.name);
        }
    }
}

fn check_problem(problem: &Diagnostic, lines: &[&str]) {
    assert!(!problem.expected.is_empty(), "{}: what is expected is not said", problem.code);
    let (line, column) = (problem.at.line as usize, problem.at.column as usize);
    if line == 0 {
        return;
    }
    let Some(text) = lines.get(line - 1) else {
        panic!("{}: line {line} of {}", problem.code, lines.len());
    };
    // One behind the last character is where something is missing.
    let most = text.chars().count() + 1;
    assert!((1..=most).contains(&column), "{}: column {column} of {most} in line {line}", problem.code);
}

/// Checks that no form a problem is shown in lets foreign control characters through.
fn check_shown(loaded: &Loaded, formats: &[Format]) {
    for format in formats {
        let shown = render(&loaded.diagnostics, *format);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "a control character: {shown:?}");
    }
}

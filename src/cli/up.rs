//! `truename up`: the plan, and its carrying out.

use super::args::UpArguments;
use super::exit::{Failed, Outcome};
use super::render;
use crate::app::{RunError, UpFile};
use crate::config::diagnostic;
use crate::system::takeover::units::{self, Trial, UnitError};
use crate::system::takeover::{self, ApplyError, Facts, Machine, Method, Plan, Record, Refusal, decide_again, look};
use serde_json::{Value, json};
use std::io::{self, BufRead};
use std::path::Path;

/// What a machine without root is told to say.
const SUDO: &str = "sudo truename up";

/// Shows the plan, carries it out and says how that went.
pub(super) fn run(arguments: &UpArguments) -> Result<Outcome, Failed> {
    if arguments.keep {
        return keep();
    }
    let wanted = arguments.method.map(Method::from);
    let known = Known::with(wanted);
    if arguments.json {
        render::result(&format!("{:#}", known.json()))?;
        return Ok(if known.plan.is_ok() { Outcome::Fine } else { Outcome::Negative });
    }
    let plan = known.plan.clone().map_err(refused)?;
    let doh = arguments.doh.as_deref().map(UpFile::doh);
    render::result(&known.shown(&plan, doh.as_ref()))?;
    if let Some(doh) = &doh {
        known.must_have_units("--doh is written for a daemon that truename's units start")?;
        doh.check().map_err(no_doh)?;
    }
    if arguments.dry_run {
        return Ok(Outcome::Fine);
    }
    if !known.facts.is_root {
        return Err(Failed::NotRoot { command: format!("to do it: {SUDO}{}", again(arguments)) });
    }
    if arguments.trial.is_some() {
        known.must_have_units("nothing here could give the names back after a trial")?;
    }
    if !arguments.yes && render::is_on_terminal() && !agreed()? {
        render::result("Nothing is changed.")?;
        return Ok(Outcome::Negative);
    }
    let machine = Machine::default();
    let _turn = takeover::turn(&machine, false).map_err(busy)?;
    carry_out(&known, arguments, wanted, doh.as_ref())?;
    let end = arguments.trial.map_or_else(
        || "Your machine now asks truename.".to_owned(),
        |time| {
            let time = humantime::format_duration(time);
            format!("Your machine now asks truename, for {time}. To keep it so: sudo truename up --keep")
        },
    );
    render::result(&format!("\u{2713} {}\n{end}\nUndo: sudo truename down", takeover::summary(&machine)))?;
    Ok(Outcome::Fine)
}

fn carry_out(
    known: &Known,
    arguments: &UpArguments,
    wanted: Option<Method>,
    doh: Option<&UpFile>,
) -> Result<(), Failed> {
    let machine = Machine::default();
    if known.has_units() {
        let written = doh.map(|doh| doh.write().map(|before| (doh, before))).transpose().map_err(|error| {
            let hint = Some("move it away, or write the server into /etc/truename/truename.toml".to_owned());
            Failed::Refused { found: error.to_string(), expected: None, hint }
        })?;
        let served = units::serve();
        let program = std::env::current_exe().unwrap_or_else(|_| Path::new("/usr/bin/truename").to_path_buf());
        let trial = arguments.trial.map(Trial);
        let done = served.as_ref().map_err(unit_failed).and_then(|_| {
            if doh.is_some() {
                // One that ran already has not read it.
                units::reload().map_err(|error| unit_failed(&error))?;
            }
            takeover::check(&machine, wanted).map_err(failed)?;
            units::take_over(&machine, wanted, trial, &program.to_string_lossy()).map_err(|error| unit_failed(&error))
        });
        if done.is_err()
            && let Some((doh, text)) = written
        {
            drop(doh.restore(text));
            drop(units::reload());
        }
        if done.is_err() && matches!(takeover::recorded(&machine), Ok(None)) {
            // What was started for this alone; that it could not be stopped matters less than why nothing came of it. Where names
            // could not be given back they still lead to the daemon, and it goes on.
            drop(served.map(|before| before.restore()));
        }
        return done;
    }
    takeover::apply(&machine, wanted, None).map(drop).map_err(failed)
}

fn keep() -> Result<Outcome, Failed> {
    let machine = Machine::default();
    let facts = look(&machine);
    if !facts.is_root {
        return Err(Failed::NotRoot { command: format!("to do it: {SUDO} --keep") });
    }
    let _turn = takeover::turn(&machine, false).map_err(busy)?;
    let error = |error: io::Error| Failed::Refused { found: error.to_string(), expected: None, hint: None };
    if !takeover::keep(&machine).map_err(error)? {
        let found = "there is nothing to keep: the names of this machine do not come to truename".to_owned();
        return Err(Failed::Refused { found, expected: None, hint: Some(SUDO.to_owned()) });
    }
    if facts.has_systemd && facts.has_units {
        units::keep(&machine).map_err(|error| unit_failed(&error))?;
    }
    render::result("Kept: your machine asks truename, also after the next boot.\nUndo: sudo truename down")?;
    Ok(Outcome::Fine)
}

/// Asks whether to go on; everything but yes is no.
fn agreed() -> Result<bool, Failed> {
    render::result("Apply? [y/N]")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str()))
}

/// Returns the arguments to be said again.
fn again(arguments: &UpArguments) -> String {
    let method = arguments.method.map(|method| format!(" --method {}", Method::from(method).as_str()));
    let trial =
        arguments.trial.map(|time| format!(" --try {}", humantime::format_duration(time).to_string().replace(' ', "")));
    let doh = arguments.doh.as_ref().map(|url| format!(" --doh {url}"));
    [method, trial, doh].into_iter().flatten().collect()
}

/// What is known of this machine, and what follows from it.
pub(super) struct Known {
    facts: Facts,
    plan: Result<Plan, Refusal>,
    record: io::Result<Option<Record>>,
}

impl Known {
    /// Looks.
    pub(super) fn look() -> Self {
        Self::with(None)
    }

    fn with(wanted: Option<Method>) -> Self {
        let machine = Machine::default();
        let facts = look(&machine);
        let record = takeover::recorded(&machine);
        let done = record.as_ref().ok().and_then(Option::as_ref).map(|record| record.method);
        let plan = decide_again(&facts, wanted, done);
        Self { facts, plan, record }
    }

    fn has_units(&self) -> bool {
        self.facts.has_systemd && self.facts.has_units
    }

    fn must_have_units(&self, found: &str) -> Result<(), Failed> {
        if self.has_units() {
            return Ok(());
        }
        let expected = Some("systemd with truename's units".to_owned());
        let hint = Some("install the units of truename (docs/operations.md), or leave the option away".to_owned());
        Err(Failed::Refused { found: found.to_owned(), expected, hint })
    }

    /// Shows the evidence, and what was done or would be.
    pub(super) fn text(&self) -> String {
        let mut text = match &self.record {
            Ok(Some(_)) => format!("The names of this machine are {}\n", takeover::summary(&Machine::default())),
            Ok(None) => match takeover::summary(&Machine::default()).as_str() {
                "unmanaged" => "The names of this machine do not come to truename by its own doing\n".to_owned(),
                why => format!("The names of this machine are {}\n", render::visible(why)),
            },
            Err(error) => format!("What was done here cannot be read: {}\n", render::visible(&error.to_string())),
        };
        match &self.plan {
            Ok(plan) => text += &format!("The way here is {}: truename up --dry-run shows it\n", plan.method.as_str()),
            Err(refusal) => text += &format!("There is no way here: {}\n  hint  {}\n", refusal.found, refusal.hint),
        }
        text + &self.evidence()
    }

    fn evidence(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .facts
            .evidence()
            .into_iter()
            .map(|(key, value)| vec![format!("  {key}"), render::visible(&value)])
            .collect();
        format!("Because\n{}", render::columns(&rows))
    }

    fn shown(&self, plan: &Plan, doh: Option<&UpFile>) -> String {
        let mut text = match &self.record {
            Ok(Some(_)) => {
                format!("This machine is {}.\nIt would be done anew:\n", takeover::summary(&Machine::default()))
            }
            Ok(None) | Err(_) => "Plan for this machine:\n".to_owned(),
        };
        let mut steps = Vec::new();
        if let Some(doh) = doh {
            let path = doh.path();
            steps.push(format!(
                "write {}: names that no route matches go to the DoH server, which has to answer first",
                path.display()
            ));
        }
        if self.has_units() {
            steps.push("start truename.service, at every boot: 127.0.0.1:53 and [::1]:53, UDP and TCP".to_owned());
        } else {
            steps.push("see that truename answers on 127.0.0.1:53: without its units you start it yourself".to_owned());
        }
        steps.extend(plan.steps.iter().map(|step| step.text()));
        let previous: Vec<String> = self.facts.previous.iter().map(|server| server.ip().to_string()).collect();
        if !previous.is_empty() {
            let source = render::visible(&self.facts.previous_source);
            steps.push(format!("keep {} ({source}) as group \"system\"", previous.join(", ")));
        }
        steps.push("ask a canary the way programs ask; undo everything if it does not come back".to_owned());
        for (at, step) in steps.iter().enumerate() {
            text += &format!("  {}. {step}\n", at + 1);
        }
        for warning in &plan.warnings {
            text += &format!("  \u{25b2} {}\n", render::visible(warning));
        }
        text + &self.evidence()
    }

    /// The same as a document.
    pub(super) fn json(&self) -> Value {
        let record = self.record.as_ref().ok().and_then(Option::as_ref);
        json!({
            "facts": self.facts,
            "plan": self.plan.as_ref().ok(),
            "refusal": self.plan.as_ref().err(),
            "taken_over": record,
        })
    }
}

fn refused(refusal: Refusal) -> Failed {
    Failed::Refused { found: refusal.found, expected: Some(refusal.expected), hint: Some(refusal.hint) }
}

/// Says why names were not taken over.
pub(super) fn failed(error: ApplyError) -> Failed {
    let text = error.to_string();
    let (expected, hint) = match error {
        ApplyError::Refused(refusal) => return refused(refusal),
        ApplyError::TrialOver => (None, "sudo truename up".to_owned()),
        ApplyError::Before(_) => (None, "sudo truename down".to_owned()),
        ApplyError::NotServing(_) => {
            let hint =
                "nothing was changed; start it with `systemctl start truename.service`, and see `truename status`";
            (Some("truename answering there".to_owned()), hint.to_owned())
        }
        ApplyError::Failed { left: None, .. } => {
            (None, "everything was undone; names are where they were before".to_owned())
        }
        ApplyError::Failed { left: Some(left), .. } => {
            (None, format!("not all of it could be undone ({left}): say `sudo truename down` again"))
        }
    };
    Failed::Refused { found: text, expected, hint: Some(hint) }
}

/// Says that another command is at it.
pub(super) fn busy(error: io::Error) -> Failed {
    let hint = "wait for its end, and say this again".to_owned();
    Failed::Refused { found: error.to_string(), expected: None, hint: Some(hint) }
}

/// Says why the server of `--doh` will not do.
fn no_doh(error: RunError) -> Failed {
    let (found, hint) = match error {
        RunError::Config(problems) => (
            diagnostic::human(&problems).trim_end().to_owned(),
            "say it in /etc/truename/truename.toml, by [default] upstream, and then `sudo truename up` without --doh",
        ),
        error
        @ (RunError::Bind(_) | RunError::System { .. } | RunError::UnknownUpstream(_) | RunError::NoAnswer(_)) => {
            (error.to_string(), "try it by itself: truename query example.org @https://…")
        }
    };
    Failed::Refused { found: format!("nothing was changed: {found}"), expected: None, hint: Some(hint.to_owned()) }
}

fn unit_failed(error: &UnitError) -> Failed {
    let found = match error {
        UnitError::Manager(error) => error.to_string(),
        // It is an error of this program's own making, whole.
        UnitError::TakeOver(text) => text.trim_start_matches("error: ").to_owned(),
    };
    Failed::Refused { found, expected: None, hint: None }
}

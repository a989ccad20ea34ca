//! `truename down`: names go back to who had them.

use super::args::DownArguments;
use super::exit::{Failed, Outcome};
use super::render::{self, visible};
use super::up;
use crate::app;
use crate::system::takeover::{self, Machine, Released, look, units};

/// What a container or a folder of another machine may have.
pub(super) const OF_ANOTHER_MACHINE: &str =
    "/etc/resolv.conf leads to a truename of another machine, and is left as it is.";

/// Gives names back and says what that came to.
pub(super) fn run(arguments: &DownArguments) -> Result<Outcome, Failed> {
    let machine = Machine::default();
    let facts = look(&machine);
    if arguments.dry_run {
        render::result(&shown(&machine))?;
        return Ok(Outcome::Fine);
    }
    if !facts.is_root {
        return Err(Failed::NotRoot { command: "to do it: sudo truename down".to_owned() });
    }
    if arguments.if_dead && !is_dead(&machine) {
        return Ok(Outcome::Fine);
    }
    // With patience: the end of a trial must not be lost to whoever is at it just now.
    let _turn = takeover::turn(&machine, true).map_err(up::busy)?;
    // Whoever was before us may have kept it.
    if arguments.trial_end.as_ref().is_some_and(|until| !units::is_on_trial(&machine, until)) {
        return Ok(Outcome::Fine);
    }
    // Before the unit undoes it, and the record with it.
    let was_taken = !matches!(takeover::recorded(&machine), Ok(None));
    // Even when systemctl fails, what was done is undone: somebody wants their names back.
    let manager = if facts.has_systemd && facts.has_units && !arguments.if_dead {
        units::give_back(&machine, arguments.trial_end.is_some()).err().map(|error| error.to_string())
    } else {
        None
    };
    let released = takeover::release(&machine).map_err(|error| stuck(&error.to_string()))?;
    if let Some(error) = manager {
        return Err(stuck(&error));
    }
    if app::forget_doh().map_err(|error| stuck(&error.to_string()))? && facts.has_systemd {
        // One that does not run reads the rest when it starts.
        drop(units::reload());
    }
    if !arguments.quiet {
        render::result(&outcome(&released, was_taken))?;
    } else if released.of_another_machine {
        render::complain(OF_ANOTHER_MACHINE);
    }
    Ok(Outcome::Fine)
}

/// Tells whether names lead to nobody. Where that cannot be known, they do.
fn is_dead(machine: &Machine) -> bool {
    match takeover::recorded(machine) {
        Ok(None) => false,
        Ok(Some(record)) => takeover::is_dead(&record),
        Err(_) => true,
    }
}

fn shown(machine: &Machine) -> String {
    match takeover::recorded(machine) {
        Ok(None) => "Nothing to undo: the names of this machine do not come to truename by its own doing.".to_owned(),
        Ok(Some(record)) => {
            let steps: Vec<String> = record.steps.iter().rev().map(|step| format!("  undo: {}", step.text())).collect();
            format!("This machine is {}. It would be given back:\n{}", takeover::summary(machine), steps.join("\n"))
        }
        Err(error) => format!("What was done cannot be read ({error}); what is found of it would be undone."),
    }
}

/// Says what it came to; where the unit has undone everything already, nothing is left to be undone here.
fn outcome(released: &Released, was_taken: bool) -> String {
    let mut text = if released.undone.is_empty() && !was_taken {
        "There was nothing to undo.".to_owned()
    } else {
        "The names of this machine are where they were before.".to_owned()
    };
    if released.left_to_other {
        text += "\n/etc/resolv.conf was written by somebody else meanwhile, and is left to them.";
    }
    if let Some(error) = &released.unread {
        text += &format!("\nWhat was done could not be read ({}); what was found of it was undone.", visible(error));
    }
    if released.of_another_machine {
        text = format!("{text}\n{OF_ANOTHER_MACHINE}");
    }
    text + "\nThe daemon goes on. To end it: sudo systemctl disable --now truename.socket truename.service"
}

/// Says that something stands in the way, and what helps.
pub(super) fn stuck(found: &str) -> Failed {
    let hint = "mend that and say `sudo truename down` again; docs/operations.md tells how to do it by hand";
    Failed::Refused { found: found.to_owned(), expected: None, hint: Some(hint.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_taken_is_not_given_back() {
        let nothing = outcome(&Released::default(), false);
        assert!(nothing.starts_with("There was nothing to undo."), "{nothing}");
        let by_unit = outcome(&Released::default(), true);
        assert!(by_unit.starts_with("The names of this machine are where they were before."), "{by_unit}");
    }
}

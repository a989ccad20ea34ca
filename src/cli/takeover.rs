//! `truename takeover`: what the units do. It talks to the journal.

use super::args::TakeoverCommand;
use super::exit::{Failed, Outcome};
use super::{down, render, up};
use crate::system::takeover::{self, Machine, Reclaimed, units};

/// Does it.
pub(super) fn run(what: &TakeoverCommand) -> Result<Outcome, Failed> {
    let machine = Machine::default();
    match what {
        TakeoverCommand::Apply => {
            units::apply(&machine).map_err(up::failed)?;
            render::complain(&takeover::summary(&machine));
        }
        TakeoverCommand::Release { unless_taken } => {
            let released =
                if *unless_taken { units::release_again(&machine) } else { takeover::release(&machine).map(Some) };
            let Some(released) = released.map_err(|error| down::stuck(&error.to_string()))? else {
                return Ok(Outcome::Fine);
            };
            if released.left_to_other {
                render::complain("/etc/resolv.conf was written by somebody else meanwhile, and is left to them");
            }
            if released.of_another_machine {
                render::complain(down::OF_ANOTHER_MACHINE);
            }
            if let Some(error) = released.unread {
                render::complain(&format!("{error}: what was found of it was undone, and the record is put aside"));
            }
        }
        TakeoverCommand::Reclaim => match units::reclaim(&machine).map_err(|error| down::stuck(&error.to_string()))? {
            Reclaimed::NothingToDo => {}
            Reclaimed::TakenAgain(times) => {
                render::complain(&format!("another program wrote /etc/resolv.conf; taken again ({times} of late)"));
            }
            Reclaimed::LeftToOther => {
                let found =
                    "another program goes on writing /etc/resolv.conf: it is left to them, and names are given back";
                let hint = "stop that program from doing so (docs/operations.md), then say `sudo truename up` again";
                return Err(Failed::Refused { found: found.to_owned(), expected: None, hint: Some(hint.to_owned()) });
            }
        },
    }
    Ok(Outcome::Fine)
}

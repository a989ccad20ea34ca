//! What a worker writes of its answers: sums, and the notes of the last ones.

use super::answers::{Cell, Sheet};
use super::recent::Notes;
use crate::clock::Tick;
use crate::dns::Decided;
use std::cell::Cell as StdCell;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The pen of one worker: may be handed to its thread, not shared.
#[derive(Debug)]
pub struct Ledger {
    sheet: Arc<Sheet>,
    notes: Option<Notes>,
    /// Two threads that write at once would lose answers.
    _one_thread: PhantomData<StdCell<()>>,
}

impl Ledger {
    pub(super) fn new(sheet: Arc<Sheet>, notes: Option<Notes>) -> Self {
        Self { sheet, notes, _one_thread: PhantomData }
    }

    /// Remembers an answer with who asked; it is seen when it is published. `upstream` may be empty.
    #[inline]
    pub fn note(&self, cell: Cell, decided: Decided, client: SocketAddr, now: Tick, answer: &[u8], upstream: &[u8]) {
        if let Some(notes) = &self.notes {
            notes.push(cell, decided, client, now, answer, upstream);
        }
    }

    /// Publishes answers that took the same time, which ended `now`, and lets what was noted of them be seen.
    pub fn publish(&self, answers: &[Cell], took: Duration, now: Tick) {
        self.sheet.publish(answers, took, now);
        if let Some(notes) = &self.notes {
            notes.publish(took);
        }
    }
}

//! What a worker writes of its answers: sums, and the notes of the last ones.

#[cfg(test)]
use super::answers::Cell;
use super::noted::{Batch, Noted};
use super::recent::Notes;
use super::sheet::Sheet;
use crate::clock::Tick;
use std::cell::Cell as StdCell;
use std::marker::PhantomData;
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

    /// Counts answers, and remembers each with who asked.
    pub fn publish(&self, batch: Batch<'_>) {
        self.count(batch.noted, batch.took, batch.now);
        self.remember(batch);
    }

    /// Counts answers that are about to be sent, and announces that they will be remembered: whoever looks from here on waits
    /// until they are.
    pub fn count(&self, noted: &[Noted], took: Duration, now: Tick) {
        self.sheet.publish(noted, took, now);
        if let Some(notes) = &self.notes {
            notes.announce(noted.len());
        }
    }

    /// Remembers answers that are counted already, each with who asked.
    pub fn remember(&self, batch: Batch<'_>) {
        if let Some(notes) = &self.notes {
            notes.push(batch);
        }
    }

    /// Publishes answers of which nothing else is known.
    #[cfg(test)]
    pub(super) fn publish_cells(&self, cells: &[Cell], took: Duration, now: Tick) {
        let noted: Vec<Noted> = cells.iter().map(|cell| Noted::new(*cell, ([192, 0, 2, 7], 53).into(), 0)).collect();
        self.publish(Batch { noted: &noted, octets: &[], prefix_bytes: 0, upstream: "", at: now, took, now });
    }
}

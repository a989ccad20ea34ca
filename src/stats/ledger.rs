//! What a worker writes of its answers: sums, and the notes of the last ones.

#[cfg(test)]
use super::answers::Cell;
use super::noted::Batch;
#[cfg(test)]
use super::noted::Noted;
use super::recent::Notes;
use super::sheet::Sheet;
use std::cell::Cell as StdCell;
use std::marker::PhantomData;
use std::sync::Arc;
#[cfg(test)]
use {crate::clock::Tick, std::time::Duration};

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
        self.sheet.publish(batch.noted, batch.took, batch.now);
        if let Some(notes) = &self.notes {
            notes.push(batch);
        }
    }

    /// Counts answers of which nothing else is known.
    #[cfg(test)]
    pub(super) fn count(&self, cells: &[Cell], took: Duration, now: Tick) {
        let noted: Vec<Noted> = cells.iter().map(|cell| Noted::new(*cell, ([192, 0, 2, 7], 53).into(), 0)).collect();
        self.publish(Batch { noted: &noted, octets: &[], prefix_bytes: 0, upstream: "", at: now, took, now });
    }
}

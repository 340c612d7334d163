//! The files of one worker, read in their order.

use crate::ledger::recover::Recovery;
use crate::ledger::spool::{self, Reader, Step};
use crate::store::Settled;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What is known of a worker's files.
#[derive(Default)]
pub struct Group {
    files: VecDeque<Followed>,
    /// Calls under way; the file in which one was opened stays until it is over.
    recovery: Recovery,
    /// Files that came before the first of `files`.
    gone: usize,
    /// Nobody writes any more, and all is read.
    is_over: bool,
    /// The lock of a process that has ended.
    _lock: Option<File>,
}

struct Followed {
    path: PathBuf,
    reader: Reader,
    /// Read to its end, or as far as it can be read.
    is_read: bool,
}

impl Group {
    /// A file of this worker, known or new; the later ones come later.
    pub fn add(&mut self, path: &Path) -> io::Result<()> {
        if self.is_over || self.files.back().is_some_and(|last| *last.path >= *path) {
            return Ok(());
        }
        match Reader::open(path) {
            Ok(reader) => self.files.push_back(Followed { path: path.to_owned(), reader, is_read: false }),
            // Another gateway has booked it since it was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => (),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Reads settled calls until `batch` has `most`. In a group whose process has ended, calls that are open still are
    /// interrupted; they are counted.
    pub fn read(&mut self, batch: &mut Vec<Settled>, most: usize, interrupted: &mut usize) -> io::Result<()> {
        if self.is_over {
            return Ok(());
        }
        // First whether somebody writes, then what is there: else what is written in between would be missed.
        let Some(last) = self.files.back() else { return Ok(()) };
        let lock = match spool::take_over(&last.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.files.clear();
                self.is_over = true;
                return Ok(());
            }
            lock => lock?,
        };
        let count = self.files.len();
        for place in 0..count {
            let number = self.gone + place;
            let is_sealed = place + 1 < count || lock.is_some();
            let Some(file) = self.files.get_mut(place).filter(|file| !file.is_read) else { continue };
            loop {
                if batch.len() >= most {
                    return Ok(());
                }
                match file.reader.step()? {
                    Step::Record(record) => batch.extend(self.recovery.see(*record, number)),
                    Step::Foreign => tracing::error!(
                        "{} holds a record of another version of the gateway; it is kept beside it (.aside)",
                        file.path.display()
                    ),
                    Step::End if !is_sealed => break,
                    Step::End => {
                        if file.reader.has_rest() {
                            keep_rest(file, "its last record is not whole")?;
                        }
                        file.is_read = true;
                        break;
                    }
                    Step::Torn { at, why } => {
                        keep_rest(file, &format!("{why} at byte {at}"))?;
                        file.is_read = true;
                        break;
                    }
                }
            }
        }
        if let Some(lock) = lock {
            let calls = std::mem::take(&mut self.recovery).interrupted();
            *interrupted += calls.len();
            batch.extend(calls);
            self.is_over = true;
            self._lock = Some(lock);
        }
        Ok(())
    }

    /// Nobody of this process writes any more. What is under way still is left to the next one.
    pub fn close(&mut self) {
        if self.recovery.first_file().is_none() {
            self.files.iter_mut().for_each(|file| file.is_read = true);
            self.is_over = true;
        }
    }

    /// A call was settled elsewhere.
    pub fn forget(&mut self, id: &str) {
        self.recovery.forget(id);
    }

    /// Deletes the files of which everything is booked; all that was read must be.
    pub fn delete(&mut self) {
        let needed = self.recovery.first_file().unwrap_or(usize::MAX);
        while let Some(file) = self.files.front().filter(|file| file.is_read && self.gone < needed) {
            if let Err(e) = std::fs::remove_file(&file.path)
                && e.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!("{} is booked and cannot be deleted: {e}", file.path.display());
                return;
            }
            self.files.pop_front();
            self.gone += 1;
        }
    }

    /// Nothing is left of it.
    pub fn is_gone(&self) -> bool {
        self.is_over && self.files.is_empty()
    }
}

fn keep_rest(file: &mut Followed, why: &str) -> io::Result<()> {
    if let Some((path, size)) = file.reader.set_rest_aside()? {
        tracing::error!(
            "{}: {why}; all before it is booked, and {size} bytes that cannot be read are kept in {}",
            file.path.display(),
            path.display()
        );
    }
    Ok(())
}

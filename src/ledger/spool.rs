//! The spool: files in the state directory that one worker each appends to.
//!
//! A record is written by one `write(2)`: from then on it survives the end of the process, however that comes. It
//! survives that of the machine once it is synced, which a thread of its own does about every second ([`Sync::sync`]).
//! A file that has grown is sealed and the next one begun; the writer of the store deletes it when it is booked.

use super::record::{Front, MAGIC, MAX_PAYLOAD, Record, front};
use arc_swap::ArcSwap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const SUFFIX: &str = "spool";
/// What could not be read is put into a file of the same name with this behind it.
const ASIDE: &str = "aside";
/// A file that has not got its name yet.
const BEGUN: &str = "begun";
/// A file that is larger is sealed.
const SEAL: u64 = 16 << 20;

/// The files of one worker.
pub struct Spool {
    directory: PathBuf,
    /// When the process started, and which worker: sorts files by age, and names no two alike.
    prefix: String,
    number: u32,
    size: u64,
    seal: u64,
    path: PathBuf,
    /// A part of a record was written and taken back: who reads along may have seen it, so nothing follows it.
    spoiled: bool,
    sync: Arc<Sync>,
}

/// What the sync thread sees of a spool.
pub struct Sync {
    current: ArcSwap<File>,
    dirty: AtomicBool,
    /// Sealed since the last sync.
    sealed: Mutex<Vec<Arc<File>>>,
}

impl Spool {
    /// Begins the first file of a worker in a directory that is there.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn begin(directory: &Path, started_at: i64, worker: usize) -> io::Result<Spool> {
        let prefix = format!("{started_at:020}-{worker:03}");
        let (path, file) = create(directory, &prefix, 0)?;
        let sync = Arc::new(Sync {
            current: ArcSwap::from_pointee(file),
            dirty: AtomicBool::new(true),
            sealed: Mutex::default(),
        });
        let size = MAGIC.len() as u64;
        Ok(Spool { directory: directory.to_owned(), prefix, number: 0, size, seal: SEAL, path, spoiled: false, sync })
    }

    /// The file that is being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For the sync thread.
    pub fn sync(&self) -> Arc<Sync> {
        self.sync.clone()
    }

    /// Writes a record that is encoded already; when this returns, it survives the end of the process.
    ///
    /// # Errors
    /// It is not written: the disk is full, or fails. The file is as it was before.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= self.seal || self.spoiled {
            self.rotate()?;
        }
        let file = self.sync.current.load_full();
        let written = loop {
            match (&*file).write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                other => break other,
            }
        };
        match written {
            Ok(n) if n == bytes.len() => {
                self.size += n as u64;
                self.sync.dirty.store(true, Ordering::Release);
                Ok(())
            }
            // A part of it, as a disk does that is full: it is taken back, and the file ends here.
            Ok(_) => {
                self.spoiled = true;
                let _ = file.set_len(self.size);
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            Err(e) => Err(e),
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let (path, file) = create(&self.directory, &self.prefix, self.number + 1)?;
        let sealed = self.sync.current.swap(Arc::new(file));
        self.sync.sealed.lock().unwrap_or_else(PoisonError::into_inner).push(sealed);
        self.sync.dirty.store(true, Ordering::Release);
        (self.path, self.size, self.spoiled) = (path, MAGIC.len() as u64, false);
        self.number += 1;
        Ok(())
    }
}

impl Sync {
    /// Brings what was written to the disk; it does not come back before it is there. Nobody waits for it meanwhile.
    ///
    /// # Errors
    /// The disk fails; the next call tries again.
    pub fn sync(&self) -> io::Result<()> {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let sealed = std::mem::take(&mut *self.sealed.lock().unwrap_or_else(PoisonError::into_inner));
        let current = self.current.load_full();
        let failed: Vec<_> =
            sealed.iter().filter_map(|file| file.sync_data().err().map(|e| (file.clone(), e))).collect();
        let result = current.sync_data();
        if failed.is_empty() && result.is_ok() {
            return Ok(());
        }
        self.dirty.store(true, Ordering::Release);
        let mut error = result.err();
        let mut waiting = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        for (file, e) in failed {
            waiting.push(file);
            error = error.or(Some(e));
        }
        error.map_or(Ok(()), Err)
    }
}

fn create(directory: &Path, prefix: &str, number: u32) -> io::Result<(PathBuf, File)> {
    match create_once(directory, prefix, number) {
        // Another process swept it away before it was locked; it sweeps once.
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotFound) => {
            create_once(directory, prefix, number)
        }
        made => made,
    }
}

fn create_once(directory: &Path, prefix: &str, number: u32) -> io::Result<(PathBuf, File)> {
    let path = directory.join(format!("{prefix}-{number:06}.{SUFFIX}"));
    let begun = path.with_extension(BEGUN);
    // It may hold prompts.
    let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&begun)?;
    // Locked and whole before it has its name: a spool without a lock is one whose process has ended. Where there are
    // no locks, each process takes the others for ended, and what it books too early is booked once all the same.
    let made = (&file).write_all(&MAGIC).and_then(|()| match file.try_lock() {
        Ok(()) | Err(TryLockError::Error(_)) => std::fs::hard_link(&begun, &path),
        Err(TryLockError::WouldBlock) => Err(io::Error::from(io::ErrorKind::WouldBlock)),
    });
    let _ = std::fs::remove_file(&begun);
    made?;
    if let Err(e) = File::open(directory).and_then(|directory| directory.sync_all()) {
        let _ = std::fs::remove_file(&path);
        return Err(e);
    }
    Ok((path, file))
}

/// The lock of a file whose process has ended; none while it lives.
///
/// # Errors
/// The file cannot be opened.
pub fn take_over(path: &Path) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    match file.try_lock() {
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
    }
}

/// Deletes the files that got no name, since their process ended before. Nothing was written to them.
///
/// # Errors
/// The directory cannot be read, or a file not deleted.
pub fn sweep(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != BEGUN) {
            continue;
        }
        match take_over(&path) {
            Ok(Some(_lock)) => std::fs::remove_file(&path)?,
            Ok(None) => (),
            // It has got its name meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => (),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The files of a worker have all but the end of their name in common.
pub fn worker_of(path: &Path) -> Option<&str> {
    path.file_stem()?.to_str()?.rsplit_once('-').map(|(worker, _)| worker)
}

/// The files of a spool, the oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == SUFFIX) {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// What a reader has come to.
#[derive(Debug, PartialEq)]
pub enum Step {
    Record(Box<Record>),
    /// A record of another version; its bytes were put aside.
    Foreign,
    /// All that is there was read. Where the file is still written, more may come.
    End,
    /// No more of this file can be read.
    Torn {
        at: u64,
        why: &'static str,
    },
}

/// Reads a file of the spool, also while it is written.
pub struct Reader {
    path: PathBuf,
    file: File,
    /// Read and not taken yet.
    buffer: Vec<u8>,
    taken: usize,
    /// Where the buffer begins in the file.
    base: u64,
    begun: bool,
}

const CHUNK: usize = 64 * 1024;

impl Reader {
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Reader> {
        let file = File::open(path)?;
        Ok(Reader { path: path.to_owned(), file, buffer: Vec::new(), taken: 0, base: 0, begun: false })
    }

    /// The next record, or why there is none.
    ///
    /// # Errors
    /// The file cannot be read, or what is foreign not put aside.
    pub fn step(&mut self) -> io::Result<Step> {
        loop {
            let at = self.base + self.taken as u64;
            let rest = &self.buffer[self.taken..];
            if !self.begun {
                match rest.get(..MAGIC.len()) {
                    Some(magic) if magic == MAGIC => {
                        self.taken += MAGIC.len();
                        self.begun = true;
                        continue;
                    }
                    Some(_) => {
                        return Ok(Step::Torn { at, why: "the beginning is not that of a spool of this version" });
                    }
                    None => (),
                }
            } else {
                match front(rest) {
                    Front::Record(record, size) => {
                        self.taken += size;
                        return Ok(Step::Record(record));
                    }
                    Front::Foreign(size) => {
                        let foreign = rest[..size].to_vec();
                        self.append_aside(&foreign)?;
                        self.taken += size;
                        return Ok(Step::Foreign);
                    }
                    Front::Torn(why) => return Ok(Step::Torn { at, why }),
                    Front::More => (),
                }
            }
            if !self.read_more()? {
                return Ok(Step::End);
            }
        }
    }

    /// Whether bytes are left that are no whole record: in a file that nobody writes any more, a torn tail.
    pub fn has_rest(&self) -> bool {
        self.buffer.len() > self.taken
    }

    /// Puts what cannot be read into a file beside this one, and gives its path and size; none where nothing is left.
    ///
    /// # Errors
    /// It cannot be written; then nothing of the spool may be deleted.
    pub fn set_rest_aside(&mut self) -> io::Result<Option<(PathBuf, u64)>> {
        let at = self.base + self.taken as u64;
        self.file.seek(SeekFrom::Start(at))?;
        let mut rest = self.file.try_clone()?.take(u64::MAX);
        let mut aside = self.aside()?;
        let size = io::copy(&mut rest, &mut aside)?;
        aside.sync_all()?;
        let path = self.path.with_extension(ASIDE);
        if size == 0 {
            return Ok(None);
        }
        Ok(Some((path, size)))
    }

    fn aside(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.path.with_extension(ASIDE))
    }

    fn append_aside(&self, bytes: &[u8]) -> io::Result<()> {
        let mut aside = self.aside()?;
        aside.write_all(bytes)?;
        aside.sync_all()
    }

    fn read_more(&mut self) -> io::Result<bool> {
        // The buffer never holds more than one record and a chunk.
        self.buffer.drain(..self.taken);
        self.base += self.taken as u64;
        self.taken = 0;
        if self.buffer.len() > MAX_PAYLOAD + CHUNK {
            return Err(io::Error::other(format!("{} holds a record without end", self.path.display())));
        }
        let length = self.buffer.len();
        self.buffer.resize(length + CHUNK, 0);
        let read = self.file.read(&mut self.buffer[length..]);
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::{End, encode};
    use crate::store::{LedgerRow, Settled};

    fn record(n: usize) -> Vec<u8> {
        let row = LedgerRow { id: format!("id{n}"), model: "m".repeat(n % 300), ..LedgerRow::default() };
        let mut bytes = Vec::new();
        let end = if n.is_multiple_of(2) { End::Open } else { End::Settle };
        encode(end, &Settled { row, ..Settled::default() }, &mut bytes).unwrap();
        bytes
    }

    /// What is read where that was written.
    fn seen(n: usize) -> Record {
        let Front::Record(record, _) = front(&record(n)) else { panic!("no record") };
        *record
    }

    #[test]
    fn only_a_file_without_a_name_and_a_process_is_swept_away() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::begin(directory.path(), 5, 0).unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("00000000000000000004-000-000000.begun"), MAGIC).unwrap();
        let held = File::create(path("00000000000000000006-000-000000.begun")).unwrap();
        held.lock().unwrap();
        sweep(directory.path()).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort_unstable();
        let of_spool = spool.path().file_name().unwrap().to_owned();
        assert_eq!(left, [of_spool, "00000000000000000006-000-000000.begun".into()]);
    }

    fn read_all(path: &Path) -> (Vec<Record>, Step, Reader) {
        let mut reader = Reader::open(path).unwrap();
        let mut records = Vec::new();
        loop {
            match reader.step().unwrap() {
                Step::Record(record) => records.push(*record),
                Step::Foreign => (),
                end => return (records, end, reader),
            }
        }
    }

    #[test]
    fn records_are_read_in_order_over_all_files() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::begin(directory.path(), 5, 0).unwrap();
        spool.seal = 4_000;
        for n in 0..200 {
            spool.write(&record(n)).unwrap();
        }
        spool.sync().sync().unwrap();
        let files = files(directory.path()).unwrap();
        assert!(files.len() > 5 && files.last().unwrap() == spool.path(), "{files:?}");
        let read: Vec<Record> = files.iter().flat_map(|file| read_all(file).0).collect();
        assert_eq!(read, (0..200).map(seen).collect::<Vec<_>>());
    }

    #[test]
    fn a_reader_follows_a_file_that_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::begin(directory.path(), 5, 0).unwrap();
        let mut reader = Reader::open(spool.path()).unwrap();
        for n in 0..10 {
            assert_eq!(reader.step().unwrap(), Step::End);
            spool.write(&record(n)).unwrap();
            assert_eq!(reader.step().unwrap(), Step::Record(Box::new(seen(n))));
        }
        assert!(!reader.has_rest());
    }

    #[test]
    fn a_torn_tail_is_kept_aside_and_all_before_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::begin(directory.path(), 5, 0).unwrap();
        for n in 0..5 {
            spool.write(&record(n)).unwrap();
        }
        let path = spool.path().to_owned();
        let whole = std::fs::metadata(&path).unwrap().len();
        let torn = record(5);
        for tail in [&torn[..3], &torn[..torn.len() - 1], &[0; 100], &[0xff; 100]] {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.set_len(whole).unwrap();
            file.write_all(tail).unwrap();
            let (records, end, mut reader) = read_all(&path);
            assert_eq!(records.len(), 5);
            assert!(matches!(end, Step::Torn { at, .. } if at == whole) || reader.has_rest(), "{end:?}");
            let (aside, size) = reader.set_rest_aside().unwrap().unwrap();
            assert_eq!((size, std::fs::read(&aside).unwrap()), (tail.len() as u64, tail.to_vec()));
            std::fs::remove_file(aside).unwrap();
        }
    }

    #[test]
    fn a_file_of_another_form_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.spool");
        std::fs::write(&path, b"gwspool\x02 something else").unwrap();
        let (records, end, mut reader) = read_all(&path);
        assert!(records.is_empty() && matches!(end, Step::Torn { at: 0, .. }), "{end:?}");
        assert_eq!(reader.set_rest_aside().unwrap().unwrap().1, 23);
    }

    #[test]
    fn a_full_disk_leaves_no_half_record() {
        // Always full (man 4 full), for whoever may write to it.
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::begin(directory.path(), 5, 0).unwrap();
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let before = spool.sync.current.swap(Arc::new(file));
        let error = spool.write(&record(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        spool.sync.current.store(before);
        spool.write(&record(2)).unwrap();
        assert_eq!(read_all(spool.path()).0, [seen(2)]);
    }
}

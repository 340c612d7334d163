//! SQLite, the store of a gateway that has no Postgres: one file in the state directory.
//!
//! One thread writes, two read (in WAL mode neither waits for the other). A transaction has the writing thread to
//! itself until it ends, or until whoever began it is gone: then it is rolled back.

use super::sql::{Answer, Record, Row, Value, insertion};
use super::{Fault, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter};
use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

const READERS: usize = 2;
/// Another process may hold the file: a copy, a shell, a second gateway.
const BUSY: Duration = Duration::from_secs(5);
/// Longer than any queue of jobs should be; a report of a large ledger takes its time.
const WAIT: Duration = Duration::from_secs(30);

type Reply<T> = oneshot::Sender<Result<T>>;

enum Job {
    Run { sql: String, params: Vec<Value>, reply: Reply<Answer> },
    Begin { reply: Reply<()>, steps: Receiver<Step> },
}

enum Step {
    Run { sql: String, params: Vec<Value>, reply: Reply<Answer> },
    Each { sql: String, rows: Vec<Vec<Value>>, reply: Reply<Answer> },
    Batch { sql: String, reply: Reply<Answer> },
    Commit { reply: Reply<Answer> },
}

/// The threads with their connections.
#[derive(Debug, Clone)]
pub struct Sqlite {
    writer: Sender<Job>,
    readers: Sender<Job>,
}

impl Sqlite {
    /// The file is opened with the first statement, and again where that failed.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(path: &Path) -> Result<Self> {
        let (writer, jobs) = channel();
        start("store-write", path, true, jobs)?;
        let (readers, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..READERS {
            let (path, jobs) = (path.to_owned(), jobs.clone());
            spawn("store-read", move || {
                let mut file = File { path, connection: None, writes: false };
                loop {
                    // The lock is held while waiting: the other thread waits for the lock instead of for the job.
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match job {
                        Ok(job) => file.work(job),
                        Err(_) => return,
                    }
                }
            })?;
        }
        Ok(Sqlite { writer, readers })
    }

    /// Runs one statement that only reads.
    ///
    /// # Errors
    /// What the file, or the statement, is at fault.
    pub async fn read(&self, sql: &str, params: Vec<Value>) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        send(&self.readers, Job::Run { sql: numbered(sql), params, reply })?;
        wait(answer).await
    }

    /// Runs one statement that is in no transaction, where there is no other writer, however long it takes: for
    /// commands, not for calls.
    ///
    /// # Errors
    /// What the file, or the statement, is at fault.
    pub async fn alone(&self, sql: &str, params: Vec<Value>) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        send(&self.writer, Job::Run { sql: numbered(sql), params, reply })?;
        answer.await.unwrap_or_else(|_| Err(Fault::Unavailable("the store has been closed".to_owned())))
    }

    /// Begins a transaction, once the one before it is over.
    ///
    /// # Errors
    /// The file cannot be written to, or others have it for too long.
    pub async fn begin(&self) -> Result<Lease> {
        let (reply, begun) = oneshot::channel();
        let (steps, taken) = channel();
        send(&self.writer, Job::Begin { reply, steps: taken })?;
        wait(begun).await?;
        Ok(Lease { steps })
    }
}

/// A transaction; it is rolled back unless it is committed.
pub struct Lease {
    steps: Sender<Step>,
}

impl Lease {
    pub async fn run(&self, sql: &str, params: Vec<Value>) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        send(&self.steps, Step::Run { sql: numbered(sql), params, reply })?;
        wait(answer).await
    }

    pub async fn bulk<R: Record>(&self, tail: &str, rows: &[impl Borrow<R>]) -> Result<Answer> {
        let places: Vec<String> = (1..=R::COLUMNS.len()).map(|n| format!("?{n}")).collect();
        let sql = insertion::<R>(&format!("VALUES ({})", places.join(", ")), tail);
        let rows = rows.iter().map(|row| row.borrow().values()).collect();
        let (reply, answer) = oneshot::channel();
        send(&self.steps, Step::Each { sql, rows, reply })?;
        wait(answer).await
    }

    /// Runs several statements without parameters.
    pub async fn batch(&self, sql: &str) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        send(&self.steps, Step::Batch { sql: sql.to_owned(), reply })?;
        wait(answer).await.map(drop)
    }

    pub async fn commit(self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        send(&self.steps, Step::Commit { reply })?;
        wait(answer).await.map(drop)
    }
}

fn send<T>(to: &Sender<T>, what: T) -> Result<()> {
    to.send(what).map_err(|_| Fault::Unavailable("the store has been closed".to_owned()))
}

async fn wait<T>(answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    match tokio::time::timeout(WAIT, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Fault::Unavailable("the store has been closed".to_owned())),
        Err(_) => Err(Fault::Unavailable(format!("the store did not answer within {} s", WAIT.as_secs()))),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let made = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    made.map(drop).map_err(|e| Fault::Unavailable(format!("no thread for the store can be started: {e}")))
}

fn start(name: &str, path: &Path, writes: bool, jobs: Receiver<Job>) -> Result<()> {
    let mut file = File { path: path.to_owned(), connection: None, writes };
    spawn(name, move || jobs.iter().for_each(|job| file.work(job)))
}

/// `$1` as SQLite wants it: there `$1` is a name, numbered by where it is met first.
fn numbered(sql: &str) -> String {
    let mut quoted = false;
    sql.chars()
        .map(|c| {
            quoted ^= c == '\'';
            if c == '$' && !quoted { '?' } else { c }
        })
        .collect()
}

struct File {
    path: PathBuf,
    connection: Option<Connection>,
    writes: bool,
}

impl File {
    fn work(&mut self, job: Job) {
        match job {
            Job::Run { sql, params, reply } => {
                // Nobody waits for it any more.
                if !reply.is_closed() {
                    let _ = reply.send(self.open().and_then(|c| run(c, &sql, &params)));
                }
            }
            Job::Begin { reply, steps } => {
                if reply.is_closed() {
                    return;
                }
                let begun = self.open().and_then(|c| c.execute_batch("BEGIN IMMEDIATE").map_err(fault).map(|()| &*c));
                match begun {
                    Ok(connection) => {
                        if reply.send(Ok(())).is_ok() {
                            transact(connection, &steps);
                        }
                        if !connection.is_autocommit() {
                            let _ = connection.execute_batch("ROLLBACK");
                        }
                    }
                    Err(fault) => drop(reply.send(Err(fault))),
                }
            }
        }
    }

    fn open(&mut self) -> Result<&mut Connection> {
        if self.connection.is_none() {
            let made = connect(&self.path, self.writes).map_err(|f| f.about(&format!("{}: ", self.path.display())))?;
            self.connection = Some(made);
        }
        self.connection.as_mut().ok_or_else(|| Fault::Unavailable("the store is not open".to_owned()))
    }
}

fn connect(path: &Path, writes: bool) -> Result<Connection> {
    // It may hold prompts: nobody else reads it, nor the files that SQLite puts beside it with the same mode.
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| Fault::Unavailable(e.to_string()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(128);
    // Counts in a new file only: what retention frees can be given back in steps.
    if writes {
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(fault)?;
    }
    // FULL: what is booked leaves the spool, so a power cut must not take it back.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(fault)?;
    if !writes {
        connection.execute_batch("PRAGMA query_only = ON").map_err(fault)?;
    }
    Ok(connection)
}

fn transact(connection: &Connection, steps: &Receiver<Step>) {
    while let Ok(step) = steps.recv() {
        match step {
            Step::Run { sql, params, reply } => drop(reply.send(run(connection, &sql, &params))),
            Step::Each { sql, rows, reply } => drop(reply.send(each(connection, &sql, &rows))),
            Step::Batch { sql, reply } => {
                drop(reply.send(connection.execute_batch(&sql).map_err(fault).map(|()| Answer::default())))
            }
            Step::Commit { reply } => {
                drop(reply.send(connection.execute_batch("COMMIT").map_err(fault).map(|()| Answer::default())));
                return;
            }
        }
    }
}

fn each(connection: &Connection, sql: &str, rows: &[Vec<Value>]) -> Result<Answer> {
    let mut all = Answer::default();
    for params in rows {
        let answer = run(connection, sql, params)?;
        all.changed += answer.changed;
        all.rows.extend(answer.rows);
    }
    Ok(all)
}

fn run(connection: &Connection, sql: &str, params: &[Value]) -> Result<Answer> {
    let mut statement = connection.prepare_cached(sql).map_err(fault)?;
    let before = connection.total_changes();
    let width = statement.column_count();
    let mut found = statement.query(params_from_iter(params)).map_err(fault)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(fault)? {
        let cells: Result<Vec<Value>> = (0..width).map(|n| row.get_ref(n).map_err(fault).and_then(value)).collect();
        rows.push(Row(cells?));
    }
    drop(found);
    Ok(Answer { rows, changed: connection.total_changes() - before })
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(n) => ValueRef::Integer(*n),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

fn value(cell: ValueRef<'_>) -> Result<Value> {
    match cell {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(n) => Ok(Value::Int(n)),
        ValueRef::Text(text) => Ok(Value::Text(String::from_utf8_lossy(text).into_owned())),
        ValueRef::Real(_) | ValueRef::Blob(_) => {
            Err(Fault::Broken("the database holds a value that is neither an integer nor a text".to_owned()))
        }
    }
}

fn fault(error: rusqlite::Error) -> Fault {
    let text = error.to_string();
    let Some(told) = error.sqlite_error() else { return Fault::Broken(text) };
    // https://www.sqlite.org/rescode.html: 1555 and 2067 are the primary key and UNIQUE.
    match (told.code, told.extended_code) {
        (_, 1555 | 2067) => Fault::Taken(text),
        (
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied
            | ErrorCode::OperationInterrupted,
            _,
        ) => Fault::Unavailable(text),
        _ => Fault::Broken(text),
    }
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn only_placeholders_are_rewritten() {
        assert_eq!(numbered("a = $12 AND b = '$1''$2' OR c = $3"), "a = ?12 AND b = '$1''$2' OR c = ?3");
    }
}

//! Postgres: a small pool whose waits are bounded, and whose connections are made anew when they break.
//!
//! A connection that gave no answer in time, or whose transaction was left in the middle, is closed and not used again.

pub mod tls;
pub mod url;

use super::sql::{Answer, Record, Row, Type, Value, ValueRef, insertion};
use super::{Fault, Result};
use bytes::BytesMut;
use deadpool_postgres::TimeoutType;
use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::StreamExt;
use std::borrow::Borrow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type as PgType, to_sql_checked};
use tokio_postgres::{Client, Error as PgError, RowStream};
use url::Address;

/// A statement that takes longer has been forgotten by the server, or waits for one that has been.
const STATEMENT: Duration = Duration::from_secs(20);
/// Reports over a large ledger, migrations.
const LONG: Duration = Duration::from_secs(120);

/// The pool.
#[derive(Debug, Clone)]
pub struct Postgres {
    pool: Pool,
}

impl Postgres {
    /// Nothing is connected to before the first statement. Connections live on the runtime that `handle` belongs to,
    /// since one that a worker opened ends with that worker.
    ///
    /// # Errors
    /// There can be no pool.
    pub fn new(address: &Address, handle: Handle) -> Result<Self> {
        let connect = OnRuntime { tls: tls::Connector::new(address), handle };
        let manager = Manager::from_connect(
            address.config.clone(),
            connect,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(address.connections)
            .wait_timeout(Some(address.wait))
            .create_timeout(Some(address.wait))
            .recycle_timeout(Some(address.wait))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| Fault::Broken(e.to_string()))?;
        Ok(Postgres { pool })
    }

    async fn client(&self) -> Result<Object> {
        self.pool.get().await.map_err(|e| match e {
            PoolError::Backend(e) => fault(&e).or_unavailable(),
            PoolError::Timeout(TimeoutType::Wait) => {
                Fault::Unavailable("no connection to Postgres became free in time".to_owned())
            }
            other => Fault::Unavailable(format!("cannot connect to Postgres: {other}")),
        })
    }

    /// Runs one statement in a transaction of its own.
    ///
    /// # Errors
    /// What the connection, or the statement, is at fault.
    pub async fn run(&self, sql: &str, params: &[Value]) -> Result<Answer> {
        let mut lease = self.begin().await?;
        let answer = lease.run(sql, params).await?;
        lease.commit().await?;
        Ok(answer)
    }

    /// Runs one statement that reads; one whose text is one of many is not kept prepared.
    ///
    /// # Errors
    /// What the connection, or the statement, is at fault.
    pub async fn read(&self, sql: &str, params: &[Value], prepared: bool) -> Result<Answer> {
        let mut tries = self.tries();
        loop {
            let mut lease = Lease::of(self.client().await?);
            let answer = if prepared { lease.run(sql, params).await } else { lease.run_once(sql, params).await };
            tries -= 1;
            if !lease.lost || tries == 0 {
                lease.give_back_unless_broken(&answer);
                return answer;
            }
        }
    }

    /// # Errors
    /// There is no connection.
    pub async fn begin(&self) -> Result<Lease> {
        let mut tries = self.tries();
        loop {
            let mut lease = Lease::of(self.client().await?);
            let begun = lease.batch("BEGIN").await;
            tries -= 1;
            if !lease.lost || tries == 0 {
                return begun.map(|()| lease);
            }
        }
    }

    /// After a restart of the server, each connection that was waiting to be used turns out to be lost. Nothing was
    /// done on it, so the next one is tried, and at last a new one; a server that is away refuses that one at once.
    fn tries(&self) -> usize {
        self.pool.status().max_size + 1
    }

    /// Connections that are in use or waiting to be used, and the most there may be.
    pub fn connections(&self) -> (usize, usize) {
        let status = self.pool.status();
        (status.size, status.max_size)
    }
}

/// A connection with a transaction on it; unless it is committed, the connection is closed and the server rolls back.
pub struct Lease {
    client: Option<Object>,
    /// The server has closed it.
    lost: bool,
}

impl Lease {
    fn of(client: Object) -> Self {
        Lease { client: Some(client), lost: false }
    }

    fn fault(&mut self, failure: Failure) -> Fault {
        self.lost |= failure.is_lost();
        failure.into()
    }

    pub async fn run(&mut self, sql: &str, params: &[Value]) -> Result<Answer> {
        prepared(self.client.as_ref(), sql, params).await.map_err(|f| self.fault(f))
    }

    pub async fn run_once(&mut self, sql: &str, params: &[Value]) -> Result<Answer> {
        unprepared(self.client.as_ref(), sql, params).await.map_err(|f| self.fault(f))
    }

    pub async fn bulk<R: Record>(&mut self, tail: &str, rows: &[impl Borrow<R> + Sync]) -> Result<Answer> {
        let arrays: Vec<String> = R::COLUMNS
            .iter()
            .enumerate()
            .map(|(n, column)| match column.ty {
                Type::Int => format!("${}::bigint[]", n + 1),
                Type::Text => format!("${}::text[]", n + 1),
            })
            .collect();
        let sql = insertion::<R>(&format!("SELECT * FROM unnest({})", arrays.join(", ")), tail);
        let columns: Vec<Array<'_>> =
            R::CELLS.iter().map(|cell| Array(rows.iter().map(|row| cell(row.borrow())).collect())).collect();
        prepared(self.client.as_ref(), &sql, &columns).await.map_err(|f| self.fault(f))
    }

    pub async fn batch(&mut self, sql: &str) -> Result<()> {
        batch(self.client.as_ref(), sql).await.map_err(|f| self.fault(f))
    }

    pub async fn commit(mut self) -> Result<()> {
        self.batch("COMMIT").await?;
        drop(self.client.take());
        Ok(())
    }

    /// For a single statement: an error of the server leaves the connection as it was.
    fn give_back_unless_broken(mut self, answer: &Result<Answer>) {
        if !matches!(answer, Err(Fault::Unavailable(_))) {
            drop(self.client.take());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}

/// Why a statement has no answer.
enum Failure {
    Slow(Duration),
    Driver(PgError),
    /// The transaction is over, or a cell is of no type of ours.
    Ours(String),
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Self {
        Failure::Driver(error)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        match failure {
            Failure::Slow(within) => {
                Fault::Unavailable(format!("Postgres did not answer within {} s", within.as_secs()))
            }
            Failure::Driver(error) => fault(&error),
            Failure::Ours(text) => Fault::Broken(text),
        }
    }
}

impl Failure {
    /// The server has closed the connection, or says that it does.
    fn is_lost(&self) -> bool {
        let Failure::Driver(error) = self else { return false };
        match error.as_db_error() {
            Some(told) => told.code().code().starts_with("57P0"),
            None => error.is_closed() || cause_is_io(error),
        }
    }
}

type Tried<T> = std::result::Result<T, Failure>;

fn there(client: Option<&Object>) -> Tried<&Object> {
    client.ok_or_else(|| Failure::Ours("the transaction is over".to_owned()))
}

async fn bounded<T>(within: Duration, work: impl Future<Output = Tried<T>>) -> Tried<T> {
    tokio::time::timeout(within, work).await.unwrap_or(Err(Failure::Slow(within)))
}

async fn prepared<P: ToSql + Sync>(client: Option<&Object>, sql: &str, params: &[P]) -> Tried<Answer> {
    let client = there(client)?;
    bounded(STATEMENT, async {
        let statement = client.prepare_cached(sql).await?;
        collect(client.query_raw(&statement, params.iter().map(|v| v as &(dyn ToSql + Sync))).await?).await
    })
    .await
}

async fn unprepared(client: Option<&Object>, sql: &str, params: &[Value]) -> Tried<Answer> {
    let client = there(client)?;
    let typed: Vec<_> = params.iter().map(|v| (v as &(dyn ToSql + Sync), v.pg_type())).collect();
    bounded(LONG, async { collect(client.query_typed_raw(sql, typed).await?).await }).await
}

async fn batch(client: Option<&Object>, sql: &str) -> Tried<()> {
    let client = there(client)?;
    bounded(LONG, async { Ok(client.batch_execute(sql).await?) }).await
}

async fn collect(stream: RowStream) -> Tried<Answer> {
    let mut stream = pin!(stream);
    let mut rows = Vec::new();
    while let Some(row) = stream.next().await {
        rows.push(read(&row?)?);
    }
    // Of a SELECT this is how many rows were read.
    let changed = stream.rows_affected().unwrap_or_default();
    Ok(Answer { rows, changed })
}

fn read(row: &tokio_postgres::Row) -> Tried<Row> {
    let cell = |n: usize, ty: &PgType| -> std::result::Result<Value, PgError> {
        Ok(match *ty {
            PgType::INT8 => row.try_get::<_, Option<i64>>(n)?.map_or(Value::Null, Value::Int),
            PgType::INT4 => row.try_get::<_, Option<i32>>(n)?.map_or(Value::Null, |v| Value::Int(v.into())),
            _ => row.try_get::<_, Option<String>>(n)?.map_or(Value::Null, Value::Text),
        })
    };
    let cells = row.columns().iter().enumerate().map(|(n, column)| cell(n, column.type_()));
    cells.collect::<std::result::Result<Vec<_>, _>>().map(Row).map_err(|e| Failure::Ours(e.to_string()))
}

/// What an error of the driver means. Its texts hold neither passwords nor values.
fn fault(error: &PgError) -> Fault {
    let Some(told) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map_or_else(String::new, |e| format!(": {e}"));
        let text = format!("Postgres: {error}{cause}");
        let lost = error.is_closed() || cause_is_io(error);
        return if lost { Fault::Unavailable(text) } else { Fault::Broken(text) };
    };
    let text = format!("Postgres: {} ({})", told.message(), told.code().code());
    if *told.code() == SqlState::UNIQUE_VIOLATION {
        return Fault::Taken(told.constraint().unwrap_or_default().to_owned());
    }
    // https://www.postgresql.org/docs/15/errcodes-appendix.html: connections, authorization, transactions that were
    // chosen as victims, resources, somebody's intervention, the system; and a server that only reads.
    match told.code().code().get(..2) {
        Some("08" | "28" | "3D" | "40" | "53" | "55" | "57" | "58") => Fault::Unavailable(text),
        _ if *told.code() == SqlState::READ_ONLY_SQL_TRANSACTION => Fault::Unavailable(text),
        _ => Fault::Broken(text),
    }
}

fn cause_is_io(error: &PgError) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        if e.is::<std::io::Error>() {
            return true;
        }
        cause = e.source();
    }
    false
}

impl Value {
    fn pg_type(&self) -> PgType {
        match self {
            Value::Int(_) => PgType::INT8,
            Value::Text(_) | Value::Null => PgType::TEXT,
        }
    }
}

type Encoded = std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>>;

impl ToSql for Value {
    fn to_sql(&self, ty: &PgType, out: &mut BytesMut) -> Encoded {
        self.as_ref().to_sql(ty, out)
    }

    fn accepts(_: &PgType) -> bool {
        true
    }

    to_sql_checked!();
}

impl ToSql for ValueRef<'_> {
    fn to_sql(&self, ty: &PgType, out: &mut BytesMut) -> Encoded {
        match self {
            ValueRef::Null => Ok(IsNull::Yes),
            ValueRef::Int(n) if *ty == PgType::INT4 => i32::try_from(*n)?.to_sql(ty, out),
            ValueRef::Int(n) if *ty == PgType::INT8 => n.to_sql(ty, out),
            ValueRef::Int(_) => Err(format!("an integer cannot be given as {ty}").into()),
            ValueRef::Text(text) if <&str as ToSql>::accepts(ty) => (&**text).to_sql(ty, out),
            ValueRef::Text(_) => Err(format!("a text cannot be given as {ty}").into()),
        }
    }

    fn accepts(_: &PgType) -> bool {
        true
    }

    to_sql_checked!();
}

/// A column of many rows.
#[derive(Debug)]
struct Array<'a>(Vec<ValueRef<'a>>);

impl ToSql for Array<'_> {
    fn to_sql(&self, ty: &PgType, out: &mut BytesMut) -> Encoded {
        self.0.as_slice().to_sql(ty, out)
    }

    fn accepts(_: &PgType) -> bool {
        true
    }

    to_sql_checked!();
}

/// Makes connections on one runtime, whoever asks for them.
struct OnRuntime {
    tls: tls::Connector,
    handle: Handle,
}

type Connected = std::result::Result<(Client, tokio::task::JoinHandle<()>), PgError>;

impl Connect for OnRuntime {
    fn connect(&self, config: &tokio_postgres::Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let (tls, config, handle) = (self.tls.clone(), Arc::new(config.clone()), self.handle.clone());
        Box::pin(async move {
            let inner = handle.clone();
            let made = handle.spawn(async move {
                let (client, connection) = config.connect(tls).await?;
                // Its end is seen by the next statement, which says so.
                let task = inner.spawn(async move { drop(connection.await) });
                Ok((client, task))
            });
            match made.await {
                Ok(connected) => connected,
                // The runtime has ended, and so will whoever waits for this, or for its time to be over.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

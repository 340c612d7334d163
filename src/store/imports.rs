//! Records that come from elsewhere, all at once: what is there already stays as it is.

use super::configured::{CONFIGURED, Configured};
use super::copy::Copied;
use super::keys::{Grace, Key};
use super::ledger::{LedgerRow, Month, Tagged, time_of_id};
use super::records;
use super::reports::Daily;
use super::sql::Record;
use super::totals::Total;
use super::{AccessGroup, Budget, Customer, Entity, Member, Organization, Result, Store, Tag, Team, User, changes};

/// Everything that comes, but for the sums of days.
#[derive(Debug, Default)]
pub struct Brought {
    pub budgets: Vec<Budget>,
    pub organizations: Vec<Organization>,
    pub users: Vec<User>,
    pub teams: Vec<Team>,
    pub members: Vec<Member>,
    pub customers: Vec<Customer>,
    pub tags: Vec<Tag>,
    pub access_groups: Vec<AccessGroup>,
    pub keys: Vec<Key>,
    pub graces: Vec<Grace>,
    /// What is configured at run time, sealed.
    pub configured: Vec<Configured>,
    /// What was spent before.
    pub spent: Vec<(Entity, i64)>,
}

const CHUNK: usize = 500;

impl Store {
    /// Inserts what is new of all this, in one transaction, and says how much of each that was. What was spent before is
    /// added to nothing: an entity that has sums already keeps them.
    ///
    /// # Errors
    /// The database does not answer; nothing was inserted then.
    pub async fn bring(&self, all: &Brought, at: i64) -> Result<Vec<Copied>> {
        let mut tx = self.db.begin().await?;
        let mut done = Vec::new();
        macro_rules! insert {
            ($($field:ident: $Type:ty),*) => {
                $(
                    let mut rows = 0;
                    for part in all.$field.chunks(CHUNK) {
                        rows += records::insert_new(&mut tx, part).await?;
                    }
                    done.push(Copied { table: <$Type as Record>::TABLE, rows });
                )*
            };
        }
        insert!(
            budgets: Budget, organizations: Organization, users: User, teams: Team, members: Member,
            customers: Customer, tags: Tag, access_groups: AccessGroup, keys: Key, graces: Grace,
            configured: Configured
        );
        let totals: Vec<Total> =
            all.spent.iter().map(|(entity, nanos)| Total { offset_nanos: *nanos, ..Total::none(entity) }).collect();
        let mut rows = 0;
        for part in totals.chunks(CHUNK) {
            rows += records::insert_new(&mut tx, part).await?;
        }
        done.push(Copied { table: Total::TABLE, rows });
        // A gateway that runs may remember that there is no such key.
        let hashes: Vec<String> = all.keys.iter().map(|key| key.hash.clone()).collect();
        changes::note(&mut tx, "key", &hashes, at).await?;
        if !all.spent.is_empty() {
            // Nor may it go on counting from what it has read.
            changes::note(&mut tx, "spend", &[String::new()], at).await?;
        }
        let ids: Vec<String> = all.configured.iter().map(|one| one.id.clone()).collect();
        changes::note(&mut tx, CONFIGURED, &ids, at).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Inserts sums of days, but for those that there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn bring_days(&self, days: &[Daily]) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        let mut rows = 0;
        for part in days.chunks(CHUNK) {
            rows += records::insert_new(&mut tx, part).await?;
        }
        tx.commit().await?;
        Ok(rows)
    }

    /// Inserts calls of another ledger, but for those that there are; they count in no sum. Says how many were new.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn bring_calls(&self, calls: &[LedgerRow]) -> Result<u64> {
        let months = calls.iter().filter_map(|call| time_of_id(&call.id)).map(Month::of).collect();
        self.make_partitions(&months).await?;
        let tag = |call: &LedgerRow, tag: &String| Tagged { tag: tag.clone(), id: call.id.clone() };
        let mut tx = self.db.begin().await?;
        let mut rows = 0;
        for part in calls.chunks(CHUNK) {
            rows += records::insert_new(&mut tx, part).await?;
            let tags: Vec<Tagged> = part.iter().flat_map(|call| call.tags.iter().map(|name| tag(call, name))).collect();
            for part in tags.chunks(CHUNK) {
                records::insert_new(&mut tx, part).await?;
            }
        }
        tx.commit().await?;
        Ok(rows)
    }
}

//! What is known of one sum of money: read from the store once, and counted on in memory.

/// The sum of an entity, or of one of its windows.
#[derive(Debug, Default)]
pub struct Purse {
    /// What the store had when it was read; none before that.
    base: Option<i64>,
    /// What was spent since, or is not in the store yet.
    since: i64,
    /// The part of it that the ledger has not booked yet.
    unbooked: i64,
    /// What calls of this gateway have set aside.
    reserved: i64,
    /// What gateways that are gone have set aside, and not given back.
    foreign: i64,
    /// The soft budget that is reached, as it was said.
    told: Option<i64>,
}

impl Purse {
    pub fn is_read(&self) -> bool {
        self.base.is_some()
    }

    /// The store says what was spent. What it has not got yet is added.
    pub fn read(&mut self, spent: i64, foreign: i64) {
        self.base = Some(spent);
        self.since = self.unbooked;
        self.foreign = foreign.max(0);
        // What was set back by hand may be reached again.
        let spent = self.spent();
        self.told = self.told.filter(|told| spent >= *told);
    }

    /// Whether it is news that this soft budget is reached.
    pub fn crosses(&mut self, soft: Option<i64>) -> bool {
        let spent = self.spent();
        // One that was raised since is another one.
        let news = soft.filter(|soft| spent >= *soft && self.told.is_none_or(|told| told < *soft));
        self.told = news.or(self.told);
        news.is_some()
    }

    /// What the store says now may differ; what is under way stays.
    pub fn forget(&mut self) {
        self.base = None;
    }

    pub fn spent(&self) -> i64 {
        self.base.unwrap_or(0).saturating_add(self.since)
    }

    pub fn reserved(&self) -> i64 {
        self.reserved.saturating_add(self.foreign)
    }

    pub fn reserve(&mut self, nanos: i64) {
        self.reserved = self.reserved.saturating_add(nanos);
    }

    pub fn give_back(&mut self, nanos: i64) {
        self.reserved = self.reserved.saturating_sub(nanos);
    }

    /// A call has cost so much; true where the ledger is going to book it.
    pub fn spend(&mut self, nanos: i64, is_booked_later: bool) {
        self.since = self.since.saturating_add(nanos);
        if is_booked_later {
            self.unbooked = self.unbooked.saturating_add(nanos);
        }
    }

    /// A call that was counted here is in the store now.
    pub fn booked(&mut self, nanos: i64) {
        self.unbooked = self.unbooked.saturating_sub(nanos);
    }

    /// A call that was not counted here is in the store now.
    pub fn found(&mut self, nanos: i64) {
        if self.is_read() {
            self.since = self.since.saturating_add(nanos);
        }
    }

    /// Nothing is lost if it is forgotten as a whole.
    pub fn is_idle(&self) -> bool {
        self.reserved == 0 && self.unbooked == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soft_budget_is_told_once_and_again_where_it_was_raised_or_the_sum_set_back() {
        let mut purse = Purse::default();
        purse.read(9, 0);
        assert!(!purse.crosses(Some(10)) && !purse.crosses(None));
        purse.spend(3, false);
        assert!(purse.crosses(Some(10)) && !purse.crosses(Some(10)) && !purse.crosses(Some(5)));
        assert!(purse.crosses(Some(12)) && !purse.crosses(Some(12)));
        purse.read(12, 0);
        assert!(!purse.crosses(Some(12)));
        purse.read(0, 0);
        purse.spend(12, false);
        assert!(purse.crosses(Some(12)));
    }
}

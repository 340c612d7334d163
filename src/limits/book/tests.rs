use super::*;
use crate::store::Kind;

fn line(id: &str, requests: Option<u64>, tokens: Option<u64>, parallel: Option<u64>) -> Line {
    Line { subject: Arc::new(Subject::new(Who::Key, id)), requests, tokens, parallel, account: Hint::default() }
}

fn pot(id: &str, max: i64, strict: bool) -> Pot {
    let subject = Arc::new(Subject::new(Who::Key, id));
    let entity = Arc::new(Entity::of(Kind::Key, id));
    Pot { subject, entity, max_nanos: Some(max), soft_nanos: None, window: None, strict, purse: Hint::default() }
}

fn book_with(pots: &[Pot]) -> Book {
    let mut book = Book::default();
    for pot in pots {
        book.purse(&pot.entity).read(0, 0);
    }
    book
}

fn plan(lines: &[Line], pots: &[Pot]) -> Arc<Plan> {
    let mut plan = Plan::default();
    (plan.lines, plan.pots) = (lines.to_vec(), pots.to_vec());
    Arc::new(plan)
}

impl Book {
    /// What is left of each limit.
    fn left(&mut self, lines: &[Line], now: Slot) -> Vec<u64> {
        let left = |line: &Line| {
            let place = self.accounts.find(&line.subject, &line.account)?;
            let account = self.accounts.at_mut(place)?;
            let used = [account.requests.used(now), account.tokens.used(now), account.parallel];
            let limits = [line.requests, line.tokens, line.parallel];
            Some(limits.into_iter().zip(used).filter_map(|(limit, used)| Some(limit?.saturating_sub(used))).collect())
        };
        lines.iter().filter_map(left).flat_map(|all: Vec<u64>| all).collect()
    }
}

#[test]
fn none_is_charged_where_one_refuses() {
    let mut book = Book::default();
    let plan = plan(&[line("a", Some(10), None, None), line("b", Some(1), None, Some(9))], &[]);
    let mut first = book.admit(&plan, 0, |_| 0, 0).unwrap();
    assert_eq!(first.left().map(|left| left.left).collect::<Vec<_>>(), [9, 0, 8]);
    for _ in 0..5 {
        assert!(matches!(book.admit(&plan, 0, |_| 0, 1), Err(Refused::Rate { unit: Unit::Requests, limit: 1, .. })));
    }
    assert_eq!(book.left(&plan.lines, 1), [9, 0, 8]);
    book.release(&mut first, None, 2);
    assert_eq!(book.left(&plan.lines, 2), [10, 1, 9]);
}

#[test]
fn tokens_that_were_not_used_are_given_back_and_more_are_counted() {
    let new = || (Book::default(), plan(&[line("a", None, Some(100), None)], &[]));
    let (mut book, one) = new();
    let mut first = book.admit(&one, 60, |_| 0, 0).unwrap();
    assert!(book.admit(&one, 60, |_| 0, 0).is_err());
    book.count_on(&mut first, 90, 3);
    assert_eq!(book.left(&one.lines, 5), [10]);
    book.release(&mut first, Some(30), 4);
    assert_eq!(book.left(&one.lines, 5), [70]);
    // Once alone.
    book.release(&mut first, Some(0), 4);
    assert_eq!(book.left(&one.lines, 5), [70]);
    // A stream that was thought to give far more than it did.
    let (mut book, one) = new();
    let mut call = book.admit(&one, 10, |_| 0, 0).unwrap();
    book.count_on(&mut call, 40, 1);
    book.count_on(&mut call, 80, 2);
    book.release(&mut call, Some(17), 3);
    assert_eq!(book.left(&one.lines, 5), [83]);
    // A call larger than the limit passes where nothing else is counted.
    let (mut book, one) = new();
    assert!(book.admit(&one, 500, |_| 0, 0).is_ok());
    assert!(book.admit(&one, 1, |_| 0, 0).is_err());
}

#[test]
fn a_call_that_outlasts_its_account_charges_nobody_else() {
    let mut book = Book::default();
    let mine = plan(&[line("mine", Some(5), Some(100), None)], &[]);
    let mut call = book.admit(&mine, 10, |_| 0, 0).unwrap();
    // Its minute is long over, and so many others came that it is forgotten.
    let fill = |book: &mut Book, now: Slot| {
        for n in 0..=MANY {
            let other = plan(&[line(&n.to_string(), Some(5), Some(100), None)], &[]);
            book.admit(&other, 10, |_| 0, now).unwrap();
        }
    };
    fill(&mut book, 2000);
    assert!(!book.accounts.contains(&mine.lines[0].subject));
    book.count_on(&mut call, 60, 2001);
    book.release(&mut call, Some(90), 2001);
    for n in 0..=MANY {
        let other = line(&n.to_string(), Some(5), Some(100), None);
        assert_eq!(book.left(&[other], 2001), [4, 90], "{n}");
    }
    // And where its owner has come again, it is counted there.
    let mut call = book.admit(&mine, 10, |_| 0, 2001).unwrap();
    book.accounts.retain(|_| false);
    book.admit(&plan(&[line("mine", Some(5), Some(100), None)], &[]), 10, |_| 0, 2002).unwrap();
    book.release(&mut call, Some(30), 2002);
    assert_eq!(book.left(&mine.lines, 2002), [4, 70]);
}

#[test]
fn a_strict_budget_holds_and_a_compatible_one_is_used_up() {
    let pots = [pot("a", 10, true)];
    let mut book = book_with(&pots);
    let plan = self::plan(&[], &pots);
    let held: Vec<Held> = (0..3).filter_map(|_| book.admit(&plan, 0, |free| free.min(4), 0).ok()).collect();
    assert_eq!(held.iter().map(|h| h.nanos).collect::<Vec<_>>(), [4, 4, 2]);
    assert!(book.admit(&plan, 0, |free| free.min(4), 0).is_err());

    let pots = [pot("a", 10, false)];
    let mut book = book_with(&pots);
    let plan = self::plan(&[], &pots);
    assert_eq!((0..9).filter(|_| book.admit(&plan, 0, |_| 4, 0).is_ok()).count(), 3);
}

#[test]
fn a_limit_of_nothing_admits_nothing() {
    for (requests, tokens, parallel) in [(Some(0), None, None), (None, Some(0), None), (None, None, Some(0))] {
        let plan = plan(&[line("a", requests, tokens, parallel)], &[]);
        let mut book = Book::default();
        assert!(matches!(book.admit(&plan, 0, |_| 0, 0), Err(Refused::Rate { at: None, .. })));
    }
}

#[test]
fn of_two_limits_the_one_that_refuses_longer_is_told() {
    let mut book = Book::default();
    let plan = plan(&[line("a", Some(1), None, None), line("b", Some(1), None, None)], &[]);
    book.charge(&plan.lines[..1], 0, 0);
    book.charge(&plan.lines[1..], 0, 100);
    let Err(Refused::Rate { subject, at, .. }) = book.admit(&plan, 0, |_| 0, 200) else { panic!() };
    assert_eq!((subject.id.as_str(), at), ("b", Some(100 + 1202)));
}

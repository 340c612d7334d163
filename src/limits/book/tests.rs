use super::*;
use crate::limits::subject::Who;
use crate::store::Kind;

fn line(id: &str, requests: Option<u64>, tokens: Option<u64>, parallel: Option<u64>) -> Line {
    Line { subject: Arc::new(Subject::new(Who::Key, id)), requests, tokens, parallel }
}

fn pot(id: &str, max: i64, strict: bool) -> Pot {
    let subject = Arc::new(Subject::new(Who::Key, id));
    let entity = Arc::new(Entity::of(Kind::Key, id));
    Pot { subject, entity, max_nanos: Some(max), soft_nanos: None, window: None, strict }
}

fn book_with(pots: &[Pot]) -> Book {
    let mut book = Book::default();
    for pot in pots {
        book.purses.entry(pot.entity.clone()).or_default().read(0, 0);
    }
    book
}

#[test]
fn none_is_charged_where_one_refuses() {
    let mut book = Book::default();
    let plan = Plan { lines: vec![line("a", Some(10), None, None), line("b", Some(1), None, Some(9))], pots: vec![] };
    let first = book.admit(&plan, 0, |_| 0, 0).unwrap();
    for _ in 0..5 {
        assert!(matches!(book.admit(&plan, 0, |_| 0, 1), Err(Refused::Rate { unit: Unit::Requests, limit: 1, .. })));
    }
    let left: Vec<u64> = book.left(&plan.lines, 1).iter().map(|left| left.left).collect();
    assert_eq!(left, [9, 0, 8]);
    book.release(first.lines, None, 2);
    assert_eq!(book.left(&plan.lines, 2).iter().map(|left| left.left).collect::<Vec<_>>(), [10, 1, 9]);
}

#[test]
fn tokens_that_were_not_used_are_given_back_and_more_are_counted() {
    let mut book = Book::default();
    let plan = Plan { lines: vec![line("a", None, Some(100), None)], pots: vec![] };
    let left = |book: &mut Book| book.left(&plan.lines, 5)[0].left;
    let mut first = book.admit(&plan, 60, |_| 0, 0).unwrap();
    assert!(book.admit(&plan, 60, |_| 0, 0).is_err());
    book.count_on(&mut first.lines, 90, 3);
    assert_eq!(left(&mut book), 10);
    book.release(first.lines, Some(30), 4);
    assert_eq!(left(&mut book), 70);
    // A stream that was thought to give far more than it did.
    let mut book = Book::default();
    let mut call = book.admit(&plan, 10, |_| 0, 0).unwrap();
    book.count_on(&mut call.lines, 40, 1);
    book.count_on(&mut call.lines, 80, 2);
    book.release(call.lines, Some(17), 3);
    assert_eq!(left(&mut book), 83);
    // A call larger than the limit passes where nothing else is counted.
    let mut book = Book::default();
    assert!(book.admit(&plan, 500, |_| 0, 0).is_ok());
    assert!(book.admit(&plan, 1, |_| 0, 0).is_err());
}

#[test]
fn a_strict_budget_holds_and_a_compatible_one_is_used_up() {
    let pots = [pot("a", 10, true)];
    let mut book = book_with(&pots);
    let plan = Plan { lines: vec![], pots: pots.to_vec() };
    let held: Vec<Held> = (0..3).filter_map(|_| book.admit(&plan, 0, |free| free.min(4), 0).ok()).collect();
    assert_eq!(held.iter().map(|h| h.nanos).collect::<Vec<_>>(), [4, 4, 2]);
    assert!(book.admit(&plan, 0, |free| free.min(4), 0).is_err());

    let pots = [pot("a", 10, false)];
    let mut book = book_with(&pots);
    let plan = Plan { lines: vec![], pots: pots.to_vec() };
    assert_eq!((0..9).filter(|_| book.admit(&plan, 0, |_| 4, 0).is_ok()).count(), 3);
}

#[test]
fn a_limit_of_nothing_admits_nothing() {
    for (requests, tokens, parallel) in [(Some(0), None, None), (None, Some(0), None), (None, None, Some(0))] {
        let plan = Plan { lines: vec![line("a", requests, tokens, parallel)], pots: vec![] };
        let mut book = Book::default();
        assert!(matches!(book.admit(&plan, 0, |_| 0, 0), Err(Refused::Rate { at: None, .. })));
    }
}

#[test]
fn of_two_limits_the_one_that_refuses_longer_is_told() {
    let mut book = Book::default();
    let plan = Plan { lines: vec![line("a", Some(1), None, None), line("b", Some(1), None, None)], pots: vec![] };
    book.charge(&plan.lines[..1], 0, 0);
    book.charge(&plan.lines[1..], 0, 100);
    let Err(Refused::Rate { subject, at, .. }) = book.admit(&plan, 0, |_| 0, 200) else { panic!() };
    assert_eq!((subject.id.as_str(), at), ("b", Some(100 + 1202)));
}

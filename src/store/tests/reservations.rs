//! What is set aside for calls under way.

use super::*;

fn wanted(id: &str, nanos: i64, limit: i64, strict: bool) -> Reservation {
    Reservation { entity: Entity::of(Kind::Key, id), nanos, limit_nanos: Some(limit), strict }
}

async fn reserved(store: &Store, id: &str) -> i64 {
    store.totals(&[Entity::of(Kind::Key, id)]).await.unwrap()[0].reserved_nanos
}

async fn strict_wants_room_for_all_and_compatible_for_a_little(store: Store) {
    assert_eq!(store.reserve("a", "n", &[wanted("k", 60, 100, true)], NOW).await.unwrap(), Ok(()));
    let refusal = store.reserve("b", "n", &[wanted("k", 60, 100, true)], NOW).await.unwrap().unwrap_err();
    let told = (refusal.spent_nanos, refusal.reserved_nanos, refusal.limit_nanos);
    assert_eq!((refusal.entity.id.as_str(), told), ("k", (0, 60, 100)));
    assert_eq!(store.reserve("b", "n", &[wanted("k", 40, 100, true)], NOW).await.unwrap(), Ok(()));
    assert!(store.reserve("c", "n", &[wanted("k", 1, 100, false)], NOW).await.unwrap().is_err());
    assert_eq!(store.reserve("c", "n", &[wanted("k", 900, 101, false)], NOW).await.unwrap(), Ok(()));
    assert_eq!(reserved(&store, "k").await, 1000);
    // What a budget has never seen is checked as well.
    assert!(store.reserve("d", "n", &[wanted("new", 11, 10, true)], NOW).await.unwrap().is_err());
    assert!(store.reserve("d", "n", &[wanted("new", 1, 0, false)], NOW).await.unwrap().is_err());
    assert_eq!(reserved(&store, "new").await, 0);
}

async fn all_budgets_of_a_call_admit_it_or_none_is_charged(store: Store) {
    store.set_spent(Kind::Key, "b", 95).await.unwrap();
    let call = [wanted("a", 10, 100, true), wanted("b", 10, 100, true), wanted("c", 10, 100, true)];
    let refusal = store.reserve("x", "n", &call, NOW).await.unwrap().unwrap_err();
    assert_eq!((refusal.entity.id.as_str(), refusal.spent_nanos), ("b", 95));
    assert_eq!((reserved(&store, "a").await, reserved(&store, "c").await), (0, 0));
    assert_eq!(store.reserved_by_node().await.unwrap(), []);
}

async fn booking_replaces_a_reservation_by_the_cost(store: Store) {
    let mut one = call(NOW, 1);
    one.reserved = true;
    store.reserve(&one.row.id, "n", &[wanted("k", 500, 1000, true)], NOW).await.unwrap().unwrap();
    store.book(&[one.clone()]).await.unwrap();
    assert_eq!((reserved(&store, "k").await, spent(&store, Entity::of(Kind::Key, "k")).await), (0, 100));
    store.book(&[one]).await.unwrap();
    assert_eq!((reserved(&store, "k").await, spent(&store, Entity::of(Kind::Key, "k")).await), (0, 100));
}

async fn a_call_sets_more_aside_and_its_attempt_gives_back_alone(store: Store) {
    let mut one = call(NOW, 1);
    one.reserved = true;
    let (id, visit) = (one.row.id.clone(), visit_id(&one.row.id));
    store.reserve(&id, "n", &[wanted("k", 500, 1000, true)], NOW).await.unwrap().unwrap();
    store.reserve(&id, "n", &[wanted("k", 300, 1000, true)], NOW).await.unwrap().unwrap();
    assert!(store.reserve(&id, "n", &[wanted("k", 300, 1000, true)], NOW).await.unwrap().is_err());
    for _ in 0..2 {
        store.reserve(&visit, "n", &[wanted("d", 700, 1000, true)], NOW).await.unwrap().unwrap();
        assert_eq!((reserved(&store, "k").await, reserved(&store, "d").await), (800, 700));
        store.unreserve(std::slice::from_ref(&visit)).await.unwrap();
        assert_eq!((reserved(&store, "k").await, reserved(&store, "d").await), (800, 0));
    }
    store.reserve(&visit, "n", &[wanted("d", 700, 1000, true)], NOW).await.unwrap().unwrap();
    store.book(&[one]).await.unwrap();
    assert_eq!((reserved(&store, "k").await, reserved(&store, "d").await), (0, 0));
}

async fn what_was_not_used_is_given_back(store: Store) {
    store.reserve("a", "n", &[wanted("k", 5, 1000, true)], NOW).await.unwrap().unwrap();
    store.reserve("b", "n", &[wanted("k", 7, 1000, true)], NOW).await.unwrap().unwrap();
    store.unreserve(&texts(&["a", "unknown"])).await.unwrap();
    assert_eq!(reserved(&store, "k").await, 7);
    store.unreserve(&texts(&["a"])).await.unwrap();
    assert_eq!(reserved(&store, "k").await, 7);
}

async fn a_dead_gateway_gives_back_what_it_had_set_aside(store: Store) {
    store.reserve("a", "dead", &[wanted("k", 5, 1000, true), wanted("l", 3, 1000, true)], NOW).await.unwrap().unwrap();
    store.reserve("b", "dead", &[wanted("k", 6, 1000, true)], NOW).await.unwrap().unwrap();
    store.reserve("c", "live", &[wanted("k", 7, 1000, true)], NOW).await.unwrap().unwrap();
    assert_eq!(store.reserved_by_node().await.unwrap(), [("dead".to_owned(), 3), ("live".to_owned(), 1)]);
    assert_eq!(store.release("dead", NOW).await.unwrap(), 3);
    assert_eq!((reserved(&store, "k").await, reserved(&store, "l").await), (7, 0));
    assert_eq!(store.release("dead", NOW).await.unwrap(), 0);
}

on_both!(
    strict_wants_room_for_all_and_compatible_for_a_little,
    all_budgets_of_a_call_admit_it_or_none_is_charged,
    booking_replaces_a_reservation_by_the_cost,
    a_call_sets_more_aside_and_its_attempt_gives_back_alone,
    what_was_not_used_is_given_back,
    a_dead_gateway_gives_back_what_it_had_set_aside,
);

//! Several at once.

use super::ledger::assert_sums_are_those_of_the_rows;
use super::*;
use std::sync::Arc;

/// A batch whose rows go over the same few keys, users and tags as those of all others, in another order.
fn batch(number: u32) -> Vec<Settled> {
    (0..50)
        .map(|n| {
            let spread = (n * 7 + number * 13) % 11;
            let mut one = call(NOW + i64::from(n), number * 1000 + n);
            one.row.key_id = Some(format!("k{spread}"));
            one.row.user_id = Some(format!("u{}", (spread * 5 + number) % 7));
            one.row.team_id = Some(format!("t{}", spread % 3));
            one.row.tags = vec![format!("x{}", n % 4), format!("x{}", number % 4)];
            one.row.cost_nanos = i64::from(n + number);
            one.windows = vec![Entity::of(Kind::Key, &format!("k{spread}")).within("1d", NOW)];
            one.reserved = n % 2 == 0;
            one
        })
        .collect()
}

async fn batches_that_overlap_are_booked_exactly(store: Store) {
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let batch = batch(number);
                for one in batch.iter().filter(|s| s.reserved) {
                    let key = Entity::of(Kind::Key, one.row.key_id.as_deref().unwrap());
                    let user = Entity::of(Kind::User, one.row.user_id.as_deref().unwrap());
                    let held = |entity| Reservation { entity, nanos: 50, limit_nanos: None, strict: true };
                    store.reserve(&one.row.id, "n", &[held(user), held(key)], NOW).await.unwrap().unwrap();
                }
                // Handed over again, in part, as after a crash.
                store.book(&batch).await.unwrap();
                store.book(&batch[10..]).await.unwrap().inserted
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 0);
    }
    assert_eq!(store.count_logs(&LogFilter::default(), 10_000).await.unwrap(), 16 * 50);
    assert_sums_are_those_of_the_rows(&store).await;
    for total in store.top_totals(Kind::Key, 0, 100).await.unwrap() {
        assert_eq!(total.reserved_nanos, 0);
        let window = total.entity().within("1d", NOW);
        assert_eq!(spent(&store, window).await, total.spent());
    }
    assert_eq!(store.reserved_by_node().await.unwrap(), []);
}

async fn the_same_batch_from_two_sides_is_booked_once(store: Store) {
    let store = Arc::new(store);
    let both: Vec<_> = (0..8)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut batch = batch(1);
                if n % 2 == 0 {
                    batch.reverse();
                }
                store.book(&batch).await.unwrap().inserted
            })
        })
        .collect();
    let mut inserted = 0;
    for task in both {
        inserted += task.await.unwrap();
    }
    assert_eq!(inserted, 50);
    assert_sums_are_those_of_the_rows(&store).await;
}

async fn a_strict_budget_is_never_exceeded_by_those_who_ask_at_once(store: Store) {
    let store = Arc::new(store);
    let key = Entity::of(Kind::Key, "k").within("30d", NOW);
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                let wanted = [
                    Reservation { entity: Entity::of(Kind::Gateway, ""), nanos: 10, limit_nanos: None, strict: true },
                    Reservation { entity: key, nanos: 10, limit_nanos: Some(100), strict: true },
                ];
                store.reserve(&format!("c{n}"), "n", &wanted, NOW).await.unwrap().is_ok()
            })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += u32::from(task.await.unwrap());
    }
    assert_eq!(admitted, 10);
    let totals = store.totals(&[key, Entity::of(Kind::Gateway, "")]).await.unwrap();
    assert_eq!(totals.iter().map(|t| t.reserved_nanos).collect::<Vec<_>>(), [100, 100]);
}

async fn deleting_and_booking_do_not_wait_for_each_other_forever(store: Store) {
    let store = Arc::new(store);
    for n in 0..11 {
        let (id, user) = (format!("k{n}"), format!("u{}", n % 7));
        let key = Key { id: id.clone(), hash: id, user_id: Some(user), created_at: NOW, ..Key::default() };
        store.create_key(&key).await.unwrap();
    }
    for n in 0..7 {
        store.create(&User { id: format!("u{n}"), created_at: NOW, ..User::default() }).await.unwrap();
    }
    let booking: Vec<_> = (0..8)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.book(&batch(n)).await.map(drop) })
        })
        .collect();
    let users: Vec<String> = (0..7).rev().map(|n| format!("u{n}")).collect();
    store.delete::<User>(&users, None, NOW).await.unwrap();
    for task in booking {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.count_keys(&KeyFilter::default()).await.unwrap(), 0);
    assert_sums_are_those_of_the_rows(&store).await;
}

on_both!(
    batches_that_overlap_are_booked_exactly,
    the_same_batch_from_two_sides_is_booked_once,
    a_strict_budget_is_never_exceeded_by_those_who_ask_at_once,
    deleting_and_booking_do_not_wait_for_each_other_forever,
);

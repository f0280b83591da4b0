//! Rules that appear while lookups run: within their lifetime nobody is let around them, and an
//! older answer never stands in for a newer one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flightpath_catalog::{AccessRules, Catalog};

use super::fake::{Fake, ann, bob, eventually, latest, reason, sales};

#[tokio::test]
async fn an_older_answer_never_wins() {
    let fake = Fake::new();
    fake.grant("bob");
    let catalog = fake.catalog();
    // Ann's answer is made before the filter is there, and comes after bob's.
    fake.hold_back("ann");
    let slow = tokio::spawn({
        let catalog = catalog.clone();
        async move { latest(&catalog, &ann()).await }
    });
    eventually("ann's answer is on its way", || fake.waiting.load(Ordering::SeqCst) == 1).await;
    fake.add_filter();
    assert!(reason(&latest(&catalog, &bob()).await.unwrap()).contains("row filter"));
    fake.let_go("ann");
    assert!(reason(&slow.await.unwrap().unwrap()).contains("row filter"));
    assert!(reason(&catalog.cached_snapshot(&ann(), &sales()).unwrap()).contains("row filter"));
}

#[tokio::test]
async fn what_one_principal_learns_voids_what_others_were_told() {
    let fake = Fake::new();
    fake.grant("bob");
    let catalog = fake.catalog();
    assert_eq!(latest(&catalog, &ann()).await.unwrap().access, AccessRules::Free);
    fake.add_filter();
    latest(&catalog, &bob()).await.unwrap();
    assert!(catalog.cached_snapshot(&ann(), &sales()).is_none());
    assert!(reason(&latest(&catalog, &ann()).await.unwrap()).contains("row filter"));
    // And back: each is let out by an answer of their own.
    fake.set("main.shop.sales", "row_filter", serde_json::Value::Null);
    catalog.refresh(&bob(), &sales()).await.unwrap();
    assert_eq!(latest(&catalog, &ann()).await.unwrap().access, AccessRules::Free);
    assert_eq!(latest(&catalog, &bob()).await.unwrap().access, AccessRules::Free);
}

#[tokio::test]
async fn one_question_serves_all_who_wait() {
    let fake = Fake::new();
    let catalog = fake.catalog();
    fake.hold_back("ann");
    let lookups: Vec<_> = (0..50)
        .map(|_| {
            let catalog = catalog.clone();
            tokio::spawn(async move { latest(&catalog, &ann()).await })
        })
        .collect();
    eventually("a question is asked", || fake.waiting.load(Ordering::SeqCst) == 1).await;
    fake.let_go("ann");
    for lookup in lookups {
        assert_eq!(lookup.await.unwrap().unwrap().access, AccessRules::Free);
    }
    assert_eq!(fake.table_calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refresh_asks_again_although_a_question_is_on_its_way() {
    let fake = Fake::new();
    let catalog = fake.catalog();
    fake.hold_back("ann");
    let slow = tokio::spawn({
        let catalog = catalog.clone();
        async move { latest(&catalog, &ann()).await }
    });
    eventually("ann's answer is on its way", || fake.waiting.load(Ordering::SeqCst) == 1).await;
    fake.add_filter();
    let refresh = tokio::spawn({
        let catalog = catalog.clone();
        async move { catalog.refresh(&ann(), &sales()).await }
    });
    tokio::task::yield_now().await;
    fake.let_go("ann");
    refresh.await.unwrap().unwrap();
    assert!(reason(&catalog.cached_snapshot(&ann(), &sales()).unwrap()).contains("row filter"));
    slow.await.unwrap().unwrap();
}

/// Lookups of several principals without a pause; a filter appears; once its lifetime is over, or
/// anybody has seen it, nobody gets the table as free any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_plans_around_a_new_rule_within_its_lifetime() {
    for round in 0..20 {
        let fake = Fake::new();
        fake.grant("bob");
        let catalog = fake.catalog();
        let (seen, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let lookers: Vec<_> = [ann(), bob(), ann(), bob()]
            .into_iter()
            .map(|who| {
                let (catalog, seen, stop) = (catalog.clone(), seen.clone(), stop.clone());
                tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        let seen_before = seen.load(Ordering::SeqCst);
                        let cached = catalog.cached_snapshot(&who, &sales());
                        let snapshot = match cached {
                            Some(snapshot) => snapshot,
                            None => latest(&catalog, &who).await.unwrap(),
                        };
                        match &snapshot.access {
                            AccessRules::Free => assert!(!seen_before, "free after somebody saw the rule"),
                            AccessRules::Governed(_) => seen.store(true, Ordering::SeqCst),
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        eventually("all have looked", || fake.table_calls.load(Ordering::SeqCst) >= 2).await;
        fake.add_filter();
        if round % 2 == 0 {
            fake.advance(Duration::from_secs(300));
        } else {
            catalog.refresh(&ann(), &sales()).await.unwrap();
        }
        for who in [ann(), bob()] {
            assert!(reason(&latest(&catalog, &who).await.unwrap()).contains("row filter"));
        }
        stop.store(true, Ordering::SeqCst);
        for looker in lookers {
            looker.await.unwrap();
        }
    }
}

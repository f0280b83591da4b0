use futures::FutureExt;

use super::*;

const ONE: Capacity = Capacity { slots: 1, memory_bytes: 100, narrow_slots: None };

fn admission(queue_max: usize, wait_ms: u64) -> (Arc<Admission>, EngineId) {
    let id = EngineId::new("e");
    let config = AdmissionConfig { queue_max, wait_max: Duration::from_millis(wait_ms) };
    (Arc::new(Admission::new([id.clone()], config)), id)
}

/// A query of `who` that waits in the background; its permit comes through the handle.
async fn wait_as(admission: &Arc<Admission>, id: &EngineId, who: &str, memory_bytes: u64) -> tokio::task::JoinHandle<Result<Permit>> {
    let before = admission.waiting(id);
    let task = tokio::spawn({
        let (admission, id, who) = (admission.clone(), id.clone(), Principal::new(who));
        async move { admission.admit(&id, None, || ONE, Demand { principal: &who, memory_bytes }, None).await }
    });
    while admission.waiting(id) == before && !task.is_finished() {
        tokio::task::yield_now().await;
    }
    task
}

async fn admit(admission: &Admission, id: &EngineId, capacity: Capacity, who: &str, memory_bytes: u64) -> Result<Permit> {
    admission.admit(id, None, || capacity, Demand { principal: &Principal::new(who), memory_bytes }, None).await
}

#[tokio::test]
async fn the_queue_is_bounded_and_a_freed_slot_is_given_on() {
    let (admission, id) = admission(1, 60_000);
    let first = admit(&admission, &id, ONE, "a", 0).await.unwrap();
    let waiter = wait_as(&admission, &id, "a", 0).await;
    let refused = admit(&admission, &id, ONE, "a", 0).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
    drop(first);
    let second = waiter.await.unwrap().unwrap();
    assert_eq!(admission.waiting(&id), 0);
    drop(second);
    assert_eq!(admission.gates[&id].state.lock().slots_used, 0);
}

#[tokio::test]
async fn waiting_ends_with_the_deadline_or_the_limit_and_leaves_nothing_behind() {
    let (admission, id) = admission(4, 5);
    let held = admit(&admission, &id, ONE, "a", 0).await.unwrap();
    assert_eq!(admit(&admission, &id, ONE, "a", 0).await.err().unwrap().kind(), ErrorKind::ResourceExhausted);
    let principal = Principal::new("a");
    let demand = Demand { principal: &principal, memory_bytes: 0 };
    let late = admission.admit(&id, None, || ONE, demand, Some(Instant::now())).await;
    assert_eq!(late.err().unwrap().kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(admission.waiting(&id), 0);
    drop(held);
    admit(&admission, &id, ONE, "a", 0).await.unwrap();
}

#[tokio::test]
async fn a_flood_delays_itself_not_the_others() {
    let (admission, id) = admission(16, 60_000);
    let running = admit(&admission, &id, ONE, "flood", 0).await.unwrap();
    let flood = [wait_as(&admission, &id, "flood", 0).await, wait_as(&admission, &id, "flood", 0).await];
    let other = wait_as(&admission, &id, "other", 0).await;
    drop(running);
    let permit = other.await.unwrap().unwrap();
    assert!(flood.iter().all(|task| !task.is_finished()));
    drop(permit);
    for task in flood {
        drop(task.await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_full_queue_of_one_principal_makes_room_for_another() {
    let (admission, id) = admission(3, 60_000);
    let held = admit(&admission, &id, ONE, "flood", 0).await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..3 {
        flood.push(wait_as(&admission, &id, "flood", 0).await);
    }
    let other = tokio::spawn({
        let (admission, id) = (admission.clone(), id.clone());
        async move { admit(&admission, &id, ONE, "other", 0).await }
    });
    let evicted = flood.pop().unwrap().await.unwrap().err().unwrap();
    assert_eq!(evicted.kind(), ErrorKind::ResourceExhausted);
    drop(held);
    drop(other.await.unwrap().unwrap());
    for task in flood {
        drop(task.await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn room_that_appears_is_given_to_who_waits() {
    let (admission, id) = admission(4, 60_000);
    let _held = admit(&admission, &id, ONE, "a", 0).await.unwrap();
    let waiter = wait_as(&admission, &id, "b", 0).await;
    admission.resize(&id, ONE);
    assert_eq!(admission.waiting(&id), 1);
    admission.resize(&id, Capacity { slots: 2, ..ONE });
    drop(waiter.await.unwrap().unwrap());
}

#[tokio::test]
async fn memory_is_given_out_too_and_a_query_larger_than_the_engine_runs_alone() {
    let (admission, id) = admission(4, 60_000);
    let many = Capacity { slots: 8, ..ONE };
    let large = admit(&admission, &id, many, "a", 1_000).await.unwrap();
    let small = tokio::spawn({
        let (admission, id) = (admission.clone(), id.clone());
        async move { admit(&admission, &id, many, "b", 1).await }
    });
    while admission.waiting(&id) == 0 {
        tokio::task::yield_now().await;
    }
    drop(large);
    let small = small.await.unwrap().unwrap();
    let beside = admit(&admission, &id, many, "a", 99).await.unwrap();
    drop((small, beside));
    assert_eq!(admission.gates[&id].state.lock().memory_used, 0);
    assert!(admission.gates[&id].state.lock().principals.is_empty());
}

#[tokio::test]
async fn what_is_spare_is_given_back_when_a_query_wants_it() {
    let (admission, id) = admission(4, 60_000);
    let spare = admission.spare(&id, ONE, 10).await.unwrap();
    assert!(admission.spare(&id, ONE, 10).now_or_never().is_none(), "there's no other");
    assert!(spare.wanted().now_or_never().is_none(), "nobody waits yet");
    let waiter = wait_as(&admission, &id, "a", 0).await;
    spare.wanted().await;
    drop(spare);
    let permit = waiter.await.unwrap().unwrap();
    // Who waits for something spare gets it when nobody else does, and not before.
    let background = tokio::spawn({
        let (admission, id) = (admission.clone(), id.clone());
        async move { admission.spare(&id, ONE, 10).await }
    });
    let next = wait_as(&admission, &id, "b", 0).await;
    drop(permit);
    let permit = next.await.unwrap().unwrap();
    assert!(!background.is_finished());
    drop(permit);
    let spare = background.await.unwrap().unwrap();
    drop(spare);
    let state = admission.gates[&id].state.lock();
    assert_eq!((state.slots_used, state.memory_used, state.spares.len()), (0, 0, 0));
}

#[tokio::test]
async fn memory_that_is_spare_is_given_back_too() {
    let (admission, id) = admission(4, 60_000);
    let many = Capacity { slots: 8, ..ONE };
    let spare = admission.spare(&id, many, 60).await.unwrap();
    let beside = admit(&admission, &id, many, "a", 40).await.unwrap();
    assert!(spare.wanted().now_or_never().is_none(), "there was room for both");
    let waiter = tokio::spawn({
        let (admission, id) = (admission.clone(), id.clone());
        async move { admit(&admission, &id, many, "a", 1).await }
    });
    spare.wanted().await;
    drop(spare);
    drop((waiter.await.unwrap().unwrap(), beside));
}

#[tokio::test]
async fn a_waiter_that_gives_up_at_its_turn_passes_it_on() {
    let (admission, id) = admission(4, 60_000);
    let held = admit(&admission, &id, ONE, "a", 0).await.unwrap();
    let gone = wait_as(&admission, &id, "b", 0).await;
    let next = wait_as(&admission, &id, "c", 0).await;
    gone.abort();
    drop(held);
    next.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_kind_with_fewer_places_waits_in_front_and_takes_none_of_the_others() {
    let (admission, id) = admission(4, 5);
    let two = Capacity { slots: 2, ..ONE };
    let who = Principal::new("a");
    let demand = Demand { principal: &who, memory_bytes: 0 };
    let narrow = admission.admit(&id, Some(1), || two, demand, None).await.unwrap();
    // The second of its kind waits, and takes no place while it does.
    let second = admission.admit(&id, Some(1), || two, demand, None);
    assert_eq!(second.await.err().unwrap().kind(), ErrorKind::ResourceExhausted);
    let other = admit(&admission, &id, two, "b", 0).await.unwrap();
    drop(narrow);
    let second = admission.admit(&id, Some(1), || two, demand, None).await.unwrap();
    drop((second, other));
    assert_eq!(admission.gates[&id].state.lock().slots_used + admission.narrow[&id].state.lock().slots_used, 0);
}

#[tokio::test]
async fn what_the_engine_has_is_looked_at_after_the_wait_in_front() {
    let (admission, id) = admission(4, 60_000);
    let who = Principal::new("a");
    let demand = Demand { principal: &who, memory_bytes: 0 };
    let first = admission.admit(&id, Some(1), || Capacity { slots: 8, ..ONE }, demand, None).await.unwrap();
    // The fleet shrinks while this one waits.
    let slots = std::cell::Cell::new(8);
    let waiting = admission.admit(&id, Some(1), || Capacity { slots: slots.get(), ..ONE }, demand, None);
    tokio::pin!(waiting);
    assert!(futures::poll!(&mut waiting).is_pending());
    slots.set(1);
    let beside = admission.admit(&id, None, || ONE, demand, None);
    tokio::pin!(beside);
    assert!(futures::poll!(&mut beside).is_pending());
    drop(first);
    let beside = beside.await.unwrap();
    assert!(futures::poll!(&mut waiting).is_pending(), "one slot is left, and it is taken");
    drop(beside);
    waiting.await.unwrap();
}

#[tokio::test]
async fn places_of_the_few_that_appear_are_given_to_who_waits_for_them() {
    let (admission, id) = admission(4, 60_000);
    let many = Capacity { slots: 8, ..ONE };
    let who = Principal::new("a");
    let demand = Demand { principal: &who, memory_bytes: 0 };
    let first = admission.admit(&id, Some(1), || many, demand, None).await.unwrap();
    let waiter = tokio::spawn({
        let (admission, id, who) = (admission.clone(), id.clone(), who.clone());
        async move { admission.admit(&id, Some(1), || many, Demand { principal: &who, memory_bytes: 0 }, None).await }
    });
    while admission.waiting(&id) == 0 {
        tokio::task::yield_now().await;
    }
    // Nobody knows how many there are while no part of the engine tells.
    for narrow_slots in [None, Some(1)] {
        admission.resize(&id, Capacity { narrow_slots, ..many });
        assert_eq!(admission.waiting(&id), 1);
    }
    admission.resize(&id, Capacity { narrow_slots: Some(2), ..many });
    drop((waiter.await.unwrap().unwrap(), first));
    assert_eq!(admission.narrow[&id].state.lock().slots_used, 0);
}

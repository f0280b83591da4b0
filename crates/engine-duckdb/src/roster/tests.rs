use flightpath_proto::v1::WorkerError;
use futures::{StreamExt, stream};
use prost::Message;
use tonic::{Code, Status};

use super::*;
use crate::client::{Client, is_out_of_sight};
use crate::guarded::{Doubted, watched};
use crate::ticket::Signer;
use crate::trace::Call;

const LEASE: Duration = Duration::from_secs(3);

fn status(slots: u32) -> WorkerStatus {
    WorkerStatus { slots, threads: 4, memory_bytes_max: 1 << 30, user_slots: 1, files_max: 100, ..WorkerStatus::default() }
}

fn candidate(name: &str, slots: u32) -> Candidate {
    let signer = Signer::new(&[7; 32]).unwrap();
    let client = Arc::new(Client::new("tcp:127.0.0.1:1", None, signer, LEASE).unwrap());
    Candidate { name: name.into(), labels: BTreeMap::new(), client, status: status(slots), shared: true }
}

fn need(table: &str) -> Need<'_> {
    Need { query_id: None, table, files: 1, user: false, not_on: None }
}

fn join(roster: &Arc<Roster>, names: &[&str], now: Instant) -> Vec<Seat> {
    names.iter().map(|name| roster.join(candidate(name, 8), now).unwrap()).collect()
}

fn unavailable() -> Error {
    Error::unavailable("gone")
}

fn state_of(roster: &Roster, name: &str, now: Instant) -> &'static str {
    roster.facts(now).iter().find(|w| w.name == name).unwrap().state
}

/// What a worker tells of a failure, as the client understands it.
fn told(attempt: &Attempt, kind: &str, class: &str) -> Error {
    let error = WorkerError { kind: kind.into(), class: class.into(), message: "so it is".into(), ..WorkerError::default() };
    attempt.spoke().error_of(&Status::with_details(Code::Unknown, "x", error.encode_to_vec().into()))
}

#[test]
fn a_worker_that_is_silent_for_longer_than_its_lease_gets_no_work_until_it_speaks() {
    let (roster, start) = (Roster::new(LEASE, 8), Instant::now());
    let seats = join(&roster, &["a", "b"], start);
    let later = start + Duration::from_secs(2);
    seats[1].report(&status(8), later);
    roster.expire(start + LEASE);
    assert!(!seats[0].member.is_lost(), "the lease has not passed yet");
    let now = start + LEASE + Duration::from_millis(1);
    roster.expire(now);
    assert!(seats[0].member.is_lost() && !seats[1].member.is_lost());
    for n in 0..50 {
        assert_eq!(roster.begin(&need(&format!("t{n}")), now).unwrap().member().name, "b");
    }
    roster.expire(now + LEASE);
    let error = roster.begin(&need("t"), now + LEASE).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(matches!(roster.state(now + LEASE), EngineState::Down(why) if why.contains("`a` is silent")));
    assert_eq!(roster.totals(now + LEASE), None);
    seats[0].report(&status(8), now + LEASE);
    assert_eq!(roster.state(now + LEASE), EngineState::Ready);
    assert_eq!(roster.begin(&need("t"), now + LEASE).unwrap().member().name, "a");
}

#[test]
fn names_are_unique_among_the_living_and_the_fleet_is_bounded() {
    let (roster, start) = (Roster::new(LEASE, 2), Instant::now());
    let first = roster.join(candidate("a", 8), start).unwrap();
    let error = roster.join(candidate("a", 8), start).err().unwrap();
    assert!(error.message().contains("worker.name"), "{error}");
    let _other = roster.join(candidate("b", 8), start).unwrap();
    assert_eq!(roster.join(candidate("c", 8), start).err().unwrap().kind(), ErrorKind::ResourceExhausted);
    // One that fell silent is replaced by its successor, and its late end doesn't take that along.
    let now = start + LEASE * 2;
    roster.expire(now);
    let second = roster.join(candidate("a", 8), now).unwrap();
    assert_ne!(first.member.epoch, second.member.epoch);
    drop(first);
    assert_eq!(roster.members().len(), 2);
    assert_eq!(roster.begin(&need("t"), now).unwrap().member().epoch, second.member.epoch);
    drop(second);
    assert_eq!(roster.members().len(), 1);
}

#[test]
fn draining_and_unfit_workers_are_passed_over() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let seats = join(&roster, &["a", "b"], now);
    seats[0].report(&WorkerStatus { draining: true, ..status(8) }, now);
    assert!((0..20).all(|n| roster.begin(&need(&format!("t{n}")), now).unwrap().member().name == "b"));
    assert_eq!(roster.totals(now).unwrap().slots, 8);
    seats[1].report(&WorkerStatus { user_slots: 0, ..status(8) }, now);
    let error = roster.begin(&Need { user: true, ..need("t") }, now).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let error = roster.begin(&Need { files: 101, ..need("t") }, now).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
}

#[test]
fn workers_are_paid_for_unless_they_are_silent_and_others_queries_are_told_apart() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    assert_eq!((roster.present(), roster.others_running()), (0, 0));
    let seats = join(&roster, &["a", "b", "c"], now);
    seats[0].report(&WorkerStatus { draining: true, ..status(8) }, now);
    let _own = (0..2).map(|n| roster.begin(&need(&format!("t{n}")), now).unwrap()).collect::<Vec<_>>();
    for seat in &seats[1..] {
        let running = 3 + seat.member.in_flight();
        seat.report(&WorkerStatus { running, ..status(8) }, now);
    }
    assert_eq!((roster.present(), roster.others_running(), roster.in_flight()), (3, 6, 2));
    let later = now + LEASE * 2;
    seats[0].report(&status(8), later);
    roster.expire(later);
    assert_eq!((roster.present(), roster.others_running()), (1, 0));
}

#[test]
fn a_query_that_failed_is_tried_elsewhere_and_a_failing_worker_rests() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let _seats = join(&roster, &["a", "b"], now);
    let first_choice = roster.begin(&need("t"), now).unwrap().member().name.clone();
    for _ in 0..3 {
        let query = Need { query_id: Some(QueryId::generate()), ..need("t") };
        let mut attempt = roster.begin(&query, now).unwrap();
        assert_eq!(attempt.member().name, first_choice);
        attempt.failed(&unavailable(), now);
        drop(attempt);
        assert_ne!(roster.begin(&query, now).unwrap().member().name, first_choice);
    }
    // Three in a row: others go elsewhere too, but for one that tries it after a while.
    assert_ne!(roster.begin(&need("t"), now).unwrap().member().name, first_choice);
    assert_eq!(roster.facts(now).iter().filter(|w| w.state == "failing").count(), 1);
    let later = now + Duration::from_secs(1);
    let mut probe = roster.begin(&need("t"), later).unwrap();
    assert_eq!(probe.member().name, first_choice);
    assert_ne!(roster.begin(&need("t"), later).unwrap().member().name, first_choice);
    probe.succeeded();
    drop(probe);
    assert_eq!(roster.begin(&need("t"), later).unwrap().member().name, first_choice);
}

#[test]
fn the_querys_own_errors_say_nothing_against_the_worker() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let _seats = join(&roster, &["a"], now);
    for kind in [ErrorKind::Raised, ErrorKind::Internal, ErrorKind::ResourceExhausted, ErrorKind::Cancelled, ErrorKind::DataLoss] {
        for _ in 0..10 {
            roster.begin(&need("t"), now).unwrap().failed(&Error::new(kind, "x"), now);
        }
        assert_eq!(roster.state(now), EngineState::Ready, "{kind:?}");
    }
    assert_eq!(roster.in_flight(), 0);
}

#[test]
fn a_worker_that_says_what_is_wrong_stays_in_service_and_the_query_goes_elsewhere() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let _seats = join(&roster, &["a", "b"], now);
    let told = WorkerError { kind: "unavailable".into(), message: "it shuts down".into(), ..WorkerError::default() };
    let status = Status::with_details(Code::Unavailable, "x", told.encode_to_vec().into());
    for _ in 0..10 {
        let query = Need { query_id: Some(QueryId::generate()), ..need("t") };
        let mut attempt = roster.begin(&query, now).unwrap();
        let first = attempt.member().name.clone();
        let error = attempt.spoke().error_of(&status);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "it shuts down"));
        attempt.failed(&error, now);
        drop(attempt);
        assert_ne!(roster.begin(&query, now).unwrap().member().name, first);
        assert!(roster.facts(now).iter().all(|w| w.state == "ready"));
    }
    let attempt = roster.begin(&need("t"), now).unwrap();
    let error = attempt.spoke().error_of(&Status::new(Code::Unknown, "broken pipe"));
    assert_eq!((error.kind(), attempt.spoke().heard()), (ErrorKind::Unavailable, false));
}

#[tokio::test]
async fn a_worker_that_cannot_read_what_another_reads_to_the_end_rests() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let _seats = join(&roster, &["a", "b"], now);
    let fails = || {
        let mut first = roster.begin(&need("t"), now).unwrap();
        let error = told(&first, "internal", "FAILED_READ_FILE.NO_HINT");
        assert!(is_out_of_sight(&error));
        first.failed(&error, now);
        (first.member().name.clone(), Doubted::new(first, error))
    };
    let read = async |doubted: Doubted, end: Option<Error>| {
        assert_eq!(roster.in_flight(), 0, "it has answered");
        let second = roster.begin(&Need { not_on: Some(doubted.epoch()), ..need("t") }, now).unwrap();
        let rest = stream::iter(end.map(Err)).boxed();
        watched(rest, second, Call::begin("x", None), Some(doubted)).count().await
    };
    let (first, _) = fails();
    // A file that nobody can read, or that has gone meanwhile, leaves both where they are.
    for _ in 0..4 {
        let (name, doubted) = fails();
        assert_eq!(name, first);
        assert_eq!(read(doubted, Some(Error::new(ErrorKind::DataLoss, "gone"))).await, 1);
        assert!(fails().0 == first && roster.facts(now).iter().all(|w| w.state == "ready"));
    }
    for _ in 0..3 {
        assert_eq!(read(fails().1, None).await, 0);
    }
    assert_eq!(state_of(&roster, &first, now), "failing");
    assert_ne!(fails().0, first);
}

#[test]
fn files_that_are_gone_say_neither_good_nor_ill_of_a_worker() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let _seats = join(&roster, &["a"], now);
    let asked = || roster.begin(&need("t"), now).unwrap();
    for _ in 0..10 {
        let mut attempt = asked();
        let error = told(&attempt, "data_loss", "FAILED_READ_FILE.FILE_NOT_EXIST");
        assert!(is_out_of_sight(&error));
        attempt.failed(&error, now);
    }
    assert_eq!(state_of(&roster, "a", now), "ready");
    // Between failures they don't make it look well.
    for _ in 0..3 {
        asked().failed(&unavailable(), now);
        if roster.state(now) == EngineState::Ready {
            asked().failed(&Error::new(ErrorKind::DataLoss, "gone"), now);
        }
    }
    assert_eq!(state_of(&roster, "a", now), "failing");
}

#[test]
fn another_worker_is_really_another_or_nobody() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let seats = join(&roster, &["a", "b"], now);
    let first = roster.begin(&need("t"), now).unwrap();
    let elsewhere = Need { not_on: Some(first.member().epoch), ..need("t") };
    // As often as it takes: what is saved for deaths isn't touched.
    for _ in 0..2 * RETRIES.saved_max as u32 {
        assert_ne!(roster.begin(&elsewhere, now).unwrap().member().epoch, first.member().epoch);
    }
    for seat in &seats {
        if seat.member.epoch != first.member().epoch {
            seat.report(&WorkerStatus { draining: true, ..status(8) }, now);
        }
    }
    assert!(roster.begin(&elsewhere, now).is_err());
}

#[test]
fn a_worker_that_is_lost_under_a_query_is_told_as_that_and_nothing_else_is() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let _seats = join(&roster, &["a", "b"], now);
    let died = |has_ticket: bool, speaks: bool, error: &Error| {
        let mut attempt = roster.begin(&need("t"), now).unwrap();
        let findings = Arc::<Findings>::default();
        attempt.tell(findings.clone());
        attempt.spoke().mark_sent(has_ticket);
        if speaks {
            told(&attempt, "unavailable", "");
        }
        attempt.failed(error, now);
        attempt.succeeded();
        findings.has_died()
    };
    assert!(died(true, false, &unavailable()));
    assert!(!died(false, false, &unavailable()), "it couldn't be reached");
    assert!(!died(true, true, &unavailable()), "it said that it drains");
    assert!(!died(true, false, &Error::new(ErrorKind::DeadlineExceeded, "late")));
}

#[tokio::test]
async fn an_answer_that_goes_with_a_worker_that_drains_is_its_end_and_not_its_death() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let seats = join(&roster, &["a"], now);
    let findings = Arc::<Findings>::default();
    let attempts: Vec<Attempt> = (0..4).map(|_| roster.begin(&need("t"), now).unwrap()).collect();
    seats[0].report(&WorkerStatus { draining: true, ..status(8) }, now);
    for mut attempt in attempts {
        attempt.tell(findings.clone());
        attempt.spoke().mark_sent(true);
        let lost = attempt.spoke().error_of(&Status::new(Code::Unknown, "broken pipe"));
        let mut answer = watched(stream::iter([Err(lost)]).boxed(), attempt, Call::begin("x", None), None);
        let error = answer.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("`a` was shutting down"), "{error}");
        assert!(answer.next().await.is_none());
    }
    assert!(!findings.has_died());
    seats[0].report(&status(8), now);
    assert_eq!(state_of(&roster, "a", now), "ready", "its breaker heard of nothing");
}

#[test]
fn an_answer_counts_at_its_end_and_a_worker_that_comes_back_is_no_better_than_before() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let seat = roster.join(candidate("a", 8), now).unwrap();
    let fail = |now: Instant| roster.begin(&need("t"), now).unwrap().failed(&unavailable(), now);
    fail(now);
    fail(now);
    // It answers, and its reader leaves before the end.
    drop(roster.begin(&need("t"), now).unwrap());
    drop(seat);
    let seat = roster.join(candidate("a", 8), now).unwrap();
    assert_eq!(state_of(&roster, "a", now), "ready");
    fail(now);
    assert_eq!(state_of(&roster, "a", now), "failing");
    drop(seat);
    let seat = roster.join(candidate("a", 8), now).unwrap();
    assert_eq!(state_of(&roster, "a", now), "failing");
    let later = now + Duration::from_secs(1);
    roster.begin(&need("t"), later).unwrap().succeeded();
    assert_eq!(state_of(&roster, "a", later), "ready");
    // Those of this router's own have a supervisor that waits, and what was long ago is forgotten.
    (0..3).for_each(|_| fail(later));
    drop(seat);
    let own = roster.join(Candidate { shared: false, ..candidate("a", 8) }, later).unwrap();
    assert_eq!(state_of(&roster, "a", later), "ready");
    drop(own);
    let long_after = Instant::now() + LEFT_KEPT * 2;
    let _seat = roster.join(candidate("a", 8), long_after).unwrap();
    assert_eq!(state_of(&roster, "a", long_after), "ready");
}

#[test]
fn tries_again_are_limited_while_first_tries_go_on() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let _seats = join(&roster, &["a", "b"], now);
    let mut refused = 0;
    for _ in 0..1000 {
        let query = Need { query_id: Some(QueryId::generate()), ..need("t") };
        let Ok(mut attempt) = roster.begin(&query, now) else { panic!("a first try is never refused") };
        attempt.failed(&unavailable(), now);
        attempt.succeeded();
        drop(attempt);
        refused += u32::from(roster.begin(&query, now).is_err());
    }
    // What was saved, and a tenth.
    assert!((1000 - 128 - 100 - 5..=1000 - 128 - 100 + 5).contains(&refused), "{refused}");
}

#[test]
fn load_of_other_routers_counts_and_totals_are_those_of_the_ready() {
    let (roster, now) = (Roster::new(LEASE, 8), Instant::now());
    let seats = join(&roster, &["a", "b"], now);
    seats[0].report(&WorkerStatus { running: 6, waiting: 1, cached: vec!["t".into()], threads: 2, ..status(8) }, now);
    let attempt = roster.begin(&need("t"), now).unwrap();
    assert_eq!(attempt.member().name, "b", "a has the table, and others' work");
    let totals = roster.totals(now).unwrap();
    assert_eq!(
        totals,
        Totals { slots: 16, user_slots: 2, running: 8, cores_min: 2, cores: 6, memory_bytes_min: 1 << 30, memory_bytes: 2 << 30 }
    );
    let facts = roster.facts(now);
    assert_eq!((facts[0].name.as_str(), facts[0].running, facts[0].cached_tables), ("a", 7, 1));
    assert_eq!(facts[0].running_there, 6);
    // What it told of may have ended since: that's nobody else's.
    drop(attempt);
    seats[1].report(&WorkerStatus { running: 1, ..status(8) }, now);
    assert_eq!(roster.facts(now)[1].running, 0);
    seats[1].report(&WorkerStatus { running: 1, ..status(8) }, now);
    assert_eq!(roster.facts(now)[1].running, 1);
    roster.stop();
    assert_eq!(roster.state(now), EngineState::Draining);
    assert!(roster.begin(&need("t"), now).is_err() && roster.join(candidate("c", 8), now).is_err());
}

#[tokio::test]
async fn whoever_waits_for_a_starting_worker_hears_of_its_fate() {
    let roster = Roster::new(LEASE, 8);
    roster.local("local-0", Some(Local::Starting));
    let waiting = tokio::spawn({
        let roster = roster.clone();
        async move { roster.ready(Duration::from_secs(60)).await }
    });
    roster.local("local-0", Some(Local::Down("no library".into())));
    assert!(waiting.await.unwrap().unwrap_err().message().contains("no library"));
    roster.local("local-0", Some(Local::Starting));
    let waiting = tokio::spawn({
        let roster = roster.clone();
        async move { roster.ready(Duration::from_secs(60)).await }
    });
    let _seat = roster.join(candidate("local-0", 8), Instant::now()).unwrap();
    waiting.await.unwrap().unwrap();
    let empty = Roster::new(LEASE, 8);
    assert!(empty.ready(Duration::from_secs(60)).await.unwrap_err().message().contains("registered"));
}

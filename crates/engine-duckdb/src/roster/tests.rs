use flightpath_proto::v1::WorkerError;
use prost::Message;
use tonic::{Code, Status};

use super::*;
use crate::client::Client;
use crate::ticket::Signer;

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
    Need { query_id: None, table, files: 1, user: false }
}

fn join(roster: &Arc<Roster>, names: &[&str], now: Instant) -> Vec<Seat> {
    names.iter().map(|name| roster.join(candidate(name, 8), now).unwrap()).collect()
}

fn unavailable() -> Error {
    Error::unavailable("gone")
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
    for kind in [ErrorKind::Raised, ErrorKind::Internal, ErrorKind::ResourceExhausted, ErrorKind::Cancelled] {
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
    let told = WorkerError { kind: "unavailable".into(), message: "a file can't be read".into(), ..WorkerError::default() };
    let status = Status::with_details(Code::Unavailable, "x", told.encode_to_vec().into());
    for _ in 0..10 {
        let query = Need { query_id: Some(QueryId::generate()), ..need("t") };
        let mut attempt = roster.begin(&query, now).unwrap();
        let first = attempt.member().name.clone();
        let error = attempt.spoke().error_of(&status);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "a file can't be read"));
        attempt.failed(&error, now);
        drop(attempt);
        assert_ne!(roster.begin(&query, now).unwrap().member().name, first);
        assert!(roster.facts(now).iter().all(|w| w.state == "ready"));
    }
    let attempt = roster.begin(&need("t"), now).unwrap();
    let error = attempt.spoke().error_of(&Status::new(Code::Unknown, "broken pipe"));
    assert_eq!((error.kind(), attempt.spoke().heard()), (ErrorKind::Unavailable, false));
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
    assert_eq!(totals, Totals { slots: 16, running: 8, cores_min: 2, cores: 6, memory_bytes_min: 1 << 30, memory_bytes: 2 << 30 });
    let facts = roster.facts(now);
    assert_eq!((facts[0].name.as_str(), facts[0].running, facts[0].cached_tables), ("a", 7, 1));
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

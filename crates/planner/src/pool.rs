//! Where statements are planned: on threads that may be busy, so many at once, each for so long.
//! Planning computes without a pause, and the threads that serve connections must not stand still
//! for it. A statement whose time is over gets its error at once; its thread ends by itself, because
//! a plan's size is bounded, and counts until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flightpath_types::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::Span;

use crate::planner::Config;

pub(crate) struct PlanningPool {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    time_max: Duration,
}

impl PlanningPool {
    pub fn new(config: &Config) -> Self {
        Self {
            places: Arc::new(Semaphore::new(config.planning_threads.max(1))),
            waiting: AtomicUsize::new(0),
            waiting_max: config.planning_queue_max,
            time_max: config.planning_time_max,
        }
    }

    /// Runs `work` on a thread of its own, waiting for a place first.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let until = Instant::now() + self.time_max;
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let _waiting = Waiting::enter(&self.waiting, self.waiting_max).ok_or_else(|| {
                    let message = format!("{} statements wait to be planned already; try again later", self.waiting_max);
                    Error::new(ErrorKind::ResourceExhausted, message)
                })?;
                let place =
                    timeout_at(until, self.places.clone().acquire_owned()).await.map_err(|_| self.too_long("waited to be planned"))?;
                place.map_err(|_| Error::unavailable("the server is shutting down"))?
            }
        };
        let span = Span::current();
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            span.in_scope(work)
        });
        match timeout_at(until, done).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::internal("planning failed on this statement; it is a defect of the planner")),
            Err(_) => Err(self.too_long("was planned")),
        }
    }

    fn too_long(&self, what: &str) -> Error {
        let message = format!(
            "the statement {what} for {} s, the most that is given to it; make it smaller or try again later",
            self.time_max.as_secs()
        );
        Error::new(ErrorKind::DeadlineExceeded, message)
    }
}

/// Counts one waiter for as long as it lives, however its wait ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        let entered = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1));
        entered.is_ok().then(|| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn pool(threads: usize, queue: usize, time_max: Duration) -> Arc<PlanningPool> {
        let config = Config { planning_threads: threads, planning_queue_max: queue, planning_time_max: time_max, ..Config::default() };
        Arc::new(PlanningPool::new(&config))
    }

    /// Work that is under way until the sender is dropped.
    fn held(pool: &Arc<PlanningPool>) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<()>>) {
        let (hold, held) = mpsc::channel::<()>();
        let (pool, work) = (pool.clone(), move || {
            let _ = held.recv();
            Ok(())
        });
        (hold, tokio::spawn(async move { pool.run(work).await }))
    }

    #[tokio::test]
    async fn places_are_bounded_and_so_is_the_queue_for_them() {
        let pool = pool(1, 1, Duration::from_secs(3600));
        let (hold, first) = held(&pool);
        while pool.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| Ok(2)).await }
        });
        while pool.waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| Ok(3)).await.unwrap_err().kind(), ErrorKind::ResourceExhausted);
        drop(hold);
        first.await.unwrap().unwrap();
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert_eq!(pool.waiting.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn time_is_over_for_who_plans_and_for_who_waits() {
        let pool = pool(1, 1, Duration::from_millis(20));
        let (hold, first) = held(&pool);
        assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        // Its thread is busy still.
        assert_eq!(pool.run(|| Ok(())).await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        drop(hold);
        while pool.places.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        pool.run(|| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_its_place() {
        let pool = pool(1, 0, Duration::from_secs(3600));
        assert_eq!(pool.run::<()>(|| panic!("a defect")).await.unwrap_err().kind(), ErrorKind::Internal);
        pool.run(|| Ok(())).await.unwrap();
    }
}

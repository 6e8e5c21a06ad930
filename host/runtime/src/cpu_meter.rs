//! How long a guest has computed.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Counts the processor time of one call. Waiting costs nothing: a call that waits for the backend, or for other
/// guests, is not being polled.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    budget: Duration,
    /// Nanoseconds of all polls that have ended.
    used: AtomicU64,
    /// The thread's clock when the poll under way began.
    entered: AtomicU64,
}

impl CpuMeter {
    pub(crate) fn new(budget: Duration) -> Self {
        Self { budget, used: AtomicU64::new(0), entered: AtomicU64::new(0) }
    }

    /// Runs a future and counts what its polls take.
    pub(crate) async fn measure<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.entered.store(thread_clock(), Ordering::Relaxed);
            let polled = work.as_mut().poll(context);
            self.used.fetch_add(self.of_this_poll(), Ordering::Relaxed);
            polled
        })
        .await
    }

    /// Whether the budget is used up. To be asked from within a poll.
    pub(crate) fn is_over_budget(&self) -> bool {
        let used = self.used.load(Ordering::Relaxed).saturating_add(self.of_this_poll());
        Duration::from_nanos(used) > self.budget
    }

    fn of_this_poll(&self) -> u64 {
        thread_clock().saturating_sub(self.entered.load(Ordering::Relaxed))
    }
}

/// Nanoseconds that this thread has computed. A poll begins and ends on one thread.
fn thread_clock() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_is_free_and_computing_is_not() {
        let meter = CpuMeter::new(Duration::from_millis(20));
        meter
            .measure(async {
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    assert!(!meter.is_over_budget(), "it slept");
                }
            })
            .await;
        meter
            .measure(async {
                while !meter.is_over_budget() {
                    std::hint::spin_loop();
                }
            })
            .await;
        assert!(Duration::from_nanos(meter.used.load(Ordering::Relaxed)) >= meter.budget);
    }
}

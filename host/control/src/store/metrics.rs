//! What the store measures about itself.

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// What the writer measures.
#[derive(Debug, Clone)]
pub struct WriterMetrics {
    /// Jobs that shared a transaction.
    pub batch: Histogram,
    /// Seconds that a transaction took, its commit included.
    pub transaction: Histogram,
}

impl WriterMetrics {
    pub(super) fn new() -> Self {
        Self {
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            transaction: Histogram::new(exponential_buckets(0.000_25, 2.0, 14)),
        }
    }
}

//! What was measured, for people and for programs.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::statistics::Samples;

/// All figures.
pub struct Report {
    lines: Vec<String>,
    raw: Vec<Value>,
}

impl Report {
    /// Without any.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default().to_owned();
        let heading = format!("{cores} cores, load {load} at the start; milliseconds unless said otherwise");
        let columns = format!("{:<58} {:>9} {:>9} {:>9} {:>5}", "", "p50", "p95", "min", "n");
        Self { lines: vec![heading, columns], raw: vec![json!({ "cores": cores, "load": load })] }
    }

    /// Measurements of one thing.
    pub fn samples(&mut self, name: &str, samples: &Samples) {
        let (p50, p95, min) = (samples.median(), samples.quantile(0.95), samples.quantile(0.0));
        let n = samples.raw().len();
        self.lines.push(format!("{name:<58} {p50:>9.3} {p95:>9.3} {min:>9.3} {n:>5}"));
        self.raw.push(
            json!({ "name": name, "unit": "ms", "p50": p50, "p95": p95, "min": min, "raw": samples.raw() }),
        );
    }

    /// One figure, with the aim that it should not exceed.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, aim: Option<f64>) {
        self.against(name, value, unit, aim, aim.is_none_or(|aim| value <= aim));
    }

    /// One figure that should not be less than its aim.
    pub fn at_least(&mut self, name: &str, value: f64, unit: &str, aim: f64) {
        self.against(name, value, unit, Some(aim), value >= aim);
    }

    fn against(&mut self, name: &str, value: f64, unit: &str, aim: Option<f64>, met: bool) {
        let verdict = match aim {
            Some(aim) if met => format!("   (aim: {aim} {unit})"),
            Some(aim) => format!("   (aim: {aim} {unit}; missed)"),
            None => String::new(),
        };
        self.lines.push(format!("{name:<58} {value:>9.3} {unit}{verdict}"));
        self.raw.push(json!({ "name": name, "unit": unit, "value": value, "aim": aim }));
    }

    /// For people.
    pub fn print(&self) {
        for line in &self.lines {
            println!("{line}");
        }
    }

    /// For programs.
    pub fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, serde_json::to_vec_pretty(&self.raw)?)
            .with_context(|| format!("{} cannot be written", file.display()))
    }
}

//! Templates.

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Operator, THINKS_MS};
use crate::driver::Hand;

/// So many are looked after.
const MANY: usize = 3;

/// Looks after templates.
pub(super) struct Templates {
    by: Operator,
    /// What each is described as; none = there is no such template.
    described: Vec<Option<String>>,
}

impl Templates {
    pub(super) fn new(by: Operator) -> Self {
        Self { by, described: vec![None; MANY] }
    }
}

impl Hand for Templates {
    fn name(&self) -> String {
        self.by.name()
    }

    async fn act(&mut self) -> Result<()> {
        let number = self.by.one_of(MANY);
        let path = format!("/api/v1/templates/kept-{number}");
        let Some(described) = self.described.get_mut(number) else { return Ok(()) };
        let by = &mut self.by;
        check(by, &path, described.as_deref()).await.context("as it was left")?;
        if described.is_some() && by.one_of(2) == 0 {
            by.tell_once(Method::DELETE, &path, &Value::Null, (&[204], 404)).await?;
            *described = None;
        } else {
            let now = by.key();
            let body = json!({"description": now, "spec": {"base_image": "any"}});
            by.tell(Method::PUT, &path, &body, &[200, 201]).await?;
            *described = Some(now);
        }
        check(by, &path, described.as_deref()).await.context("as it was told")
    }

    fn thinks_ms(&self) -> u64 {
        THINKS_MS
    }
}

async fn check(by: &mut Operator, path: &str, described: Option<&str>) -> Result<()> {
    let Some(described) = described else { return by.missing(path).await };
    let found = by.read(path).await?;
    ensure!(found["description"] == described, "not {described}: {found}");
    Ok(())
}

//! Templates: reading, writing on a condition, removing.

use serde_json::json;
use sqlx::Row as _;
use sqlx::types::Json;

use super::{Connection, Row, audit, dialect};
use crate::domain::{Action, Actor, Deed, Generation, Template, now};
use crate::store::{Expected, StoreError, TemplateDeletion, TemplateWrite, TemplateWritten};

pub(super) async fn one(db: &mut Connection, name: &str) -> Result<Option<Template>, StoreError> {
    let row = sqlx::query("SELECT * FROM templates WHERE name = $1").bind(name).fetch_optional(db).await?;
    row.as_ref().map(template).transpose()
}

/// One that cannot be read is left out: it must not take the others with it.
pub(super) async fn page(
    db: &mut Connection,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Template>, StoreError> {
    let (mut found, mut after) = (Vec::new(), after.map(str::to_owned));
    loop {
        let missing = i64::from(limit).saturating_sub_unsigned(found.len() as u64);
        let rows =
            sqlx::query("SELECT * FROM templates WHERE $1 IS NULL OR name > $1 ORDER BY name LIMIT $2")
                .bind(&after)
                .bind(missing)
                .fetch_all(&mut *db)
                .await?;
        for row in &rows {
            let name: String = row.try_get("name")?;
            match template(row) {
                Ok(template) => found.push(template),
                Err(error) => tracing::error!(template = name, %error, "a template is left out"),
            }
            after = Some(name);
        }
        // A page that unreadable rows made shorter would look like the last one.
        if rows.len() as u64 != missing.unsigned_abs() || found.len() as u64 >= u64::from(limit) {
            return Ok(found);
        }
    }
}

pub(super) async fn write_all(
    db: &mut Connection,
    by: Actor,
    writes: Vec<TemplateWrite>,
) -> Result<Vec<TemplateWritten>, StoreError> {
    let mut all = Vec::with_capacity(writes.len());
    for one in writes {
        all.push(write(db, &by, one).await?);
    }
    Ok(all)
}

async fn write(db: &mut Connection, by: &Actor, write: TemplateWrite) -> Result<TemplateWritten, StoreError> {
    let found = one(db, &write.name).await?;
    if !write.expected.met(found.as_ref()) {
        return Ok(TemplateWritten::Unmet(found));
    }
    let at = now();
    match found {
        Some(found) if found.body == write.body => Ok(TemplateWritten::Unchanged(found)),
        Some(found) => {
            let replaced =
                Template { body: write.body, generation: found.generation.next(), updated_at: at, ..found };
            sqlx::query("UPDATE templates SET body = $2, generation = $3, updated_at = $4 WHERE name = $1")
                .bind(&replaced.name)
                .bind(Json(&replaced.body))
                .bind(replaced.generation.to_db())
                .bind(at)
                .execute(&mut *db)
                .await?;
            note(db, by, Action::TemplateChange, &replaced).await?;
            Ok(TemplateWritten::Replaced(replaced))
        }
        None => {
            let created = Template {
                name: write.name,
                body: write.body,
                generation: Generation::FIRST,
                created_at: at,
                updated_at: at,
            };
            sqlx::query(
                "INSERT INTO templates (name, body, generation, created_at, updated_at) \
                 VALUES ($1, $2, $3, $4, $4)",
            )
            .bind(&created.name)
            .bind(Json(&created.body))
            .bind(created.generation.to_db())
            .bind(at)
            .execute(&mut *db)
            .await?;
            note(db, by, Action::TemplateCreate, &created).await?;
            Ok(TemplateWritten::Created(created))
        }
    }
}

async fn note(
    db: &mut Connection,
    by: &Actor,
    action: Action,
    template: &Template,
) -> Result<(), StoreError> {
    let at = dialect::present(db).await?;
    let details = json!({ "generation": template.generation });
    let deed = Deed::new(action, "template", &template.name).with(details);
    audit::record(db, at, by, deed).await
}

pub(super) async fn delete(
    db: &mut Connection,
    by: Actor,
    name: String,
    expected: Expected,
) -> Result<TemplateDeletion, StoreError> {
    // Without a condition it is not read: one that cannot be read can be deleted as well.
    if !matches!(expected, Expected::Anything | Expected::Something) {
        match one(db, &name).await? {
            None => return Ok(TemplateDeletion::NoSuchTemplate),
            found if !expected.met(found.as_ref()) => return Ok(TemplateDeletion::Unmet),
            Some(_) => {}
        }
    }
    let done = sqlx::query("DELETE FROM templates WHERE name = $1").bind(&name).execute(&mut *db).await?;
    if done.rows_affected() == 0 {
        return Ok(TemplateDeletion::NoSuchTemplate);
    }
    let at = dialect::present(db).await?;
    audit::record(db, at, &by, Deed::new(Action::TemplateDelete, "template", name)).await?;
    Ok(TemplateDeletion::Deleted)
}

fn template(row: &Row) -> Result<Template, StoreError> {
    let Json(body) = row.try_get("body")?;
    Ok(Template {
        name: row.try_get("name")?,
        body,
        generation: Generation::from_db(row.try_get("generation")?),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

//! Users, their tokens and their quotas.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Chore, Operator, THINKS_MS};
use crate::driver::Hand;

/// So many users are looked after.
const MANY: usize = 3;
/// Nobody has more tokens.
const TOKENS: usize = 3;

/// What is done for a user.
#[derive(Debug, Clone, Copy)]
enum Service {
    Change,
    Token,
    Revocation,
    Quota,
    Removal,
}

const CHORES: [Chore<Service>; 5] = [
    Chore { what: Service::Change, points: &["change_user"] },
    Chore { what: Service::Token, points: &["create_token", "delete_token"] },
    Chore { what: Service::Revocation, points: &["create_token", "delete_token"] },
    Chore { what: Service::Quota, points: &["set_quota", "remove_quota"] },
    Chore { what: Service::Removal, points: &["create_user", "delete_user"] },
];

/// Looks after users.
pub(super) struct Accounts {
    by: Operator,
    users: Vec<Account>,
}

/// A user as they have to be.
struct Account {
    id: String,
    /// What they are called, and whether they may do anything; none = there is no such user.
    there: Option<(String, bool)>,
    tokens: Vec<Token>,
    /// The last one that was revoked.
    revoked: Option<Token>,
    /// How many sessions they may have, if that is set.
    quota: Option<u64>,
}

struct Token {
    id: String,
    secret: String,
}

impl Account {
    fn path(&self) -> String {
        format!("/api/v1/admin/users/{}", self.id)
    }

    fn quota_path(&self) -> String {
        format!("/api/v1/admin/quotas/{}", self.id)
    }
}

impl Hand for Accounts {
    fn name(&self) -> String {
        self.by.name()
    }

    async fn act(&mut self) -> Result<()> {
        let number = self.by.one_of(self.users.len());
        let Some(account) = self.users.get_mut(number) else { return Ok(()) };
        let by = &mut self.by;
        check(by, account).await.with_context(|| format!("{} as it was left", account.id))?;
        let Some((called, active)) = account.there.clone() else {
            // Nobody can be asked for something before they are there.
            return if by.one_of(4) == 0 { set_quota(by, account).await } else { create(by, account).await };
        };
        let chore = by.choose(&CHORES).unwrap_or(Service::Change);
        match chore {
            Service::Change => {
                let (called, active) = (format!("{called}."), !active);
                let change = json!({"full_name": called, "active": active});
                by.tell(Method::PATCH, &account.path(), &change, &[200]).await?;
                account.there = Some((called, active));
            }
            Service::Token if account.tokens.len() < TOKENS => create_token(by, account).await?,
            Service::Token | Service::Revocation => revoke(by, account).await?,
            Service::Quota => set_quota(by, account).await?,
            Service::Removal => {
                by.tell_once(Method::DELETE, &account.path(), &Value::Null, (&[204], 404)).await?;
                account.there = None;
                account.revoked = account.tokens.pop();
                account.tokens.clear();
                account.quota = None;
            }
        }
        check(by, account).await.with_context(|| format!("{} after {chore:?}", account.id))
    }

    fn thinks_ms(&self) -> u64 {
        THINKS_MS
    }
}

impl Accounts {
    pub(super) fn new(by: Operator) -> Self {
        let account = |number| Account {
            id: format!("clerk-{number}"),
            there: None,
            tokens: Vec::new(),
            revoked: None,
            quota: None,
        };
        Self { by, users: (0..MANY).map(account).collect() }
    }
}

async fn create(by: &mut Operator, account: &mut Account) -> Result<()> {
    let called = "Clerk".to_owned();
    let body = json!({"id": account.id, "full_name": called, "role": "user"});
    by.tell_once(Method::POST, "/api/v1/admin/users", &body, (&[201], 409)).await?;
    account.there = Some((called, true));
    Ok(())
}

async fn create_token(by: &mut Operator, account: &mut Account) -> Result<()> {
    let body = json!({"name": "desk", "user_id": account.id});
    let (made, unsure) = by.tell_once(Method::POST, "/api/v1/admin/tokens", &body, (&[201], 201)).await?;
    let text = |field: &str| made.body[field].as_str().map(str::to_owned);
    let token = text("id").zip(text("secret")).context("a token without a secret")?;
    account.tokens.push(Token { id: token.0, secret: token.1 });
    if unsure {
        // One whose secret nobody has heard.
        let known: BTreeSet<_> = account.tokens.iter().map(|token| token.id.clone()).collect();
        for id in tokens_of(by, &account.id).await?.difference(&known) {
            let path = format!("/api/v1/admin/tokens/{id}");
            by.tell_once(Method::DELETE, &path, &Value::Null, (&[204], 404)).await?;
        }
    }
    Ok(())
}

async fn revoke(by: &mut Operator, account: &mut Account) -> Result<()> {
    let Some(token) = account.tokens.pop() else { return Ok(()) };
    let path = format!("/api/v1/admin/tokens/{}", token.id);
    by.tell_once(Method::DELETE, &path, &Value::Null, (&[204], 404)).await?;
    account.revoked = Some(token);
    Ok(())
}

async fn set_quota(by: &mut Operator, account: &mut Account) -> Result<()> {
    let path = account.quota_path();
    if account.quota.take().is_some() {
        by.tell_once(Method::DELETE, &path, &Value::Null, (&[204], 404)).await?;
        return Ok(());
    }
    let most = 1 + by.one_of(100) as u64;
    by.tell(Method::PUT, &path, &json!({"sessions": most}), &[200]).await?;
    account.quota = Some(most);
    Ok(())
}

async fn tokens_of(by: &mut Operator, user: &str) -> Result<BTreeSet<String>> {
    let list = by.read(&format!("/api/v1/admin/tokens?user_id={user}&limit=500")).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(items.iter().filter_map(|token| token["id"].as_str().map(str::to_owned)).collect())
}

/// Whether everything is as it was acknowledged.
async fn check(by: &mut Operator, account: &Account) -> Result<()> {
    let quota = by.read(&account.quota_path()).await?;
    let set = quota["set"]["sessions"].as_u64();
    ensure!(set == account.quota, "the quota is {set:?} and not {:?}", account.quota);
    let mut active = false;
    match &account.there {
        None => by.missing(&account.path()).await?,
        Some((called, may)) => {
            let user = by.read(&account.path()).await?;
            let as_left = user["full_name"] == called.as_str() && user["active"] == *may;
            ensure!(as_left, "not {called}, active: {may}: {user}");
            active = *may;
        }
    }
    let known: BTreeSet<_> = account.tokens.iter().map(|token| token.id.clone()).collect();
    let there = tokens_of(by, &account.id).await?;
    ensure!(there == known, "the tokens are {there:?} and not {known:?}");
    let good = account.tokens.iter().map(|token| (token, active));
    for (token, good) in good.chain(account.revoked.iter().map(|token| (token, false))) {
        let answer = by.desk.read("/api/v1/me", Some(&token.secret)).await?;
        let right = if good { 200 } else { 401 };
        ensure!(answer.status == right, "the token {}: {} and not {right}", token.id, answer.status);
    }
    Ok(())
}

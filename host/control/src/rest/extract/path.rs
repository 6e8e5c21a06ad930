//! What the path of a request names.

use std::future::Future;

use axum::extract::FromRequestParts;
use http::request::Parts;
use utoipa::IntoParams;

use super::Serves;
use crate::control::Shared;
use crate::rest::auth::{Caller, authenticated};
use crate::rest::problem::Problem;

/// Something that a path can name.
pub(crate) trait InPath: IntoParams + Sized {
    /// The thing of this name, if the caller may know of it: what they may not see does not exist for them.
    fn find(
        name: String,
        caller: &Caller,
        shared: &Shared,
    ) -> impl Future<Output = Result<Option<Self>, Problem>> + Send;

    /// The answer if there is none.
    fn unknown() -> Problem;
}

/// Looking for something that a path names.
pub(crate) type Found<T> = Result<Option<T>, Problem>;

/// The thing that the path names.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Serves, T: InPath> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let axum::extract::Path(name) = name.map_err(|_| T::unknown())?;
        let caller = authenticated(parts)?;
        find(name, &caller, state.shared()).await.map(Self)
    }
}

/// The thing of this name; that there is none for the caller is an answer.
pub(crate) async fn find<T: InPath>(name: String, caller: &Caller, shared: &Shared) -> Result<T, Problem> {
    T::find(name, caller, shared).await?.ok_or_else(T::unknown)
}

//! Bodies of requests, read strictly, so that a slip of the pen is not silently ignored.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;

use super::Serves;
use crate::rest::problem::{FieldError, Problem};

/// What a request may carry.
pub(crate) trait Body: DeserializeOwned + ToSchema {
    /// Places in it, as JSON pointers, where the generated readers would take a list for an object.
    const OBJECTS: &'static [&'static str] = &[];

    /// Whether it may come under this media type.
    fn comes_as(essence: &str) -> bool {
        is_json(essence)
    }
}

/// A body of a request that was read, or one of an answer.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Serves, T: Body> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let text = JsonText::take(request, state, T::comes_as).await?;
        read_body(&text.0).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// A body that says that it is JSON, as it came.
pub(crate) struct JsonText(pub(crate) Bytes);

impl JsonText {
    async fn take<S: Serves>(
        request: Request,
        state: &S,
        expected: impl Fn(&str) -> bool,
    ) -> Result<Self, Problem> {
        if !media_type(request.headers()).is_some_and(|essence| expected(&essence)) {
            return Err(Problem::unsupported_media_type());
        }
        whole(request, state.shared().config.body_limit).await.map(Self)
    }
}

impl<S: Serves> FromRequest<S> for JsonText {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Self::take(request, state, is_json).await
    }
}

/// Whether a media type is JSON, or made of it.
pub(crate) fn is_json(essence: &str) -> bool {
    essence == "application/json" || essence.ends_with("+json")
}

/// The media type of a body, without its parameters and in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// The whole body, up to a limit.
pub(crate) async fn whole(request: Request, limit: usize) -> Result<Bytes, Problem> {
    Bytes::from_request(request, &()).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Problem::too_large(limit)
        } else {
            Problem::bad_request(vec![FieldError::new("", "the body cannot be read")])
        }
    })
}

/// Reads a body of a request.
pub(crate) fn read_body<T: Body>(body: &[u8]) -> Result<T, Problem> {
    let read = read(body)?;
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let lists = T::OBJECTS.iter().filter(|place| value.pointer(place).is_some_and(Value::is_array));
    let field = |place: &&str| place.trim_start_matches('/').replace('/', ".");
    let lists: Vec<_> =
        lists.map(|place| FieldError::new(field(place), "must be an object, not a list")).collect();
    if lists.is_empty() { Ok(read) } else { Err(Problem::bad_request(lists)) }
}

/// Reads a body strictly. A spec in it is expected under `spec`.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let read = read_strictly(body)?;
    let lists = lists_for_objects(&serde_json::from_slice(body).unwrap_or_default());
    if lists.is_empty() { Ok(read) } else { Err(Problem::bad_request(lists)) }
}

/// Reads JSON, and names the field at fault.
pub(crate) fn read_strictly<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { path };
        let message = without_value(&field, error.inner().to_string());
        Problem::bad_request(vec![FieldError::new(field, message)])
    })?;
    json.end().map_err(|error| Problem::bad_request(vec![FieldError::new("", error.to_string())]))?;
    // The generated readers take a list for an object, its items for the fields in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        let message = "must be an object, not a list";
        return Err(Problem::bad_request(vec![FieldError::new("", message)]));
    }
    Ok(read)
}

/// The generated readers repeat a value of the wrong type. In the environment it may be a secret.
fn without_value(field: &str, message: String) -> String {
    if !field.starts_with("spec.env") || !message.starts_with("invalid ") {
        return message;
    }
    // What was expected comes last.
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("must be {expected}"),
        None => "has a wrong type".to_owned(),
    }
}

/// Like a list for the whole body, one for an object within it is not what anybody means.
fn lists_for_objects(body: &Value) -> Vec<FieldError> {
    let spec = &body["spec"];
    let mut places = vec![("spec".to_owned(), spec)];
    for name in ["resources", "vnc", "webapp"] {
        places.push((format!("spec.{name}"), &spec[name]));
    }
    for name in ["ports", "env", "volume_mounts"] {
        for (index, item) in spec[name].as_array().into_iter().flatten().enumerate() {
            places.push((format!("spec.{name}[{index}]"), item));
        }
    }
    let lists = places.into_iter().filter(|(_, value)| value.is_array());
    lists.map(|(field, _)| FieldError::new(field, "must be an object, not a list")).collect()
}

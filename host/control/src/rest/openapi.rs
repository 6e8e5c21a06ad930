//! The description of the API (OpenAPI 3.1). Handlers describe themselves, and nothing is served that does not; what is
//! the same for all of them, or for all behind the same layer, is added here.

use std::collections::BTreeMap;

use axum::Extension;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::response::Response as Described;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, Header, ObjectBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Type};
use utoipa::{IntoResponses, Modify, OpenApi as _};

use super::problem::{FieldError, Problem};

/// A request that is not served: every answer with this status is a problem.
pub(crate) struct Refused<const STATUS: u16>;

impl<const STATUS: u16> IntoResponses for Refused<STATUS> {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        [(STATUS.to_string(), RefOr::T(refusal(STATUS)))].into()
    }
}

fn refusal(status: u16) -> Described {
    let when = match status {
        400 => "The request cannot be read: JSON, a type, an unknown field or parameter.",
        401 => "No token, or none that is valid (any more); a ticket that was used.",
        403 => "The caller's role is not enough, or a field says more than they may.",
        404 => "There is no such thing for the caller.",
        409 => "Not possible as things stand; `type` says why.",
        412 => "There is another version of it than the one that was expected.",
        413 => "The body is too large.",
        415 => "The body is not of the type that is understood here.",
        422 => "The request can be read and is not sensible; `errors` names every field at fault.",
        426 => "This is a WebSocket only.",
        429 => "Too many at once.",
        500 => "A fault of the server; its log says more under the request's id.",
        502 => "What is behind the server answered with a failure.",
        503 => "Not now: the server is stopping, or what is behind it does not answer.",
        _ => "The request is not served.",
    };
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    let answer = ResponseBuilder::new().description(when).content("application/problem+json", problem);
    match status {
        401 => answer.header("WWW-Authenticate", text("How to say who calls.")),
        426 => answer.header("Upgrade", text("The protocol that is spoken here.")),
        429 | 503 => answer.header("Retry-After", text("After how many seconds to try again.")),
        _ => answer,
    }
    .build()
}

fn text(description: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// What the description begins with.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "StreamSpace",
        description = "One API that runs desktops and web applications of users, whatever they run on.\n\n\
            Reading is strict: an unknown field, an unknown or repeated parameter and a wrong type are errors that name \
            their place. Lists are pages: `next_cursor` of an answer goes on as `cursor`, `null` is the end.",
    ),
    components(schemas(Problem, FieldError)),
    tags(
        (name = "Sessions", description = "Desktops and applications, one user each."),
        (name = "Watching", description = "What happens to sessions, and how they are."),
        (name = "Access", description = "The ways of browsers and viewers to sessions."),
        (name = "Templates", description = "What sessions may be made from."),
        (name = "Accounts", description = "Users, their tokens, and who calls."),
        (name = "Remote controllers", description = "How controllers that run elsewhere come in, and stay."),
        (name = "Operation", description = "Controllers, plugins, and the server itself."),
    ),
    modifiers(&Credentials),
)]
struct Beginning;

/// How callers say who they are.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, api: &mut OpenApi) {
        let query = |name: &str, description: &str| {
            SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::with_description(name, description)))
        };
        let header = |name: &str, description: &str| {
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, description)))
        };
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API token: `Authorization: Bearer <token>`."));
        let of_controllers = |description: &str| {
            let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
            SecurityScheme::Http(bearer.build())
        };
        let components = api.components.get_or_insert_default();
        for (name, scheme) in [
            ("token", SecurityScheme::Http(bearer.build())),
            ("join_token", of_controllers("From `POST /api/v1/admin/join-tokens`: lets a controller in.")),
            (
                "controller_token",
                of_controllers("From `POST /api/v1/controllers/register`: the controller's own."),
            ),
            ("event_ticket", query("ticket", "From `POST /api/v1/ws/ticket`; good once and for 30 s.")),
            (
                "event_protocol",
                header(
                    "Sec-WebSocket-Protocol",
                    "`streamspace.v1, bearer.<token>`: an API token, for clients that can set nothing else.",
                ),
            ),
            (
                "session_ticket",
                query(
                    "streamspace_ticket",
                    "From `POST /api/v1/sessions/{id}/tickets`; good once and for 60 s.",
                ),
            ),
        ] {
            components.add_security_scheme(name, scheme);
        }
    }
}

/// The description without any operation.
pub(super) fn beginning() -> OpenApi {
    Beginning::openapi()
}

/// What the layer that asks for a token means to everything behind it.
pub(crate) fn behind_a_token(api: &mut OpenApi) {
    for operation in operations(api) {
        operation.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
        operation.responses.responses.extend(Refused::<401>::responses());
    }
}

/// What holds for everything.
pub(super) fn complete(api: &mut OpenApi) {
    for operation in operations(api) {
        let parameters = operation.parameters.iter().flatten();
        let of_a_thing = parameters
            .clone()
            .any(|one| matches!(one, RefOr::T(one) if one.parameter_in == ParameterIn::Path));
        let mut all = BTreeMap::new();
        if of_a_thing {
            all.extend(Refused::<404>::responses());
        }
        if operation.request_body.is_some() {
            all.extend(Refused::<413>::responses());
            all.extend(Refused::<415>::responses());
        }
        all.extend(Refused::<500>::responses());
        all.append(&mut operation.responses.responses);
        for answer in all.values_mut() {
            if let RefOr::T(answer) = answer {
                let id = text("Follows the request through the server's log; a value that was sent is kept.");
                answer.headers.insert("X-Request-Id".to_owned(), RefOr::T(id));
            }
        }
        operation.responses.responses = all;
    }
}

fn operations(api: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    api.paths.paths.values_mut().flat_map(|path| {
        [&mut path.get, &mut path.put, &mut path.post, &mut path.delete, &mut path.patch]
            .into_iter()
            .flatten()
    })
}

/// The description as it is served. It is the same for everybody and holds no secret.
#[derive(Clone)]
pub(super) struct Description(Bytes);

impl Description {
    /// Written down once.
    pub(super) fn new(api: &OpenApi) -> Self {
        // The types of a description always serialize.
        Self(api.to_json().unwrap_or_default().into())
    }
}

/// The description of this API
///
/// OpenAPI 3.1, for generators of clients and the like. It needs no token.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    operation_id = "describe_api",
    tag = "Operation",
    security(()),
    responses((status = 200, body = Object, description = "The description.")),
)]
pub(super) async fn describe(Extension(Description(text)): Extension<Description>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

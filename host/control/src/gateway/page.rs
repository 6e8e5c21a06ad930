//! What a person sees in place of a session that cannot be shown.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::rest::problem::Problem;

/// A refusal in the form that the visitor reads: a page for browsers that navigate, a problem for programs.
pub(super) fn refusal(headers: &HeaderMap, problem: Problem) -> Response {
    let wants_page = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.split(',').any(|kind| kind.trim().starts_with("text/html")));
    if !wants_page {
        return problem.into_response();
    }
    let (title, detail) = problem.text();
    // What starts will be there; the page looks again by itself.
    let refresh = match problem.status() {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => {
            "<meta http-equiv=\"refresh\" content=\"2\">"
        }
        _ => "",
    };
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">{refresh}\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:20vh auto;padding:0 1rem}}</style>\
         </head><body><h1>{title}</h1><p>{detail}</p></body></html>\n",
        title = escaped(title),
        detail = escaped(detail),
    );
    let status = problem.status();
    let mut response = problem.into_response();
    *response.status_mut() = status;
    *response.body_mut() = text.into();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    );
    headers.remove(header::CONTENT_LENGTH);
    response
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

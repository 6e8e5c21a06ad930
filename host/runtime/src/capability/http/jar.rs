//! Cookies of one server, kept between calls and out of the plugin's sight.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cookie_store::{Cookie, CookieStore, RawCookie};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use url::Url;

/// Cookies that are kept. Only a server that has gone astray needs more.
const MOST: usize = 64;

/// Bytes of a cookie with its attributes, as browsers limit them.
const LONGEST: usize = 4096;

/// The cookies.
#[derive(Default)]
pub(super) struct Jar(Mutex<CookieStore>);

impl Jar {
    fn store(&self) -> MutexGuard<'_, CookieStore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a request to this address carries.
    pub(super) fn value_for(&self, url: &Url) -> Option<HeaderValue> {
        let store = self.store();
        let pairs: Vec<_> =
            store.get_request_values(url).map(|(name, value)| format!("{name}={value}")).collect();
        let mut value = HeaderValue::try_from(pairs.join("; ")).ok().filter(|_| !pairs.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Takes those of an answer from this address.
    pub(super) fn keep(&self, url: &Url, headers: &HeaderMap) {
        let mut store = self.store();
        for value in headers.get_all(SET_COOKIE) {
            let text = value.to_str().ok().filter(|text| text.len() <= LONGEST);
            let raw = text.and_then(|text| RawCookie::parse(text.to_owned()).ok());
            // One that is for another host is not kept; nothing else follows.
            let Some(cookie) = raw.and_then(|raw| Cookie::try_from_raw_cookie(&raw, url).ok()) else {
                continue;
            };
            if !is_known(&store, &cookie) && store.iter_any().count() >= MOST {
                remove_expired(&mut store);
                if store.iter_any().count() >= MOST {
                    tracing::debug!(host = url.host_str(), "a server sets more cookies than are kept");
                    continue;
                }
            }
            // One that has expired removes the one that is there; otherwise it is refused.
            let _ = store.insert(cookie.into_owned(), url);
        }
    }
}

/// Whether it takes the place of another: the same name may stand for several at several paths.
fn is_known(store: &CookieStore, cookie: &Cookie<'_>) -> bool {
    let domain = String::from(&cookie.domain);
    store.contains_any(&domain, &cookie.path, cookie.name())
}

fn remove_expired(store: &mut CookieStore) {
    let expired = store.iter_any().filter(|cookie| cookie.is_expired());
    let keys: Vec<_> = expired
        .map(|cookie| (String::from(&cookie.domain), String::from(&cookie.path), cookie.name().to_owned()))
        .collect();
    for (domain, path, name) in keys {
        store.remove(&domain, &path, &name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(path: &str) -> Url {
        Url::parse(&format!("https://pve.example{path}")).unwrap()
    }

    fn set(cookie: String) -> HeaderMap {
        HeaderMap::from_iter([(SET_COOKIE, HeaderValue::try_from(cookie).unwrap())])
    }

    #[test]
    fn a_cookie_without_a_path_belongs_to_the_folder_that_it_came_from() {
        let jar = Jar::default();
        jar.keep(&url("/base/login"), &set("sid=abc".into()));
        assert_eq!(jar.value_for(&url("/base/list")).unwrap(), "sid=abc");
        assert_eq!(jar.value_for(&url("/other/list")), None);
    }

    #[test]
    fn however_many_are_set_few_are_kept_and_old_ones_make_room() {
        let jar = Jar::default();
        // The same name at many paths is many cookies.
        for number in 0..MOST * 2 {
            jar.keep(&url("/"), &set(format!("sid=x; Path=/{number}")));
        }
        assert_eq!(jar.store().iter_any().count(), MOST);
        jar.keep(&url("/"), &set("sid=y; Path=/0".into()));
        assert_eq!(jar.value_for(&url("/0")).unwrap(), "sid=y", "a known one is replaced");
        jar.keep(&url("/"), &set("late=x; Path=/".into()));
        assert_eq!(jar.value_for(&url("/")), None, "there is no room");
        jar.keep(&url("/"), &set("sid=; Path=/1; Max-Age=0".into()));
        jar.keep(&url("/"), &set("late=x; Path=/".into()));
        assert_eq!(jar.value_for(&url("/")).unwrap(), "late=x");
        jar.keep(&url("/"), &set(format!("sid={}; Path=/0", "z".repeat(LONGEST))));
        assert_eq!(jar.store().get_any("pve.example", "/0", "sid").unwrap().value(), "y", "too long");
    }
}

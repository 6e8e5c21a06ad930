//! The parameters of a request's URL. An unknown or repeated one is an error: it would be ignored otherwise, and
//! the caller would believe that it worked.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use utoipa::IntoParams;
use utoipa::openapi::path::ParameterIn;

use super::Serves;
use crate::domain::{GoDuration, InvalidDuration, MAX_ID_BYTES};
use crate::rest::problem::{FieldError, Problem};

/// Items on a page, if the caller does not say.
pub(crate) const DEFAULT_LIMIT: u32 = 50;
/// Items on a page at most.
pub(crate) const LARGEST_LIMIT: u32 = 500;

/// The parameters that a handler takes. Those that it declares in the description of the API are those that may be
/// given.
pub(crate) trait ParameterSet: IntoParams + Sized {
    /// Takes them out of what was given.
    fn take(given: &mut Parameters) -> Self;
}

/// Parameters that were read, all of them.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Serves, T: ParameterSet> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let declared = T::into_params(|| Some(ParameterIn::Query));
        let mut given = Parameters::read(parts, |name| declared.iter().any(|one| one.name == name)).await?;
        let taken = T::take(&mut given);
        given.finish()?;
        Ok(Self(taken))
    }
}

/// The same for what did not come in a URL; what is `None` was not given.
pub(crate) fn parameters<T: ParameterSet>(
    pairs: impl IntoIterator<Item = (&'static str, Option<String>)>,
) -> Result<T, Problem> {
    let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let mut given = Parameters::of(pairs, |_| true);
    let taken = T::take(&mut given);
    given.finish()?;
    Ok(taken)
}

/// For a handler that takes none.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct NoParameters {}

impl ParameterSet for NoParameters {
    fn take(_: &mut Parameters) -> Self {
        Self {}
    }
}

/// For a handler that starts something and takes nothing else.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Waiting {
    /// Answer when what was started is done or has failed, and at the latest after this time (300 s at most). Without it
    /// the answer comes as soon as the wish is durable.
    #[param(
        value_type = Option<String>,
        pattern = r"^\+?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$",
        example = "30s",
    )]
    pub(crate) wait: Option<Duration>,
}

impl ParameterSet for Waiting {
    fn take(given: &mut Parameters) -> Self {
        Self { wait: given.wait() }
    }
}

/// The parameters of a request, each given once.
pub(crate) struct Parameters {
    values: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl Parameters {
    /// Reads them; only those are allowed that are declared.
    async fn read(parts: &mut Parts, declared: impl Fn(&str) -> bool) -> Result<Self, Problem> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, &()).await;
        let Ok(axum::extract::Query(pairs)) = pairs else {
            return Err(Problem::bad_request(vec![FieldError::new(
                "",
                "the query of the URL cannot be read",
            )]));
        };
        Ok(Self::of(pairs, declared))
    }

    fn of(pairs: impl IntoIterator<Item = (String, String)>, declared: impl Fn(&str) -> bool) -> Self {
        let mut read = Self { values: BTreeMap::new(), errors: Vec::new() };
        for (name, value) in pairs {
            if !declared(&name) {
                read.errors.push(FieldError::new(name, "unknown parameter"));
            } else if read.values.insert(name.clone(), value).is_some() {
                read.errors.push(FieldError::new(name, "given more than once"));
            }
        }
        read
    }

    /// One parameter, read by a function that says what is wrong.
    pub(crate) fn take<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match read(&self.values.remove(name)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.errors.push(FieldError::new(name, message));
                None
            }
        }
    }

    /// A parameter `wait`.
    pub(crate) fn wait(&mut self) -> Option<Duration> {
        self.take("wait", |text| match GoDuration::parse(text) {
            Ok(wait) => Ok(wait.length()),
            Err(InvalidDuration::NotPositive) if !text.starts_with('-') => Ok(Duration::ZERO),
            Err(error) => Err(error.to_string()),
        })
    }

    /// A parameter that is `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let flag = self.take(name, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        });
        flag.unwrap_or(false)
    }

    /// A parameter `limit`: how many items belong on a page.
    pub(crate) fn limit(&mut self) -> u32 {
        self.number("limit", LARGEST_LIMIT).unwrap_or(DEFAULT_LIMIT)
    }

    /// A parameter that counts, from 1.
    pub(crate) fn number(&mut self, name: &str, largest: u32) -> Option<u32> {
        self.take(name, |text| match text.parse::<u32>() {
            Ok(number) if (1..=largest).contains(&number) => Ok(number),
            _ => Err(format!("must be a number from 1 to {largest}")),
        })
    }

    /// A parameter that something has to be equal to.
    pub(crate) fn short(&mut self, name: &str) -> Option<String> {
        self.take(name, short)
    }

    /// All errors, if there are any.
    fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::bad_request(self.errors)) }
    }
}

/// A text that is no longer than those that it is compared with.
fn short(text: &str) -> Result<String, String> {
    if text.len() > MAX_ID_BYTES {
        Err(format!("longer than {MAX_ID_BYTES} bytes"))
    } else {
        Ok(text.to_owned())
    }
}

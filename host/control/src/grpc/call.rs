//! What calls carry, and how it stands in JSON.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as WireValue};
use serde_json::{Map, Number, Value as Json};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::control::Shared;
use crate::rest::auth::{Caller, Operator};
use crate::rest::problem::{FieldError, Problem};

/// What no length of time is written like.
const NO_LENGTH: &str = "malformed";

/// Numbers on the wire are binary fractions. Up to here every whole one has its own.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// How long a message may wait for its client.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// The same once the server stops.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// What a method answers.
pub(super) type Reply<T> = Result<Response<T>, Status>;

/// A call in two: who makes it, and what they ask.
pub(super) fn opened<T>(request: Request<T>) -> Result<(Caller, T), Problem> {
    // The layer before this let nobody else through.
    let caller = request.extensions().get::<Caller>().cloned().ok_or_else(Problem::internal)?;
    Ok((caller, request.into_inner()))
}

/// The same for what only operators may do.
pub(super) fn opened_for_operators<T>(request: Request<T>) -> Result<(Caller, T), Problem> {
    let (caller, asked) = opened(request)?;
    let Operator(caller) = Operator::of(caller)?;
    Ok((caller, asked))
}

/// Messages that a task of its own finds out one after the other, up to the first refusal. A client that does not read
/// holds up nothing that way: where the stream looked for its messages by itself, it could be left in the middle of a
/// question to the database.
pub(super) fn told<T, S>(shared: &Shared, mut source: S) -> BoxStream<'static, Result<T, Status>>
where
    T: Send + 'static,
    S: Source<T> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(1);
    let stopping = shared.stopping.clone();
    // The server waits for it when it stops.
    shared.connections.spawn(async move {
        loop {
            let message = tokio::select! {
                message = source.next() => message,
                () = sender.closed() => return,
            };
            let Some(message) = message else { return };
            let last = message.is_err();
            // A client that takes nothing for so long is let go; it can come back.
            let taken = sender.send_timeout(message.map_err(Status::from), SEND_LIMIT);
            let goodbye = async {
                stopping.cancelled().await;
                tokio::time::sleep(GOODBYE_LIMIT).await;
            };
            let goes_on = tokio::select! {
                taken = taken => taken.is_ok() && !last,
                () = goodbye => false,
            };
            if !goes_on {
                return;
            }
        }
    });
    stream::poll_fn(move |context| receiver.poll_recv(context)).boxed()
}

/// Where messages come from.
#[async_trait]
pub(super) trait Source<T> {
    /// The next message; a refusal is the last. May be dropped at any time.
    async fn next(&mut self) -> Option<Result<T, Problem>>;
}

/// How long a call is to wait.
pub(super) fn wait(given: Option<prost_types::Duration>) -> Result<Option<Duration>, Problem> {
    let length = given.map(Duration::try_from).transpose();
    length.map_err(|_| fault("wait", "must not be negative"))
}

/// A field is at fault.
pub(super) fn fault(field: &str, message: &str) -> Problem {
    Problem::bad_request(vec![FieldError::new(field, message)])
}

/// What is asked for is not of the kind that a field has, and what it is called in the REST API.
pub(super) fn word<E: TryFrom<i32> + Copy>(
    field: &str,
    number: i32,
    word: impl FnOnce(E) -> Option<&'static str>,
) -> Result<Option<String>, Problem> {
    let known = E::try_from(number).map_err(|_| fault(field, "not a value of the enum"))?;
    Ok(word(known).map(str::to_owned))
}

/// A number as a parameter has it.
pub(super) fn digits(number: Option<u32>) -> Option<String> {
    number.map(|number| number.to_string())
}

/// A length of time as Go writes it; none = the empty text. One that is malformed is for the reader to refuse.
pub(super) fn go_text(length: &prost_types::Duration) -> String {
    let (seconds, nanos) = (length.seconds.unsigned_abs(), length.nanos.unsigned_abs());
    if (seconds, nanos) == (0, 0) {
        return String::new();
    }
    let signs_differ = i64::from(length.nanos).signum() * length.seconds.signum() < 0;
    if signs_differ || nanos > 999_999_999 {
        return NO_LENGTH.to_owned();
    }
    let mut text = if length.seconds < 0 || length.nanos < 0 { "-".to_owned() } else { String::new() };
    for (number, unit) in [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm')] {
        if number > 0 {
            text.push_str(&format!("{number}{unit}"));
        }
    }
    match (seconds % 60, nanos) {
        (0, 0) => {}
        (rest, 0) => text.push_str(&format!("{rest}s")),
        (rest, nanos) => {
            let fraction = format!("{nanos:09}");
            text.push_str(&format!("{rest}.{}s", fraction.trim_end_matches('0')));
        }
    }
    text
}

/// An object of JSON as messages have it.
pub(super) fn struct_of(object: &Map<String, Json>) -> Struct {
    Struct { fields: object.iter().map(|(key, value)| (key.clone(), wire(value))).collect() }
}

fn wire(json: &Json) -> WireValue {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(*flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(wire).collect() }),
        Json::Object(object) => Kind::StructValue(struct_of(object)),
    };
    WireValue { kind: Some(kind) }
}

/// An object of JSON out of a message.
pub(super) fn json_object(object: Struct) -> Map<String, Json> {
    object.fields.into_iter().map(|(key, value)| (key, json(value))).collect()
}

fn json(wire: WireValue) -> Json {
    match wire.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(flag),
        // A backend's setting that counts something is no fraction.
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= LARGEST_WHOLE => {
            Json::from(number as i64)
        }
        Some(Kind::NumberValue(number)) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        Some(Kind::StringValue(text)) => Json::String(text),
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(object)) => Json::Object(json_object(object)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::GoDuration;

    #[test]
    fn lengths_of_time_are_written_as_they_are_read() {
        for (seconds, nanos, text) in [
            (0, 0, ""),
            (5400, 0, "1h30m"),
            (3601, 0, "1h1s"),
            (0, 500_000_000, "0.5s"),
            (61, 1, "1m1.000000001s"),
            (-5, 0, "-5s"),
            (5, -1, "malformed"),
            (0, 1_000_000_000, "malformed"),
        ] {
            let length = prost_types::Duration { seconds, nanos };
            assert_eq!(go_text(&length), text);
            if seconds > 0 && text != NO_LENGTH {
                let read = GoDuration::parse(text).unwrap().length();
                assert_eq!(read, Duration::try_from(length).unwrap());
            }
        }
    }

    #[test]
    fn objects_come_back_as_they_went() {
        let whole =
            json!({"n": null, "b": true, "i": -5000, "f": 1.5, "s": "x", "l": [1, {"a": []}], "o": {}});
        let object = whole.as_object().unwrap();
        assert_eq!(&json_object(struct_of(object)), object);
        let odd = WireValue { kind: Some(Kind::NumberValue(f64::NAN)) };
        assert_eq!(json(odd), Json::Null);
    }
}

//! B: input that is wrong, or looks as if it were.

use streamspace_proto::controller::v1::{EnvVar, GetSessionRequest, ResourceRequirements};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::check::{Stop, checks, show};
use crate::context::{Context, Session};
use crate::fixture::Ability;

checks! {
    "B10-hostile-ids-refused" "session ids that are no ids are INVALID_ARGUMENT and name `session_id`" [] Shared = hostile_ids_refused;
    "B10-invalid-fields-named" "a wrong field is INVALID_ARGUMENT and named in BadRequest" [] Shared = invalid_fields_named;
    "B10-any-user-id" "a user id is any text of up to 512 bytes and comes back as it was" [] Shared = any_user_id;
    "B10-any-text-in-env-and-labels" "environment and labels take any text, and the environment is passed on unchanged" [] Shared = any_text_in_env_and_labels;
    "B11-missing-image" "an image that does not exist is a permanent error, and nothing is left" [MissingImage] Shared = missing_image;
    "B11-malformed-image" "an image that can be none is INVALID_ARGUMENT, and nothing is left" [MalformedImage] Shared = malformed_image;
    "B11-oversized-resources" "resources that nobody has are an error or a pending session that says so, and nothing is left" [] Shared = oversized_resources;
}

/// The fields that a refusal names.
pub(super) fn fields(status: &tonic::Status) -> Vec<String> {
    let request = status.get_details_bad_request();
    request
        .into_iter()
        .flat_map(|request| request.field_violations)
        .map(|violation| violation.field)
        .collect()
}

async fn hostile_ids_refused(cx: Context) -> Result<(), Stop> {
    let long = "a".repeat(65);
    for id in ["", "a/b", "../etc", "a b", "ä", "a\nb", "a?force=1", "a%2e", "-".repeat(300).as_str(), &long]
    {
        let mut session = cx.session();
        session.request.session_id = id.to_owned();
        let created = cx.create(&session).await;
        match &created {
            Err(status) if status.code() == Code::InvalidArgument => {
                if !fields(status).iter().any(|field| field == "session_id") {
                    let seen = format!("{:?} in {}", fields(status), show(&created));
                    return Err(Stop::expected(
                        format!("`session_id` in BadRequest for the id {id:?}"),
                        seen,
                    ));
                }
            }
            _ => return Err(Stop::expected_of(format!("INVALID_ARGUMENT for the id {id:?}"), &created)),
        }
    }
    Ok(())
}

async fn invalid_fields_named(cx: Context) -> Result<(), Stop> {
    type Change = fn(&mut Session);
    let cases: &[(&str, Change)] = &[
        ("spec", |session| session.request.spec = None),
        ("spec.base_image", |session| session.spec().base_image.clear()),
        ("spec.resources.memory", |session| memory(session, "lots")),
        ("spec.resources.memory", |session| memory(session, "-1Gi")),
        ("spec.resources.memory", |session| memory(session, "99999999Ei")),
        ("controller_config", |session| session.request.controller_config = "[]".to_owned()),
        ("controller_config", |session| session.request.controller_config = "{".to_owned()),
        ("user_id", |session| session.request.user_id.clear()),
        ("user_id", |session| session.request.user_id = "u".repeat(513)),
    ];
    for (field, change) in cases {
        let mut session = cx.session();
        change(&mut session);
        let created = cx.create(&session).await;
        let named = match &created {
            Err(status) if status.code() == Code::InvalidArgument => fields(status),
            _ => return Err(Stop::expected_of(format!("INVALID_ARGUMENT for a wrong {field}"), &created)),
        };
        if !named.iter().any(|name| name == field) {
            let seen = format!("{named:?} in {}", show(&created));
            return Err(Stop::expected(format!("`{field}` in BadRequest"), seen));
        }
        expect_nothing(&cx, &session).await?;
    }
    Ok(())
}

fn memory(session: &mut Session, text: &str) {
    session.spec().resources.get_or_insert_default().memory = text.to_owned();
}

async fn any_user_id(cx: Context) -> Result<(), Stop> {
    // Two, three and four bytes a character, a line break, a quote, and 512 bytes in all.
    let mut long = "ä€😀\"'\n$(true)/../".to_owned();
    while long.len() < 512 {
        long.push('u');
    }
    for user in ["älice@example.org", "../../etc/passwd", "DROP TABLE; --", long.as_str()] {
        let mut session = cx.session();
        session.request.user_id = user.to_owned();
        cx.remember(&session);
        cx.run(&session).await?;
        let request = GetSessionRequest { session_id: session.id(), ..Default::default() };
        let got = cx.controller.get(request).await;
        if !matches!(&got, Ok(answer) if answer.user_id == user) {
            return Err(Stop::expected_of(format!("the user id {user:?} unchanged"), &got));
        }
        cx.delete_whole(&session).await?;
    }
    Ok(())
}

async fn any_text_in_env_and_labels(cx: Context) -> Result<(), Stop> {
    let texts = [
        "",
        "a=b=c",
        "$(reboot) `reboot` $HOME",
        "two\nlines\t\"quoted\" 'twice'",
        "ünï😀",
        "\\n\\0 %s {{.}}",
    ];
    let mut session = cx.session();
    for (number, text) in texts.iter().enumerate() {
        let value = (*text).to_owned();
        session.spec().env.push(EnvVar { name: format!("TEXT_{number}"), value, secret: false });
        session.spec().labels.insert(format!("text-{number}"), (*text).to_owned());
    }
    session.spec().labels.insert("streamspace.controller".to_owned(), "somebody-else".to_owned());
    let created = cx.create(&session).await;
    match &created {
        Ok(_) => {}
        // A backend may refuse what it cannot pass on, if it says what.
        Err(status) if status.code() == Code::InvalidArgument && !fields(status).is_empty() => return Ok(()),
        _ => return Err(Stop::expected_of("a session, or INVALID_ARGUMENT that names the field", &created)),
    }
    cx.wait_for_phase(&session, "Running").await?;
    cx.expect_one(&session).await?;
    let Ok(fixture) = cx.fixture(Ability::Inspect) else { return Ok(()) };
    let applied = fixture.inspect(&session.id()).await?.unwrap_or_default();
    for (number, text) in texts.iter().enumerate() {
        let name = format!("TEXT_{number}");
        let value = applied.env.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str());
        if value != Some(*text) {
            return Err(Stop::expected(format!("{text:?} in the session's {name}"), format!("{value:?}")));
        }
    }
    Ok(())
}

async fn missing_image(cx: Context) -> Result<(), Stop> {
    let mut session = cx.session();
    session.spec().base_image = cx.recipe().missing_image.clone().unwrap_or_default();
    let created = cx.create(&session).await;
    let permanent = [Code::InvalidArgument, Code::FailedPrecondition];
    if !matches!(&created, Err(status) if permanent.contains(&status.code())) {
        let what = "INVALID_ARGUMENT or FAILED_PRECONDITION for an image that does not exist";
        return Err(Stop::expected_of(what, &created));
    }
    expect_nothing(&cx, &session).await
}

async fn malformed_image(cx: Context) -> Result<(), Stop> {
    let mut session = cx.session();
    session.spec().base_image = cx.recipe().malformed_image.clone().unwrap_or_default();
    let created = cx.create(&session).await;
    if !matches!(&created, Err(status) if status.code() == Code::InvalidArgument) {
        return Err(Stop::expected_of("INVALID_ARGUMENT for an image that can be none", &created));
    }
    expect_nothing(&cx, &session).await
}

async fn oversized_resources(cx: Context) -> Result<(), Stop> {
    let mut session = cx.session();
    let resources =
        ResourceRequirements { memory: "64Ti".to_owned(), cpu: "1000000".to_owned(), storage: String::new() };
    session.spec().resources = Some(resources);
    let created = cx.create(&session).await;
    match &created {
        Err(status) => {
            let honest = [
                Code::InvalidArgument,
                Code::FailedPrecondition,
                Code::ResourceExhausted,
                Code::DeadlineExceeded,
            ];
            if !honest.contains(&status.code()) {
                return Err(Stop::expected_of("an error that says that nobody has so much", &created));
            }
            // What is still under way may have an object; what was refused has none.
            if status.code() != Code::DeadlineExceeded {
                expect_nothing(&cx, &session).await?;
            }
        }
        Ok(answer) if answer.phase == "Running" => {
            return Err(Stop::expected_of("no session with a million cores", &created));
        }
        Ok(answer) if answer.conditions.iter().all(|condition| condition.status == "True") => {
            return Err(Stop::expected_of("a condition that says why the session is pending", &created));
        }
        Ok(_) => {}
    }
    cx.delete_whole(&session).await
}

/// That a refused create left nothing.
async fn expect_nothing(cx: &Context, session: &Session) -> Result<(), Stop> {
    cx.expect_gone(session).await?;
    let entries = cx.entries_of(session).await?;
    if entries.is_empty() {
        return Ok(());
    }
    Err(Stop::expected("nothing in the listing of a session that was refused", format!("{entries:?}")))
}

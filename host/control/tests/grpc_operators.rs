//! Templates and controllers over gRPC: the same as over REST.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::calls::{Clients, faults, refusal, seconds};
use common::live::running;
use common::{Backend, Server};
use http::StatusCode;
use prost_types::value::Kind;
use serde_json::{Value, json};
use streamspace_proto::api::v1 as api;
use tonic::Code;

async fn start() -> (tempfile::TempDir, Server, Clients) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &Backend::default()).await;
    let clients = Clients::of(&server);
    (folder, server, clients)
}

fn firefox() -> api::Template {
    api::Template {
        name: "firefox".into(),
        description: "A browser".into(),
        tags: vec!["web".into()],
        spec: Some(api::SessionSpec {
            webapp: Some(api::WebApp { port: Some(3000), ..Default::default() }),
            env: vec![api::EnvVar { name: "PIN".into(), value: Some("hunter22".into()), secret: Some(true) }],
            idle_timeout: seconds(1800),
            ..Default::default()
        }),
        images: [("docker".to_owned(), "firefox:1".to_owned())].into(),
        controller_config: [(
            "docker".to_owned(),
            prost_types::Struct {
                fields: [("shm".to_owned(), Kind::StringValue("1Gi".into()).into())].into(),
            },
        )]
        .into(),
        ..Default::default()
    }
}

fn put(template: api::Template, precondition: Option<api::Precondition>) -> api::PutTemplateRequest {
    api::PutTemplateRequest { name: "firefox".into(), template: Some(template), precondition }
}

fn matching(etag: &str) -> Option<api::Precondition> {
    Some(api::Precondition { if_match: Some(etag.into()), if_none_match: None })
}

#[tokio::test]
async fn a_template_is_the_same_over_both() {
    let (_folder, server, mut clients) = start().await;
    let create = || api::CreateTemplateRequest { template: Some(firefox()) };
    let made = clients.templates.create(create()).await.unwrap().into_inner();
    assert_eq!(
        (made.display_name.as_str(), made.app_type(), made.generation),
        ("firefox", api::AppType::Webapp, 1)
    );
    let shown = server.get("/api/v1/templates/firefox").await;
    assert_eq!(shown.header("etag"), made.etag);
    let shown = shown.json();
    assert_eq!(shown["spec"]["idle_timeout"], "30m");
    assert_eq!(shown["spec"]["env"][0]["value"], "[redacted]");
    assert_eq!(made.spec.as_ref().unwrap().env[0].value.as_deref(), Some("[redacted]"));
    assert_eq!(shown["controller_config"], json!({"docker": {"shm": "1Gi"}}));
    assert_eq!(shown["images"], json!({"docker": "firefox:1"}));
    assert_eq!(refusal(clients.templates.create(create()).await), (Code::AlreadyExists, "EXISTS".into()));

    // Whoever writes what they have read changes nothing, secrets included.
    let again = clients.templates.put(put(made.clone(), matching(&made.etag))).await.unwrap().into_inner();
    assert_eq!((again.created, again.template.as_ref()), (false, Some(&made)));
    let changed = api::Template { description: "Another".into(), name: String::new(), ..made.clone() };
    let changed = clients.templates.put(put(changed, matching(&made.etag))).await.unwrap().into_inner();
    let changed = changed.template.unwrap();
    assert_eq!((changed.generation, changed.description.as_str()), (2, "Another"));
    let late = clients.templates.put(put(made.clone(), matching(&made.etag))).await;
    assert_eq!(refusal(late), (Code::Aborted, "PRECONDITION_FAILED".into()));
    let none = Some(api::Precondition { if_match: None, if_none_match: Some("*".into()) });
    assert_eq!(refusal(clients.templates.put(put(made.clone(), none)).await).0, Code::Aborted);
    let both = Some(api::Precondition { if_match: Some("*".into()), if_none_match: Some("*".into()) });
    assert_eq!(faults(clients.templates.put(put(made, both)).await), ["if-none-match"]);

    // The secret is there still.
    let request =
        api::CreateSessionRequest { template_id: "firefox".into(), wait: seconds(60), ..Default::default() };
    let session = clients.sessions.create(request).await.unwrap().into_inner();
    assert_eq!(session.spec.unwrap().base_image.as_deref(), Some("firefox:1"));

    let patch = |fields: Vec<(&str, Kind)>| api::PatchTemplateRequest {
        name: "firefox".into(),
        patch: Some(prost_types::Struct {
            fields: fields.into_iter().map(|(key, kind)| (key.to_owned(), kind.into())).collect(),
        }),
        precondition: None,
    };
    let fields =
        vec![("description", Kind::NullValue(0)), ("category", Kind::StringValue("Browsers".into()))];
    let patched = clients.templates.patch(patch(fields)).await.unwrap().into_inner();
    assert_eq!((patched.description.as_str(), patched.category.as_str()), ("", "Browsers"));
    let wrong = clients.templates.patch(patch(vec![("colour", Kind::BoolValue(true))])).await;
    assert_eq!(faults(wrong), ["colour"]);

    let delete =
        |etag: &str| api::DeleteTemplateRequest { name: "firefox".into(), precondition: matching(etag) };
    assert_eq!(refusal(clients.templates.delete(delete(&changed.etag)).await).0, Code::Aborted);
    clients.templates.delete(delete(&patched.etag)).await.unwrap();
    let gone = clients.templates.get(api::GetTemplateRequest { name: "firefox".into() }).await;
    assert_eq!(refusal(gone), (Code::NotFound, "NOT_FOUND".into()));
    assert_eq!(server.get("/api/v1/templates/firefox").await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn templates_come_in_pages_and_out_of_yaml() {
    let (_folder, server, mut clients) = start().await;
    let yaml = "apiVersion: stream.space/v1alpha1\nkind: Template\nmetadata: {name: one}\n\
        spec: {displayName: One, baseImage: 'one:1', category: Browsers, webapp: {port: 3000}}\n\
        ---\nkind: Nothing\n---\n\
        apiVersion: stream.space/v1alpha1\nkind: Template\nmetadata: {name: two}\n\
        spec: {displayName: Two, baseImage: 'two:1'}\n";
    let import = || api::ImportTemplatesRequest { yaml: yaml.into(), replace: false };
    let report = clients.templates.import(import()).await.unwrap().into_inner();
    assert_eq!((report.imported, report.refused), (2, 1));
    let results: Vec<_> =
        report.items.iter().map(|item| (item.document, item.name.as_deref(), item.result())).collect();
    let expected = [
        (1, Some("one"), api::ImportResult::Created),
        (2, None, api::ImportResult::Refused),
        (3, Some("two"), api::ImportResult::Created),
    ];
    assert_eq!(results, expected);
    assert_eq!(report.items[1].errors[0].field, "kind");
    let again = clients.templates.import(import()).await.unwrap().into_inner();
    assert_eq!(again.items[0].result(), api::ImportResult::Unchanged);
    let nothing = api::ImportTemplatesRequest { yaml: "a: [".into(), replace: false };
    assert_eq!(faults(clients.templates.import(nothing).await), ["documents[1]"]);

    let list = async |clients: &mut Clients, request: api::ListTemplatesRequest| {
        let page = clients.templates.list(request).await.unwrap().into_inner();
        (page.items.into_iter().map(|one| one.name).collect::<Vec<_>>(), page.next_cursor)
    };
    let (first, cursor) =
        list(&mut clients, api::ListTemplatesRequest { limit: Some(1), ..Default::default() }).await;
    assert_eq!((first, cursor.is_some()), (vec!["one".to_owned()], true));
    let (rest, end) = list(&mut clients, api::ListTemplatesRequest { cursor, ..Default::default() }).await;
    assert_eq!((rest, end), (vec!["two".to_owned()], None));
    let filter = api::ListTemplatesRequest {
        app_type: api::AppType::Webapp.into(),
        category: Some("Browsers".into()),
        ..Default::default()
    };
    assert_eq!(list(&mut clients, filter).await.0, ["one"]);
    let unknown = api::ListTemplatesRequest { app_type: 99, ..Default::default() };
    assert_eq!(faults(clients.templates.list(unknown).await), ["app_type"]);
    // Everybody may read.
    let alice = server.user("alice", "user").await;
    let all = list(&mut Clients::with(&server, Some(&alice)), api::ListTemplatesRequest::default()).await;
    assert_eq!(all.0, ["one", "two"]);
    server.stop().await;
}

#[tokio::test]
async fn faults_of_a_template_are_named_as_over_rest() {
    let (_folder, server, mut clients) = start().await;
    let template = api::Template {
        icon: "javascript:alert(1)".into(),
        tags: vec!["a".into(), "a".into()],
        spec: Some(api::SessionSpec {
            resources: Some(api::Resources { memory: Some("lots".into()), ..Default::default() }),
            ..Default::default()
        }),
        ..firefox()
    };
    let mut told =
        faults(clients.templates.create(api::CreateTemplateRequest { template: Some(template) }).await);
    told.sort_unstable();
    assert_eq!(told, ["icon", "spec.resources.memory", "tags[1]"]);
    assert_eq!(faults(clients.templates.create(api::CreateTemplateRequest::default()).await), ["template"]);
    let unnamed = api::Template { name: String::new(), ..firefox() };
    assert_eq!(
        faults(clients.templates.create(api::CreateTemplateRequest { template: Some(unnamed) }).await),
        ["name"]
    );
    let other = api::Template { name: "chrome".into(), ..firefox() };
    assert_eq!(faults(clients.templates.put(put(other, None)).await), ["name"]);
    let patch = api::PatchTemplateRequest { name: "firefox".into(), ..Default::default() };
    assert_eq!(faults(clients.templates.patch(patch).await), ["patch"]);
    server.stop().await;
}

#[tokio::test]
async fn controllers_are_the_same_over_both() {
    let (_folder, server, mut clients) = start().await;
    let all =
        clients.admin.list_controllers(api::ListControllersRequest {}).await.unwrap().into_inner().items;
    let shown = server.get("/api/v1/admin/controllers").await.json();
    assert_eq!((all.len(), shown.as_array().unwrap().len()), (1, 1));
    let id = all[0].id.clone();
    let path = format!("/api/v1/admin/controllers/{id}");
    running(&server, "alice").await;

    let patch = api::PatchControllerRequest {
        id: id.clone(),
        draining: Some(true),
        labels: [("tier".to_owned(), "gold".to_owned())].into(),
        remove_labels: vec![],
    };
    let patched = clients.admin.patch_controller(patch).await.unwrap().into_inner();
    assert!(patched.draining && patched.labels["tier"] == "gold" && patched.labels["region"] == "lab");
    let read = clients
        .admin
        .get_controller(api::GetControllerRequest { id: id.clone() })
        .await
        .unwrap()
        .into_inner();
    let shown: Value = server.get(&path).await.json();
    for (field, value) in [
        ("id", json!(read.id)),
        ("type", json!(read.r#type)),
        ("name", json!(read.name)),
        ("sessions", json!(read.sessions)),
        ("endpoint", json!(read.endpoint)),
        ("labels", json!(read.labels)),
        ("draining", json!(read.draining)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    let can = read.capabilities.unwrap();
    assert_eq!(shown["capabilities"]["supports_hibernation"], can.supports_hibernation);
    assert_eq!(shown["capabilities"]["capacity"]["max_sessions"], can.capacity.unwrap().max_sessions);
    // A controller that is being emptied gets no new session.
    let spec = Some(api::SessionSpec { base_image: Some("i".into()), ..Default::default() });
    let waiting = clients.sessions.create(api::CreateSessionRequest { spec, ..Default::default() }).await;
    assert_eq!(waiting.unwrap().into_inner().phase(), api::SessionPhase::Pending);

    let remove = api::PatchControllerRequest {
        id: id.clone(),
        draining: None,
        labels: [].into(),
        remove_labels: vec!["tier".into()],
    };
    let patched = clients.admin.patch_controller(remove).await.unwrap().into_inner();
    assert!(patched.draining && !patched.labels.contains_key("tier"), "{patched:?}");
    let both = api::PatchControllerRequest {
        id: id.clone(),
        draining: None,
        labels: [("tier".to_owned(), "gold".to_owned())].into(),
        remove_labels: vec!["tier".into()],
    };
    assert_eq!(faults(clients.admin.patch_controller(both).await), ["remove_labels[0]"]);
    let unknown = api::PatchControllerRequest { id: "ctrl-none".into(), ..Default::default() };
    assert_eq!(refusal(clients.admin.patch_controller(unknown).await).0, Code::NotFound);
    let unknown = api::GetControllerRequest { id: "ctrl-none".into() };
    assert_eq!(refusal(clients.admin.get_controller(unknown).await).0, Code::NotFound);

    let delete = |force| api::DeleteControllerRequest { id: id.clone(), force };
    let refused = clients.admin.delete_controller(delete(false)).await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "HAS_SESSIONS".into()));
    let deleted = clients.admin.delete_controller(delete(true)).await.unwrap().into_inner();
    assert_eq!(deleted.forgotten, 1);
    assert_eq!(server.get(&path).await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::builtin::BUILTIN;
use super::*;

mod documented;

#[test]
fn built_in_connectors_are_valid() {
    for builtin in BUILTIN {
        let json = serde_json::from_str(builtin.spec).unwrap_or_else(|error| {
            panic!("{}: {error}", builtin.name);
        });
        if let Err(problem) = Spec::parse(json) {
            panic!("{}: {problem}", builtin.name);
        }
    }
}

/// A request of an example of `examples/alerts` for an alert, and its body as JSON.
fn alerted(spec: &Value, options: &[(&str, &str)], alert: Value) -> (Request, Value) {
    let spec = parsed(spec.clone());
    let mut message = message("alert", json!([]));
    message.payload["alert"] = alert;
    let server = server(&spec, options);
    let secrets = secrets(&[("access_token", "xoxb-1"), ("routing_key", "R0")]);
    let mut values = Values::new(&spec, &server, &secrets, &message);
    let step = &spec.operation("alert").expect("an operation").steps()[0];
    let request = values.request(step).expect("a request");
    let body = serde_json::from_slice(&request.body).expect("JSON");
    (request, body)
}

#[test]
fn examples_for_alerts_say_what_is_and_what_is_over() {
    let alert = json!({
        "summary": "segment \"a{alert.key}\": its refresh failed", "detail": null, "on": "failed", "was": "ok",
        "is": "failed", "firing": true, "event": false, "flapping": false, "since": "2026-11-30T00:00:00Z",
        "key": "r s refresh", "rule": "r",
    });
    let over = {
        let mut over = alert.clone();
        over["firing"] = json!(false);
        over["detail"] = json!("why");
        over
    };
    let slack = serde_json::from_str(include_str!("../../../examples/alerts/slack.json"));
    let slack: Value = slack.expect("JSON");
    let (request, body) = alerted(&slack, &[("channel", "#data")], alert.clone());
    assert_eq!(request.address.to_string(), "https://slack.com/api/chat.postMessage");
    assert_eq!(body["text"], alert["summary"]);
    let blocks = |body: &Value| body["attachments"][0]["blocks"].as_array().map(Vec::len);
    assert_eq!(blocks(&body), Some(3));
    let (_, body) = alerted(&slack, &[("channel", "#data")], over.clone());
    assert_eq!(blocks(&body), Some(4));

    let pagerduty = serde_json::from_str(include_str!("../../../examples/alerts/pagerduty.json"));
    let pagerduty: Value = pagerduty.expect("JSON");
    let (_, body) = alerted(&pagerduty, &[], alert);
    assert_eq!(
        (&body["event_action"], &body["dedup_key"]),
        (&json!("trigger"), &json!("r s refresh"))
    );
    assert_eq!(body["routing_key"], "R0");
    let (_, body) = alerted(&pagerduty, &[], over);
    assert_eq!(body["event_action"], "resolve");
}

/// Random numbers, the same in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

/// A spec with the operations `create` and `add`, of one step each.
fn spec(create: Value, add: Value) -> Spec {
    parsed(json!({
        "hosts": {"api": "https://x.example/v1"},
        "options": {"list": {}},
        "secrets": {"access_token": {}, "key": {}},
        "headers": {"Authorization": "Bearer {token}"},
        "fields": {"mail": {"as": "e-mail"}, "name": {"as": "n"}},
        "operations": {"create": [create], "add": [add]},
    }))
}

fn parsed(json: Value) -> Spec {
    Spec::parse(json).unwrap_or_else(|problem| panic!("{problem}"))
}

fn refusal(mut change: Value) -> String {
    let mut json = json!({
        "hosts": {"api": "https://x.example"}, "fields": {"mail": {"as": "e-mail"}},
        "operations": {"add": [{"name": "add", "url": "/a"}]},
    });
    json.as_object_mut().expect("an object").append(change.as_object_mut().expect("an object"));
    Spec::parse(json).expect_err("refused")
}

fn server(spec: &Spec, options: &[(&str, &str)]) -> Server {
    let options = options.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Server::new("s", spec, options).expect("valid options")
}

fn message(operation: &str, members: Value) -> Message {
    let fields = members.pointer("/0").and_then(Value::as_object);
    Message {
        id: 7,
        first_id: 7,
        operation: operation.into(),
        part: 1,
        parts: 1,
        audience: "vip".into(),
        fields: fields.map(|fields| fields.keys().cloned().collect()).unwrap_or_default(),
        payload: json!({ "members": members }),
        ..Message::default()
    }
}

fn secrets(secrets: &[(&str, &str)]) -> BTreeMap<String, String> {
    secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn answer(status: u16, text: &str) -> Answer {
    Answer {
        status,
        json: serde_json::from_str(text).unwrap_or_default(),
        text: text.into(),
        ..Answer::default()
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
}

/// What the first step of an operation makes of an answer, and the work after it.
fn answered<T>(
    (spec, operation, progress): (&Spec, &str, Progress),
    secrets: &BTreeMap<String, String>,
    answer: &Answer,
    seen: impl FnOnce(Next, &Work<'_>) -> T,
) -> T {
    let (server, message) = (server(spec, &[]), message(operation, json!([])));
    let values = Values::new(spec, &server, secrets, &message);
    let mut work = Work::new(spec, spec.operation(operation).expect("known"), values, progress);
    let step = work.step().expect("a step");
    let next = work.answered(step, answer, now());
    seen(next, &work)
}

/// Texts that mean something in the forms in which values are sent.
const HOSTILE: [&str; 22] = [
    "",
    " ",
    "\"",
    "\\",
    "'",
    "\r\n",
    "\n",
    ",",
    "{token}",
    "{{",
    "}",
    "%2F",
    "../",
    "?a=b&c",
    "#",
    "=cmd()",
    "\u{feff}",
    "é\u{1f600}",
    "--segmenter-7-0",
    "\u{1}",
    "\";}],",
    "</script>",
];

fn hostile(random: &mut Random) -> String {
    (0..=random.below(5)).map(|_| random.one_of(&HOSTILE)).collect()
}

fn hostile_members(random: &mut Random) -> Vec<Map<String, Value>> {
    let count = random.below(6);
    let mut member = || {
        let name = format!("x{}", hostile(random));
        Map::from_iter([
            ("mail".to_owned(), Value::from(format!("y{}", hostile(random)))),
            ("name".to_owned(), name.into()),
        ])
    };
    (0..count).map(|_| member()).collect()
}

#[test]
fn data_cannot_leave_their_place() {
    let bodies = [
        json!({"json": {"rows": {"$members": {"$fields": "{field.value}"}}, "a": "{audience}"}}),
        json!({"form": {"rows": {"$json": {"$members": {"$fields": "{field.value}"}}}, "a": "{audience}"}}),
        json!({"csv": {"header": true}}),
        json!({"multipart": [{"name": "file", "csv": {}}, {"name": "a", "text": "{audience}"}]}),
    ];
    let mut random = Random(20);
    for _ in 0..500 {
        for (kind, body) in bodies.iter().enumerate() {
            let add = json!({
                "name": "add", "url": "/lists/{external_id}/x{options.list}:do", "query": {"q": "{audience}"}, "body": body,
            });
            let spec = spec(json!({"name": "create", "url": "/lists"}), add);
            let members = hostile_members(&mut random);
            let mut message = message("add", json!(members));
            (message.audience, message.external_id) =
                (hostile(&mut random), Some(hostile(&mut random)));
            let (list, secrets) = (hostile(&mut random), secrets(&[]));
            let server = server(&spec, &[("list", &list)]);
            let mut values = Values::new(&spec, &server, &secrets, &message);
            let Some(Operation::Steps(steps)) = spec.operation("add") else { panic!("no steps") };
            let request = match values.request(&steps[0]) {
                Ok(request) => request,
                // An encoded slash, and what is no part of a path, are refused.
                Err(problem) => {
                    assert!(problem.contains("URL"), "{problem}");
                    continue;
                }
            };
            let url = request.address.to_string();
            assert!(url.starts_with("https://x.example/v1/lists/"), "{url}");
            assert_eq!(request.address.uri().path().split('/').count(), 5, "{url}");
            let query = request.address.uri().query().unwrap_or_default().as_bytes();
            let query: Vec<_> = form_urlencoded::parse(query).collect();
            assert_eq!(query, [("q".into(), message.audience.as_str().into())]);
            let rows: Vec<Vec<Value>> =
                members.iter().map(|member| member.values().cloned().collect()).collect();
            let body = request.body.as_slice();
            let csv = |text: &[u8], has_headers| -> Vec<Vec<Value>> {
                let mut reader =
                    csv::ReaderBuilder::new().has_headers(has_headers).from_reader(text);
                let row = |row: csv::StringRecord| row.iter().map(Value::from).collect();
                reader.records().map(|record| row(record.expect("CSV"))).collect()
            };
            let read = match kind {
                0 => {
                    let body: Value = serde_json::from_slice(body).expect("JSON");
                    assert_eq!(body["a"], message.audience.as_str());
                    serde_json::from_value(body["rows"].clone()).expect("rows")
                }
                1 => {
                    let form: BTreeMap<_, _> = form_urlencoded::parse(body).collect();
                    assert_eq!(form["a"], message.audience);
                    serde_json::from_str(&form["rows"]).expect("rows")
                }
                2 if members.is_empty() => Vec::new(),
                2 => csv(body, true),
                _ => {
                    let parts = parts(&request.headers["content-type"], body);
                    assert_eq!(parts.len(), 2);
                    assert_eq!(parts[1], message.audience.as_bytes());
                    csv(&parts[0], false)
                }
            };
            assert_eq!(read, rows, "{kind}");
        }
    }
}

/// The contents of a multipart body.
fn parts(content_type: &str, body: &[u8]) -> Vec<Vec<u8>> {
    let (_, boundary) = content_type.split_once("boundary=").expect("a boundary");
    let text = String::from_utf8(body.to_vec()).expect("UTF-8");
    let text = format!("\r\n{text}");
    let mut parts: Vec<&str> = text.split(&format!("\r\n--{boundary}")).collect();
    assert_eq!((parts.remove(0), parts.pop()), ("", Some("--\r\n")));
    let content = |part: &&str| part.split_once("\r\n\r\n").expect("a head").1.as_bytes().to_vec();
    parts.iter().map(content).collect()
}

#[test]
fn an_empty_value_is_no_part_of_a_path() {
    let spec = spec(
        json!({"name": "create", "url": "/lists/"}),
        json!({"name": "add", "url": "/lists/{external_id}"}),
    );
    let (server, secrets) = (server(&spec, &[]), secrets(&[]));
    for id in ["", ".", "..", "a/b"] {
        let message = Message { external_id: Some(id.into()), ..message("add", json!([])) };
        let mut values = Values::new(&spec, &server, &secrets, &message);
        let step = &spec.operation("add").expect("known").steps()[0];
        assert!(values.request(step).is_err(), "{id:?}");
        let step = &spec.operation("create").expect("known").steps()[0];
        let request = values.request(step).expect("a request");
        assert_eq!(request.address.to_string(), "https://x.example/v1/lists/");
    }
}

#[test]
fn mutated_specs_are_parsed_or_refused() {
    let odd = [
        Value::Null,
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!("{"),
        json!("{member.x}"),
        json!("(a{1000}){1000}"),
        json!("\u{0}"),
        json!([]),
        json!({}),
        json!({"$use": "members"}),
        json!({"$json": {"$json": {"$json": "\""}}}),
    ];
    let mut random = Random(1);
    let whole: Vec<Value> =
        BUILTIN.iter().map(|builtin| serde_json::from_str(builtin.spec).expect("JSON")).collect();
    for _ in 0..5_000 {
        let mut json = random.one_of(&whole);
        for _ in 0..=random.below(3) {
            let other = random.one_of(&whole);
            let other = inner(&mut random, &other).clone();
            let odd = if random.below(2) == 0 { other } else { random.one_of(&odd) };
            mutate(&mut random, &mut json, odd);
        }
        let _ = Spec::parse(json);
    }
}

fn inner<'a>(random: &mut Random, json: &'a Value) -> &'a Value {
    let items: Vec<&Value> = match json {
        Value::Object(entries) => entries.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => return json,
    };
    if items.is_empty() || random.below(4) == 0 {
        return json;
    }
    let item = random.one_of(&items);
    inner(random, item)
}

fn mutate(random: &mut Random, json: &mut Value, odd: Value) {
    let is_here = random.below(5) == 0;
    let mut items: Vec<&mut Value> = match json {
        Value::Object(entries) if !is_here => entries.values_mut().collect(),
        Value::Array(items) if !is_here => items.iter_mut().collect(),
        _ => Vec::new(),
    };
    match items.is_empty() {
        true => *json = odd,
        false => {
            let at = random.below(items.len());
            mutate(random, items[at], odd);
        }
    }
}

#[test]
fn templates_cannot_grow_without_limit() {
    // Each uses the next one twice.
    let mut templates: Map<String, Value> = (0..30)
        .map(|n| {
            (
                format!("t{n}"),
                json!([{"$use": format!("t{}", n + 1)}, {"$use": format!("t{}", n + 1)}]),
            )
        })
        .collect();
    templates.insert("t30".into(), json!("x"));
    assert!(refusal(json!({ "templates": templates })).contains("more than 10000 values"));
    let add = |body: Value| json!({"operations": {"add": [{"name": "add", "url": "/a", "body": {"json": body}}]}});
    let nested = |directive: &str, depth| {
        (0..depth).fold(json!("\\"), |inner, _| json!({ directive: inner }))
    };
    assert!(refusal(add(nested("$json", 40))).contains("cannot be nested deeper than 2"));
    assert!(refusal(add(nested("$fields", 2))).contains("cannot stand within another"));
    assert!(refusal(add(json!({"$members": "{message.payload}"}))).contains("cannot stand here"));
}

#[test]
fn secrets_are_masked_in_every_form() {
    let spec = spec(json!({"name": "create", "url": "/a"}), json!({"name": "add", "url": "/a"}));
    let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n0123456789abcdefghij\n-----END PRIVATE KEY-----\n";
    for secret in
        ["to\"ken/+é[.*](x)", "abc", "a", "tökén", pem, "a\\nb-long-enough-to-be-one-line"]
    {
        let secrets = secrets(&[("access_token", secret), ("key", &format!("{secret}2"))]);
        let json = Value::from(secret).to_string();
        let echoes = [
            secret.to_owned(),
            json[1..json.len() - 1].to_owned(),
            json[1..json.len() - 1].replace('é', "\\u00e9").replace('ö', "\\u00f6"),
            form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC)
                .to_string(),
            one_line(secret),
        ];
        let long = (secret.len() > 3).then(|| data_encoding::BASE64.encode(secret.as_bytes()));
        for echo in echoes.into_iter().chain(long) {
            for before in ["", &"x ".repeat(290), &"x ".repeat(297)] {
                let text = format!("{before}token {echo} is wrong");
                answered(
                    (&spec, "add", Progress::default()),
                    &secrets,
                    &answer(400, &text),
                    |next, _| {
                        let Next::Failed(Verdict { problem, .. }) = next else {
                            panic!("{next:?}")
                        };
                        assert!(problem.starts_with("400 Bad Request: "), "{problem}");
                        assert!(problem.chars().count() <= 600);
                        let shown = problem.split_once("token ").map(|(_, shown)| shown);
                        let shown = shown.unwrap_or_default().trim_end_matches(" is wrong");
                        assert!(
                            shown.chars().all(|c| "* iswrong".contains(c)),
                            "{secret:?}: {problem}"
                        );
                    },
                );
            }
        }
    }
}

#[test]
fn what_is_taken_holds_no_secret() {
    let create = json!({"name": "create", "url": "/a", "take": {
        "external_id": "/id", "message": "/message", "values": {"v": "/value"}, "keep": {"k": "/kept"},
    }});
    let spec = spec(
        create,
        json!({"name": "add", "url": "/a", "query": {"v": "{taken.v}", "k": "{kept.k}"}}),
    );
    let secrets = secrets(&[("access_token", "top-secret")]);
    let create = |text: &str| {
        let progress = (&spec, "create", Progress::default());
        answered(progress, &secrets, &answer(200, text), |next, work| (next, work.progress.clone()))
    };
    let (next, progress) = create(r#"{"id": "1", "message": "thanks for top-secret"}"#);
    assert_eq!((next, &progress.receipt["message"]), (Next::Step, &json!("thanks for ********")));
    for text in [
        r#"{"id": "x top-secret"}"#,
        r#"{"id": "1", "value": "top-secret"}"#,
        r#"{"id": "1", "kept": {"x": "top-secret"}}"#,
    ] {
        let (next, progress) = create(text);
        assert!(matches!(next, Next::Failed(Verdict { meaning: Meaning::Stop, .. })), "{next:?}");
        assert!(!json!(progress).to_string().contains("top-secret"), "{progress:?}");
    }
}

#[test]
fn the_id_of_an_audience_is_kept_whatever_else_the_answer_has() {
    let take =
        json!({"external_id": "/id", "message": "/m", "coverage": "/c", "num_received": "/r"});
    let create = json!({"name": "create", "url": "/a", "take": take});
    let spec = spec(create, json!({"name": "add", "url": "/a"}));
    let create = |text: &str| {
        let progress = (&spec, "create", Progress::default());
        answered(progress, &secrets(&[]), &answer(200, text), |next, work| (next, work.receipt()))
    };
    let long = "x".repeat(100_000);
    for rest in [
        json!({"m": {"a": 1}}),
        json!({"m": long}),
        json!({"c": -1}),
        json!({"c": "x"}),
        json!({"r": [1]}),
    ] {
        let mut json = rest.clone();
        json["id"] = json!(15);
        let (next, receipt) = create(&json.to_string());
        assert_eq!((next, receipt.external_id.as_deref()), (Next::Step, Some("15")), "{rest}");
    }
    for id in [json!(""), json!("a\nb"), json!("x".repeat(1001)), json!({}), Value::Null] {
        let (next, _) = create(&json!({ "id": id }).to_string());
        // It was made over there: trying again would make another one.
        assert!(matches!(next, Next::Failed(Verdict { meaning: Meaning::Stop, .. })), "{id}");
    }
}

#[test]
fn work_goes_on_by_the_names_of_steps() {
    let spec = |names: &[&str]| {
        let steps: Vec<_> = names.iter().map(|name| json!({"name": name, "url": "/a"})).collect();
        parsed(json!({"hosts": {"api": "https://x.example"}, "operations": {"add": steps}}))
    };
    let secrets = secrets(&[]);
    let first = spec(&["upload", "confirm"]);
    let done =
        answered((&first, "add", Progress::default()), &secrets, &answer(200, "{}"), |_, work| {
            work.progress.clone()
        });
    for (names, next) in [
        (&["upload", "confirm"][..], Some("confirm")),
        (&["begin", "upload", "confirm"], Some("confirm")),
        (&["upload"], None),
        (&["confirm"], Some("changed")),
    ] {
        let spec = spec(names);
        let (server, message) = (server(&spec, &[]), message("add", json!([])));
        let values = Values::new(&spec, &server, &secrets, &message);
        let mut work =
            Work::new(&spec, spec.operation("add").expect("known"), values, done.clone());
        match work.check() {
            Ok(()) => assert_eq!(work.step().map(|step| step.name.as_str()), next),
            Err(problem) => assert!(problem.contains(next.expect("a problem")), "{problem}"),
        }
    }
}

#[test]
fn polling_ends_although_the_clock_was_ahead() {
    let poll = json!({"state": "/state", "done": ["ready"], "every": 10, "within": 60});
    let spec = parsed(json!({
        "hosts": {"api": "https://x.example"},
        "operations": {"add": [{"name": "look", "method": "GET", "url": "/a", "poll": poll}]},
    }));
    let since = |since: TimeDelta| {
        let progress =
            Progress { message: 7, polled_since: Some(now() - since), ..Progress::default() };
        answered((&spec, "add", progress), &secrets(&[]), &answer(200, "{}"), |next, work| {
            (matches!(next, Next::Wait(_)), work.progress.polled_since)
        })
    };
    assert_eq!(since(TimeDelta::seconds(59)), (true, Some(now() - TimeDelta::seconds(59))));
    assert_eq!(since(TimeDelta::seconds(60)), (false, None));
    assert_eq!(since(TimeDelta::days(-365)), (true, Some(now())));
}

#[test]
fn an_audience_is_not_emptied_by_values_of_a_wrong_form() {
    let spec = parsed(json!({
        "hosts": {"api": "https://x.example"},
        "fields": {"mail": {"as": "e-mail", "form": "sha256"}},
        "operations": {"replace": [{"name": "put", "url": "/a", "body": {"json": {"$members": "{member.mail}"}}}]},
    }));
    let (server, secrets) = (server(&spec, &[]), secrets(&[]));
    let hash = "0f".repeat(32);
    for (members, is_sent) in [
        (json!([{"mail": "a@example.com"}, {"mail": null}]), false),
        (json!([{"mail": "a@example.com"}, {"mail": hash}]), true),
        (json!([]), true),
    ] {
        let message = message("replace", members);
        let values = Values::new(&spec, &server, &secrets, &message);
        let operation = spec.operation("replace").expect("known");
        let work = Work::new(&spec, operation, values, Progress::default());
        match work.check() {
            Ok(()) => assert!(is_sent),
            Err(problem) => assert!(!is_sent && problem.contains("2 members"), "{problem}"),
        }
    }
}

#[test]
fn parts_know_their_operation_when_earlier_ones_are_deleted() {
    let kept = |progress: &Progress| Some(json!(progress));
    let position = |message, first, after, total| Position { message, first, after, total };
    // Parts 11, 13 and 15, after an operation that ended with 9.
    let mut first = Progress::of(None, position(11, 11, 10, 30), now());
    assert_eq!((first.first, first.total, first.began_at), (11, 30, Some(now())));
    first.kept.insert("session".into(), json!("s"));
    let later = now() + TimeDelta::days(9);
    for left in [position(13, 11, 10, 30), position(13, 13, 9, 20)] {
        let second = Progress::of(kept(&first), left, later);
        assert_eq!((second.message, second.first, second.total), (13, 11, 30), "{left:?}");
        assert_eq!((second.began_at, second.kept.len()), (Some(now()), 1), "{left:?}");
        let third = Progress::of(kept(&second), position(15, 15, 9, 10), later);
        assert_eq!((third.first, third.total, third.kept.len()), (11, 30, 1));
        // The same message again: nothing is looked for.
        assert_eq!(Progress::of(kept(&third), position(15, 15, 9, 10), later), third);
    }
    // What an earlier operation has left behind is not of this one, whatever is left of it.
    for left in [position(17, 17, 16, 5), position(19, 19, 15, 5)] {
        let other = Progress::of(kept(&first), left, later);
        assert_eq!((other.first, other.total), (left.first, 5), "{left:?}");
        assert_eq!((other.began_at, other.kept.len()), (Some(later), 0), "{left:?}");
    }
}

#[test]
fn what_the_platform_could_not_process_is_sent_again() {
    let poll = json!({"state": "/state", "done": ["ready"], "failed": ["failed"], "every": 10, "within": 60});
    let spec = parsed(json!({
        "hosts": {"api": "https://x.example"},
        "operations": {"add": [
            {"name": "upload", "url": "/a", "take": {
                "external_id": "/id", "num_received": "/n", "values": {"v": "/v"}, "keep": {"k": "/v"}}},
            {"name": "look", "method": "GET", "url": "/a", "query": {"v": "{taken.v}", "k": "{kept.k}"}, "poll": poll},
        ]},
    }));
    let secrets = secrets(&[]);
    let step = |progress: &Progress, text: &str| {
        answered((&spec, "add", progress.clone()), &secrets, &answer(200, text), |next, work| {
            (next, work.progress.clone())
        })
    };
    let (next, sent) = step(&Progress::default(), r#"{"id": "5", "n": 3, "v": "x"}"#);
    assert_eq!((next, sent.last.as_deref(), sent.taken.len()), (Next::Step, Some("upload"), 1));
    let (next, waiting) = step(&sent, r#"{"state": "busy"}"#);
    assert_eq!(next, Next::Wait(std::time::Duration::from_secs(10)));
    let (next, failed) = step(&waiting, r#"{"state": "failed"}"#);
    assert!(matches!(next, Next::Failed(Verdict { meaning: Meaning::Stop, .. })), "{next:?}");
    let begun = Progress {
        began_at: sent.began_at,
        external_id: Some("5".into()),
        kept: sent.kept.clone(),
        ..Progress::default()
    };
    assert_eq!(failed, begun);
    let (_, again) = step(&failed, r#"{"id": "5", "n": 3, "v": "y"}"#);
    assert_eq!(
        (again.last.as_deref(), &again.receipt["num_received"]),
        (Some("upload"), &json!(3))
    );
    // What takes too long may be processed yet: it is only asked for.
    let long = Progress { polled_since: Some(now() - TimeDelta::hours(1)), ..sent.clone() };
    let (next, late) = step(&long, r#"{"state": "busy"}"#);
    assert!(matches!(next, Next::Failed(Verdict { meaning: Meaning::Stop, .. })), "{next:?}");
    assert_eq!(late, sent);
}

#[test]
fn that_the_audience_is_gone_is_kept_until_the_platform_says_otherwise() {
    let add = json!({"name": "add", "url": "/a", "answers": [{"status": [404], "do": "gone"}]});
    let spec = spec(json!({"name": "create", "url": "/a"}), add);
    let gone = |progress: Progress, status| {
        answered((&spec, "add", progress), &secrets(&[]), &answer(status, "{}"), |_, work| {
            work.progress.clone()
        })
    };
    let said = gone(Progress::default(), 404);
    assert_eq!((said.is_gone, &json!(said)["gone"]), (true, &json!(true)));
    for (status, is_gone) in [(404, true), (503, false), (200, false)] {
        assert_eq!(gone(said.clone(), status).is_gone, is_gone, "{status}");
    }
}

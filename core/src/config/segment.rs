//! Parses and validates the columns `refresh_params`, `guards` and `sources` of a segment.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ConfigError, Result, Subject, object, objects, optional_object, subscription_params, typed,
};
use crate::guards::Guards;
use crate::schedule;

const REFRESHERS: &str = "Give exactly one of {\"query\": {\"sql\": ...}}, {\"procedure\": {\"sql\": \"call ...()\"}}, {\"incremental\": {\"changed\": ... or \"watch\": [...], \"sql\": ..., \"expires\": ..., \"full_cron\": ...}}, {\"family\": ...} for the rows of a family with the segment's name, or {} for a segment that is loaded by hand.";
const GUARDS: &str = "The guards are min_members, max_members, max_added, max_removed (numbers of members), max_change (a share, 0 to 1), allow_empty (true or false) and unusual (an object with deviations, runs and only_tell).";
const RETENTION: &str = "Give {\"keep\": \"2 years\", \"without_contacts_after\": \"90 days\"}, or one of them; {} keeps former members for ever.";
const SOURCES: &str = "Give a list of {\"table\": ..., \"loaded_at\": ..., \"warn_after\": ..., \"error_after\": ..., \"filter\": ..., \"min_rows\": ...}, {\"name\": ..., \"ready\": \"select ...\"} or {\"segment\": ..., \"max_age\": ...}.";

/// The column `refresh_params`: how the members are recomputed.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Refresher {
    /// One SELECT that returns the members.
    #[serde(deserialize_with = "object")]
    Query(Query),
    /// A CALL that changes the segment table itself.
    #[serde(deserialize_with = "object")]
    Procedure(Sql),
    /// A source of the ids that may have changed, and a query that returns the members among them.
    #[serde(deserialize_with = "object")]
    Incremental(Incremental),
    /// The family of the segment, by its name: the segment's members are the rows for it.
    Family(String),
}

impl Refresher {
    /// The SELECT that returns the members, and for a family the segment of each; none: it has none.
    pub fn members_sql(&self) -> Option<&str> {
        match self {
            Self::Query(query) => Some(&query.sql),
            Self::Incremental(incremental) => Some(&incremental.sql),
            Self::Procedure(_) | Self::Family(_) => None,
        }
    }

    /// Whether it is that of a family: its rows are for many segments.
    pub fn is_family(&self) -> bool {
        match self {
            Self::Query(query) => query.family,
            Self::Incremental(incremental) => incremental.family,
            Self::Procedure(_) | Self::Family(_) => false,
        }
    }

    /// What the segments are made of that a family finds; none: it makes none.
    pub fn create(&self) -> Option<&NewMember> {
        match self {
            Self::Query(query) => query.create.as_ref(),
            Self::Incremental(incremental) => incremental.create.as_ref(),
            Self::Procedure(_) | Self::Family(_) => None,
        }
    }

    /// The same for one segment of the family, with the query of its rows.
    pub fn of_member(self, sql: String) -> Self {
        match self {
            Self::Query(_) => Self::Query(Query { sql, family: false, create: None }),
            Self::Incremental(incremental) => {
                Self::Incremental(Incremental { sql, family: false, create: None, ..incremental })
            }
            other => other,
        }
    }

    /// Checks the rules that the types do not express.
    fn validate(&self) -> std::result::Result<(), String> {
        let named = |key, problem| format!("\"{key}\": {problem}");
        match self {
            Self::Query(query) => NewMember::validate(query.create.as_ref(), query.family)
                .map_err(|problem| named("query", problem)),
            Self::Incremental(incremental) => incremental
                .validate()
                .and_then(|()| NewMember::validate(incremental.create.as_ref(), incremental.family))
                .map_err(|problem| named("incremental", problem)),
            Self::Family(name) if name.trim().is_empty() => {
                Err("\"family\" must not be empty or blank".into())
            }
            Self::Procedure(_) | Self::Family(_) => Ok(()),
        }
    }
}

/// A query refresher.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    pub sql: String,
    /// Whether its rows are for many segments, which the column `segment` names.
    #[serde(default, skip_serializing_if = "is_false")]
    pub family: bool,
    /// What the segments are made of that the column `segment` names and that do not exist.
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub create: Option<NewMember>,
}

impl Query {
    /// The query of a segment that has one of its own.
    pub fn of(sql: &str) -> Self {
        Self { sql: sql.to_owned(), family: false, create: None }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What a family makes a segment of for a name that is new.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<NewSubscription>,
}

/// A subscription of a segment that a family makes.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewSubscription {
    pub consumer: String,
    /// By default the segment's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
}

impl NewMember {
    fn validate(create: Option<&Self>, family: bool) -> std::result::Result<(), String> {
        let Some(create) = create else { return Ok(()) };
        if !family {
            return Err("\"create\" is for families: it takes \"family\": true".into());
        }
        let subject = Subject::Segment("");
        if let Some(guards) = &create.guards {
            self::guards(guards.clone(), subject)
                .map_err(|error| format!("\"create\": \"guards\": {}", error.problem))?;
        }
        for subscription in &create.subscriptions {
            subscription
                .validate()
                .map_err(|problem| format!("\"create\": \"subscriptions\": {problem}"))?;
        }
        Ok(())
    }
}

impl NewSubscription {
    fn validate(&self) -> std::result::Result<(), String> {
        let target = self.target.as_deref();
        for (key, text) in [("consumer", Some(self.consumer.as_str())), ("target", target)] {
            if text.is_some_and(|text| text.trim().is_empty()) {
                return Err(format!("\"{key}\" must not be empty or blank"));
            }
        }
        let Some(params) = &self.params else { return Ok(()) };
        subscription_params(params.clone(), Subject::Subscription(target.unwrap_or_default()))
            .map(drop)
            .map_err(|error| format!("\"params\": {}", error.problem))
    }
}

/// The SQL of a procedure refresher.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    pub sql: String,
}

/// The parameters of an incremental refresher. Exactly one of `changed` and `watch` is set; it
/// gives the ids that may have changed.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Incremental {
    /// A query for these ids. `$1` is the watermark: the time since which changes may be unseen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
    /// The tables whose changes are captured by triggers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<Vec<Watched>>,
    /// One SELECT that returns the members among the ids of the relation `changed`.
    pub sql: String,
    /// A query for the ids whose answer the clock alone changes between `$1`, the last refresh, and
    /// `$2`, this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The schedule of the full passes, which compare all ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_cron: Option<String>,
    /// As for a query.
    #[serde(default, skip_serializing_if = "is_false")]
    pub family: bool,
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub create: Option<NewMember>,
}

impl Incremental {
    /// Checks the rules that the types do not express.
    fn validate(&self) -> std::result::Result<(), String> {
        match (&self.changed, &self.watch) {
            (None, None) => return Err("it has neither \"changed\" nor \"watch\"".into()),
            (Some(_), Some(_)) => return Err("it has both \"changed\" and \"watch\"".into()),
            (_, Some(watch)) if watch.is_empty() => return Err("\"watch\" names no table".into()),
            _ => {}
        }
        let full = self.full_cron.as_deref().map(str::parse::<schedule::Schedule>);
        match full {
            Some(Err(error)) => Err(format!("\"full_cron\": {error}")),
            _ => Ok(()),
        }
    }

    /// The schedule of the full passes; `None` if there is none.
    pub fn full_schedule(&self) -> Option<schedule::Schedule> {
        self.full_cron.as_deref()?.parse().ok()
    }
}

/// A table whose changes are captured, and its column that holds the ids.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "WatchedJson")]
pub struct Watched {
    pub table: String,
    pub id: String,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a table is a name or {\"table\": ..., \"id\": ...}"
)]
enum WatchedJson {
    Name(String),
    Table { table: String, id: String },
}

impl From<WatchedJson> for Watched {
    fn from(json: WatchedJson) -> Self {
        match json {
            WatchedJson::Name(table) => Self { table, id: "id".into() },
            WatchedJson::Table { table, id } => Self { table, id },
        }
    }
}

/// One entry of the column `sources`: a source that is checked before a refresh.
#[derive(Debug, Clone)]
pub enum SourceCheck {
    Table(TableSource),
    Ready(ReadySource),
    Segment(SegmentSource),
}

/// A table that is checked for the age of its newest row, the number of its rows, or both.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSource {
    pub table: String,
    pub loaded_at: Option<String>,
    pub warn_after: Option<String>,
    pub error_after: Option<String>,
    pub filter: Option<String>,
    pub min_rows: Option<u64>,
}

impl TableSource {
    /// Checks the rules that the types do not express: an age limit needs `loaded_at`, and there
    /// must be something to check.
    fn validate(&self) -> std::result::Result<(), String> {
        let table = &self.table;
        if self.loaded_at.is_none() && (self.warn_after.is_some() || self.error_after.is_some()) {
            return Err(format!("source \"{table}\" has an age limit but no \"loaded_at\""));
        }
        if self.loaded_at.is_none() && self.min_rows.is_none() {
            return Err(format!(
                "source \"{table}\" has neither \"loaded_at\" nor \"min_rows\": there is nothing to check"
            ));
        }
        Ok(())
    }
}

/// A source that is ready when its query returns true.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadySource {
    pub name: String,
    /// A query that returns one boolean.
    pub ready: String,
}

/// A segment that must have been refreshed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentSource {
    /// The name of an active segment.
    pub segment: String,
    /// The longest time since its last successful refresh; none: it must be refreshed as its
    /// schedule says.
    pub max_age: Option<String>,
}

/// Validates `refresh_params`. An empty object means that the segment has no refresher: `None`.
pub fn refresher(json: Value, subject: Subject<'_>) -> Result<Option<Refresher>> {
    match json.as_object().map(|object| object.len()) {
        Some(0) => return Ok(None),
        Some(1) | None => {}
        Some(keys) => {
            let problem = format!("it has {keys} keys, not one");
            return Err(ConfigError::new("refresh_params", subject, problem, REFRESHERS));
        }
    }
    let refresher: Refresher = typed("refresh_params", json, subject, REFRESHERS)?;
    refresher
        .validate()
        .map_err(|problem| ConfigError::new("refresh_params", subject, problem, REFRESHERS))?;
    Ok(Some(refresher))
}

/// Validates `guards`.
pub fn guards(json: Value, subject: Subject<'_>) -> Result<Guards> {
    let guards: Guards = typed("guards", json, subject, GUARDS)?;
    guards.validate().map_err(|problem| ConfigError::new("guards", subject, problem, GUARDS))?;
    Ok(guards)
}

/// The column `retention`: how long former members are kept. The values are intervals, from the end of a
/// membership period.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Then the row is deleted.
    pub keep: Option<String>,
    /// Then the row keeps its id and its period only.
    pub without_contacts_after: Option<String>,
}

/// Validates `retention`, but for its intervals.
pub fn retention(json: Value, subject: Subject<'_>) -> Result<Retention> {
    typed("retention", json, subject, RETENTION)
}

/// Validates `sources`.
pub fn sources(json: Value, subject: Subject<'_>) -> Result<Vec<SourceCheck>> {
    let Value::Array(entries) = json else {
        return Err(ConfigError::new("sources", subject, format!("{json} is not a list"), SOURCES));
    };
    let refuse = |problem: String| Err(ConfigError::new("sources", subject, problem, SOURCES));
    let source = |entry: Value| {
        if entry.get("ready").is_some() || entry.get("name").is_some() {
            let source: ReadySource = typed("sources", entry, subject, SOURCES)?;
            return match source.name.trim().is_empty() {
                true => refuse("\"name\" must not be empty or blank".to_owned()),
                false => Ok(SourceCheck::Ready(source)),
            };
        }
        if entry.get("segment").is_some() || entry.get("max_age").is_some() {
            let source: SegmentSource = typed("sources", entry, subject, SOURCES)?;
            return match subject {
                Subject::Segment(name) if name == source.segment => {
                    refuse("a segment cannot be a source of its own".to_owned())
                }
                _ => Ok(SourceCheck::Segment(source)),
            };
        }
        let source: TableSource = typed("sources", entry, subject, SOURCES)?;
        source
            .validate()
            .map_err(|problem| ConfigError::new("sources", subject, problem, SOURCES))?;
        Ok(SourceCheck::Table(source))
    };
    entries.into_iter().map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const S: Subject<'_> = Subject::Segment("s");

    fn message<T>(result: Result<T>) -> String {
        match result {
            Ok(_) => panic!("must be refused"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_refresher_has_exactly_one_key() {
        assert!(matches!(refresher(json!({}), S), Ok(None)));
        assert!(matches!(
            refresher(json!({"query": {"sql": "select 1"}}), S),
            Ok(Some(Refresher::Query(_)))
        ));
        assert!(matches!(
            refresher(json!({"incremental": {"changed": "a", "sql": "b"}}), S),
            Ok(Some(Refresher::Incremental(_)))
        ));
        let both = json!({"incremental": {"changed": "a", "watch": ["t"], "sql": "b"}});
        assert!(message(refresher(both, S)).contains("both \"changed\" and \"watch\""));
        let watch = json!({"incremental": {"watch": ["a.b", {"table": "c", "id": "d"}], "sql": "b", "full_cron": "@daily"}});
        match refresher(watch, S) {
            Ok(Some(Refresher::Incremental(Incremental { watch: Some(watch), .. }))) => {
                let named = |table: &str, id: &str| Watched { table: table.into(), id: id.into() };
                assert_eq!(watch, [named("a.b", "id"), named("c", "d")]);
            }
            other => panic!("{other:?}"),
        }
        let expires = json!({"incremental": {"watch": ["t"], "sql": "b", "expires": "select 1"}});
        match refresher(expires.clone(), S) {
            Ok(Some(refresher)) => assert_eq!(
                serde_json::to_value(refresher).expect("serializes")["incremental"]["expires"],
                "select 1"
            ),
            other => panic!("{other:?}"),
        }
        let number = json!({"incremental": {"watch": ["t"], "sql": "b", "expires": 1}});
        assert!(message(refresher(number, S)).contains("expected a text"));
        let alone = json!({"incremental": {"sql": "b", "expires": "select 1"}});
        assert!(message(refresher(alone, S)).contains("neither \"changed\" nor \"watch\""));
        let wrong = json!({"incremental": {"watch": [{"table": "c", "ide": "d"}], "sql": "b"}});
        assert!(message(refresher(wrong, S)).contains("a table is a name or"));
        let never = json!({"incremental": {"changed": "a", "sql": "b", "full_cron": "soon"}});
        assert!(message(refresher(never, S)).contains("\"full_cron\""));
        assert!(message(refresher(json!({"qery": {"sql": ""}}), S)).contains("\"qery\""));
        assert!(message(refresher(json!({"query": {"sql": "", "x": 1}}), S)).contains("\"x\""));
        assert!(message(refresher(json!({"query": {}}), S)).contains("\"sql\""));
        refresher(json!({"query": {"sql": ""}, "procedure": {"sql": ""}}), S)
            .expect_err("two keys");
        refresher(json!([]), S).expect_err("not an object");
        refresher(json!({"query": ["select 1"]}), S).expect_err("not an object inside");
        assert!(message(guards(json!([1]), S)).contains("is not an object"));
        assert!(message(guards(json!({"max_added": "x"}), S)).contains("\"max_added\""));
        refresher(Value::Null, S).expect_err("null");
    }

    #[test]
    fn a_new_segment_of_a_family_is_checked_when_the_family_is() {
        let create = |create: Value| {
            refresher(json!({"query": {"sql": "a", "family": true, "create": create}}), S)
        };
        let all = json!({"guards": {"max_change": 0.5}, "context": "spring", "subscriptions": [
            {"consumer": "ads"}, {"consumer": "ads", "target": "t", "params": {"mode": "delta"}}]});
        assert!(matches!(create(all), Ok(Some(refresher)) if refresher.create().is_some()));
        assert!(matches!(create(Value::Null), Ok(Some(refresher)) if refresher.create().is_none()));
        let wrong = [
            (json!(true), "\"query.create\": true is not an object"),
            (json!([{}]), "is not an object"),
            (json!({"guard": {}}), "unknown key \"guard\""),
            (json!({"subscriptions": {"consumer": "ads"}}), "expected a list"),
            (json!({"subscriptions": ["ads"]}), "\"ads\" is not an object"),
            (json!({"subscriptions": [["ads"]]}), "is not an object"),
            (json!({"subscriptions": [{"target": "t"}]}), "missing key \"consumer\""),
            (json!({"subscriptions": [{"consumer": " "}]}), "\"consumer\" must not be empty"),
            (json!({"subscriptions": [{"consumer": "a", "target": ""}]}), "\"target\" must not"),
            (json!({"subscriptions": [{"consumer": "a", "params": 7}]}), "7 is not an object"),
            (
                json!({"subscriptions": [{"consumer": "a", "params": {"mode": "all"}}]}),
                "\"create\": \"subscriptions\": \"params\": \"mode\"",
            ),
        ];
        for (json, problem) in wrong {
            let message = message(create(json));
            assert!(message.contains(problem), "{message}");
        }
    }

    #[test]
    fn a_retention_has_two_keys() {
        assert!(retention(json!({}), S).is_ok_and(|it| it == Retention::default()));
        let both = json!({"keep": "2 years", "without_contacts_after": "90 days"});
        let both = retention(both, S).expect("both keys");
        assert_eq!(both.keep.as_deref(), Some("2 years"));
        assert_eq!(both.without_contacts_after.as_deref(), Some("90 days"));
        assert!(message(retention(json!({"kept": "1 day"}), S)).contains("\"kept\""));
        assert!(message(retention(json!({"keep": 1}), S)).contains("expected a text"));
        assert!(message(retention(json!(["1 day"]), S)).contains("is not an object"));
    }

    #[test]
    fn a_source_is_a_table_a_query_or_a_segment() {
        let both = json!([{"table": "a.b", "loaded_at": "at", "error_after": "1 day", "min_rows": 1},
                          {"name": "orders", "ready": "select true"}]);
        assert_eq!(sources(both, S).expect("valid").len(), 2);
        assert!(message(sources(json!([{"table": "a", "loadd_at": "b"}]), S)).contains("loadd_at"));
        assert!(message(sources(json!([{"name": "a"}]), S)).contains("ready"));
        assert!(
            message(sources(json!([{"table": "a", "error_after": "1 day"}]), S))
                .contains("loaded_at")
        );
        sources(json!([{"table": "a"}]), S).expect_err("nothing to check");
        let segments = json!([{"segment": "vip"}, {"segment": "staff", "max_age": "1 day"}]);
        match sources(segments, S).expect("valid").as_slice() {
            [SourceCheck::Segment(vip), SourceCheck::Segment(staff)] => {
                assert_eq!((vip.segment.as_str(), &vip.max_age), ("vip", &None));
                assert_eq!(staff.max_age.as_deref(), Some("1 day"));
            }
            other => panic!("{other:?}"),
        }
        assert!(message(sources(json!([{"segment": "a", "age": "1 day"}]), S)).contains("\"age\""));
        assert!(message(sources(json!([{"max_age": "1 day"}]), S)).contains("\"segment\""));
        assert!(message(sources(json!([{"segment": 7}]), S)).contains("\"segment\""));
        let two = json!([{"segment": "a", "table": "b"}]);
        assert!(message(sources(two, S)).contains("\"table\""));
        sources(json!([["a", null, null, null, null, 1]]), S).expect_err("a list");
        sources(json!({}), S).expect_err("not a list");
    }
}

//! Rows of connectors, options of foreign servers and of user mappings, and subscriptions of consumers
//! that are served through them, when they are written.

use std::collections::BTreeMap;

use pgrx::prelude::*;
use serde_json::Value;

use super::segment::check_interval;
use crate::catalog::connectors;
use crate::catalog::extension::Extension;
use crate::config::{ConfigError, Subject, SubscriptionParams};
use crate::error::{self, Error, Result};
use crate::pg::bgw::process;
use crate::pg::format::json::JsonbText;
use segmenter_core::config::Mode;
use segmenter_core::connector::builtin::BUILTIN;
use segmenter_core::connector::{
    ACCESS_TOKEN, ACCESS_TOKEN_EXPIRES, CONNECTOR, Server, Spec, TIMEOUT,
};

/// Checks a connector before it is written or deleted.
pub fn check_connector(trigger: &PgTrigger<'_>) -> Result<()> {
    let old = trigger.old();
    let new = match trigger.op()? {
        PgTriggerOperation::Delete | PgTriggerOperation::Truncate => None,
        _ => trigger.new(),
    };
    let text = |row: &pgrx::heap_tuple::PgHeapTuple<'_, _>, column| {
        Ok::<_, Error>(row.get_by_name::<String>(column)?.unwrap_or_default())
    };
    let is_builtin = |row: &pgrx::heap_tuple::PgHeapTuple<'_, _>| {
        Ok::<_, Error>(row.get_by_name::<bool>("is_builtin")? == Some(true))
    };
    let kept = |name, problem: String, hint| Err(Error::KeptConnector { name, problem, hint });
    if matches!(trigger.op()?, PgTriggerOperation::Truncate) {
        const HINT: &str =
            "Delete your own: delete from segmenter_connectors where not is_builtin;";
        let names: Vec<&str> = BUILTIN.iter().map(|builtin| builtin.name).collect();
        return kept(names.join(", "), "it comes with Segmenter".into(), HINT);
    }
    if let Some(old) = &old {
        let name = text(old, "name")?;
        if is_builtin(old)? {
            const HINT: &str = "Insert its spec under another name, and change that one.";
            return kept(name, "it comes with Segmenter".into(), HINT);
        }
        let is_same = match &new {
            Some(new) => text(new, "name")? == name,
            None => false,
        };
        let servers = match is_same {
            true => Vec::new(),
            false => connectors::servers_of(&Extension::current()?, &name)?,
        };
        if !servers.is_empty() {
            let problem = format!("it is used by server {}", servers.join(", "));
            return kept(name, problem, "Drop the servers, or give them another connector.");
        }
    }
    let Some(new) = &new else { return Ok(()) };
    let name = text(new, "name")?;
    if is_builtin(new)? {
        const HINT: &str = "Leave out is_builtin.";
        return kept(name, "only what comes with Segmenter is built in".into(), HINT);
    }
    if name.trim().is_empty() {
        let problem = "it must not be empty or blank";
        let subject = format!("connector \"{name}\"");
        return Err(Error::Check { column: "name", subject, problem });
    }
    let spec: Option<JsonbText> = new.get_by_name("spec")?;
    let json = spec.map_or(Ok(Value::Null), |json| json.parse());
    json.and_then(Spec::parse).map(drop).map_err(|problem| Error::Connector { name, problem })
}

/// Checks the options of a foreign server or a user mapping. The error does not show values, which may be
/// secrets.
pub fn check_options(options: &BTreeMap<String, String>, catalog: pg_sys::Oid) -> Result<()> {
    // What was there before pg_upgrade was checked when it was written, and the extension is not whole yet.
    if process::is_upgrading() {
        return Ok(());
    }
    let extension = Extension::current()?;
    match catalog {
        pg_sys::ForeignServerRelationId => check_server(&extension, options),
        pg_sys::UserMappingRelationId => check_mapping(&extension, options),
        _ => match options.keys().next() {
            None => Ok(()),
            Some(name) => {
                let hint = "Servers and user mappings have options.".to_owned();
                Err(invalid(name, "there are no options here", hint))
            }
        },
    }
}

fn invalid(name: &str, problem: impl Into<String>, hint: String) -> Error {
    Error::ServerOption { name: name.to_owned(), problem: problem.into(), hint }
}

fn check_server(extension: &Extension, options: &BTreeMap<String, String>) -> Result<()> {
    let Some(name) = options.get(CONNECTOR) else {
        let hint = "Name one of segmenter_connectors: options (connector 'meta', ...).".to_owned();
        return Err(invalid(CONNECTOR, "it is missing", hint));
    };
    check_interval("options", TIMEOUT, &options.get(TIMEOUT).cloned(), Subject::Server)?;
    let Some(spec) = connectors::spec(extension, name)? else {
        error::emit(
            PgLogLevel::WARNING,
            format!("connector \"{name}\" does not exist"),
            Some("The server cannot be used before segmenter_connectors has it."),
        );
        return Ok(());
    };
    let known: Vec<String> = spec
        .options
        .keys()
        .cloned()
        .chain(spec.hosts.keys().map(|host| Spec::host_option(host)))
        .chain([CONNECTOR.to_owned(), TIMEOUT.to_owned()])
        .collect();
    let hint = format!("Connector \"{name}\" has the options {}.", known.join(", "));
    if let Some(secret) = options.keys().find(|option| spec.secrets.contains_key(*option)) {
        let hint = "Give it in create user mapping ... options (...).".to_owned();
        return Err(invalid(secret, "it is a secret", hint));
    }
    match Server::new("", &spec, options.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err(invalid(&error.name, error.problem, hint)),
    }
}

fn check_mapping(extension: &Extension, options: &BTreeMap<String, String>) -> Result<()> {
    let known = connectors::secrets(extension)?;
    let is_known = |name: &String| {
        known.contains(name) || [ACCESS_TOKEN, ACCESS_TOKEN_EXPIRES].contains(&name.as_str())
    };
    if let Some(unknown) = options.keys().find(|name| !is_known(name)) {
        // A dump restores user mappings before connectors.
        error::emit(
            PgLogLevel::WARNING,
            format!("no connector has a secret \"{unknown}\""),
            Some(&format!("Secrets of connectors are {}.", known.join(", "))),
        );
    }
    match options.iter().find(|(_, value)| value.trim().is_empty()) {
        None => Ok(()),
        Some((name, _)) => {
            Err(invalid(name, "it is empty", "Give a value, or leave the option out.".into()))
        }
    }
}

/// Checks that what a subscription asks for is what a connector can do.
pub fn check_subscription(
    spec: &Spec,
    params: &SubscriptionParams,
    subject: Subject<'_>,
) -> Result<()> {
    let invalid = |problem: String, hint: &str| {
        Err(Error::Config(ConfigError::new("params", subject, problem, hint)))
    };
    let needed: &[&str] = match params.mode {
        Mode::Delta => &["add", "remove", "replace"],
        Mode::Replace => &["replace"],
        Mode::Events(_) => &["events"],
    };
    if let Some(missing) = needed.iter().find(|name| spec.operation(name).is_none()) {
        let problem = format!("the connector of its consumer has no operation \"{missing}\"");
        return invalid(problem, "Choose another mode.");
    }
    if let Some(most) = spec.limits.members.filter(|most| params.batch_size > *most) {
        let problem = format!(
            "\"batch_size\" is {}, and the connector of its consumer takes {most} members at once",
            params.batch_size
        );
        return invalid(problem, &format!("Give \"batch_size\": {most}."));
    }
    if spec.fields.is_empty() {
        return Ok(());
    }
    let fields = params.selection.fields.iter().map(|(_, name)| name);
    let used = fields.filter(|name| spec.fields.contains_key(*name)).count();
    let names: Vec<&str> = spec.fields.keys().map(String::as_str).collect();
    let hint = format!(
        "Its fields are {}. A column of another name is renamed: {{\"fields\": {{\"column\": \"{}\"}}}}.",
        names.join(", "),
        names.first().copied().unwrap_or_default()
    );
    match used {
        0 => invalid("it has no field that the connector of its consumer takes".into(), &hint),
        1 => Ok(()),
        _ if spec.is_one_field => {
            let problem = "the connector of its consumer takes one field only";
            invalid(problem.into(), &hint)
        }
        _ => Ok(()),
    }
}

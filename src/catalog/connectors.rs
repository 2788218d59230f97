//! Connections to platforms: connectors, foreign servers that use them, and user mappings, which hold
//! their secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use serde_json::Value;

use crate::catalog::extension::Extension;
use crate::catalog::log::interval;
use crate::catalog::queries;
use crate::error::{Error, Result};
use crate::pg::exec::durable;
use crate::pg::exec::lock;
use crate::pg::exec::role;
use crate::pg::exec::snapshot::Active;
use crate::pg::exec::user_mapping::{self, MappingOption};
use crate::pg::format::json::JsonbText;
use segmenter_core::connector::{
    ACCESS_TOKEN, ACCESS_TOKEN_EXPIRES, CONNECTOR, Limits, OptionError, Server, Spec, TIMEOUT,
    Token,
};

type Options = BTreeMap<String, String>;

/// A connection: a foreign server, its connector, and the secrets of a role.
pub struct Connection {
    pub spec: Spec,
    pub server: Server,
    pub mapping: Mapping,
}

/// A user mapping.
pub struct Mapping {
    id: pg_sys::Oid,
    server: pg_sys::Oid,
    server_name: String,
    /// None: that of PUBLIC.
    user: Option<String>,
    role: pg_sys::Oid,
    pub secrets: Options,
}

/// The foreign server of a consumer.
struct FoundServer {
    id: pg_sys::Oid,
    options: Options,
}

/// The options in a column of JSON.
fn options(json: Option<JsonbText>) -> Options {
    json.and_then(|json| serde_json::from_str(&json.0).ok()).unwrap_or_default()
}

/// The spec of a connector; none: there is no connector of that name.
pub fn spec(extension: &Extension, name: &str) -> Result<Option<Spec>> {
    let json: Option<JsonbText> =
        extension.read(&queries::catalog::connectors::GET_SPEC, &[name.into()])?;
    let Some(json) = json else { return Ok(None) };
    let parsed = serde_json::from_str::<Value>(&json.0).map_err(|error| error.to_string());
    parsed
        .and_then(Spec::parse)
        .map(Some)
        .map_err(|problem| Error::Connector { name: name.to_owned(), problem })
}

fn problem(code: PgSqlErrorCode, server: &str, problem: String, hint: impl Into<String>) -> Error {
    Error::Server { code, server: server.to_owned(), problem, hint: hint.into() }
}

impl Connection {
    /// The connection of a role through a foreign server. Errors: there is no such server, or it is none
    /// of ours; the role may not use it; options or secrets are missing.
    pub fn find(extension: &Extension, server: &str, role: pg_sys::Oid) -> Result<Self> {
        let (found, spec) = Self::describe(extension, server, role)?;
        let wrong = |error: OptionError| {
            let text = format!("its option \"{}\": {}", error.name, error.problem);
            let hint =
                format!("alter server {} options (...);", pgrx::spi::quote_identifier(server));
            problem(PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME, server, text, hint)
        };
        let described = Server::new(server, &spec, found.options).map_err(wrong)?;
        let mapping = Mapping::find(extension, (found.id, server), role)?;
        let Some(mapping) = mapping else {
            let (user, quoted) = (role::name(role), pgrx::spi::quote_identifier(server));
            return Err(problem(
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                server,
                format!("it has no user mapping for role \"{user}\""),
                format!(
                    "create user mapping for {} server {quoted} options (...);",
                    pgrx::spi::quote_identifier(user)
                ),
            ));
        };
        let missing = spec.secrets.iter().find(|(name, secret)| {
            secret.is_required && !mapping.secrets.contains_key(name.as_str())
        });
        if let Some((name, _)) = missing {
            let user = mapping.user.clone().unwrap_or_else(|| "public".into());
            return Err(problem(
                PgSqlErrorCode::ERRCODE_FDW_OPTION_NAME_NOT_FOUND,
                server,
                format!("its user mapping for {user} has no option \"{name}\""),
                format!(
                    "alter user mapping for {} server {} options (add {name} '...');",
                    pgrx::spi::quote_identifier(user),
                    pgrx::spi::quote_identifier(server)
                ),
            ));
        }
        Ok(Self { spec, server: described, mapping })
    }

    /// The spec of a server's connector. Errors as in [`Self::find`], but for secrets.
    pub fn spec(extension: &Extension, server: &str, role: pg_sys::Oid) -> Result<Spec> {
        Self::describe(extension, server, role).map(|(_, spec)| spec)
    }

    /// The time limit of requests that a server sets; none: it sets none, or there is no such server.
    pub fn timeout(extension: &Extension, server: &str) -> Result<Option<String>> {
        let found = Self::find_server(extension, server, role::current())?;
        Ok(found.and_then(|(mut found, ..)| found.options.remove(TIMEOUT)))
    }

    /// A server, whether it is one of ours, and whether a role may use it.
    fn find_server(
        extension: &Extension,
        server: &str,
        role: pg_sys::Oid,
    ) -> Result<Option<(FoundServer, bool, bool)>> {
        extension.as_owner(|| {
            Spi::connect(|client| {
                let sql = extension.sql(&queries::catalog::connectors::FIND_SERVER, &[]);
                let row = client.select(&sql, Some(1), &[server.into(), role.into()])?.first();
                if row.is_empty() {
                    return Ok::<_, Error>(None);
                }
                let is = |column| Ok::<_, Error>(row.get_by_name::<bool, _>(column)? == Some(true));
                let id = row.get_by_name("server")?.unwrap_or(pg_sys::InvalidOid);
                let options = options(row.get_by_name("options")?);
                Ok(Some((FoundServer { id, options }, is("is_ours")?, is("may_use")?)))
            })
        })
    }

    fn describe(
        extension: &Extension,
        server: &str,
        role: pg_sys::Oid,
    ) -> Result<(FoundServer, Spec)> {
        let found = Self::find_server(extension, server, role)?;
        let quoted = pgrx::spi::quote_identifier(server);
        let Some((found, is_ours, may_use)) = found else {
            return Err(problem(
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                server,
                "it does not exist".into(),
                format!(
                    "create server {quoted} foreign data wrapper segmenter_http options (connector '...');"
                ),
            ));
        };
        if !is_ours {
            return Err(problem(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                server,
                "it is a server of another foreign data wrapper".into(),
                "Its foreign data wrapper must be segmenter_http.",
            ));
        }
        if !may_use {
            let user = role::name(role);
            return Err(problem(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                server,
                format!("role \"{user}\" may not use it"),
                format!(
                    "grant usage on foreign server {quoted} to {};",
                    pgrx::spi::quote_identifier(user)
                ),
            ));
        }
        let name = found.options.get(CONNECTOR).cloned().unwrap_or_default();
        match spec(extension, &name)? {
            Some(spec) => Ok((found, spec)),
            None => Err(problem(
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                server,
                format!("its connector \"{name}\" does not exist"),
                format!("{}.segmenter_connectors lists the connectors.", extension.schema()),
            )),
        }
    }
}

impl Mapping {
    fn find(
        extension: &Extension,
        (server, server_name): (pg_sys::Oid, &str),
        role: pg_sys::Oid,
    ) -> Result<Option<Self>> {
        extension.as_owner(|| {
            Spi::connect(|client| {
                let sql = extension.sql(&queries::catalog::connectors::FIND_MAPPING, &[]);
                let row = client.select(&sql, Some(1), &[server.into(), role.into()])?.first();
                if row.is_empty() {
                    return Ok(None);
                }
                Ok(Some(Self {
                    id: row.get_by_name("mapping")?.unwrap_or(pg_sys::InvalidOid),
                    server,
                    server_name: server_name.to_owned(),
                    user: row.get_by_name("user_name")?,
                    role,
                    secrets: options(row.get_by_name("options")?),
                }))
            })
        })
    }

    /// Waits until no other session renews the access token, until the transaction ends, and reads the
    /// mapping again.
    pub fn lock(&self, extension: &Extension) -> Result<Option<Self>> {
        lock::lock_mapping(self.id);
        // What was done while it waited must be seen.
        let _fresh = Active::fresh();
        Self::find(extension, (self.server, &self.server_name), self.role)
    }

    /// The access token that it holds, if it is still valid.
    pub fn token(&self, now: DateTime<Utc>) -> Option<&str> {
        let token = self.secrets.get(ACCESS_TOKEN)?;
        let is_valid = match self.secrets.get(ACCESS_TOKEN_EXPIRES) {
            Some(text) => DateTime::parse_from_rfc3339(text).is_ok_and(|expires| expires > now),
            None => true,
        };
        is_valid.then_some(token.as_str())
    }

    /// Keeps an access token, and the refresh token that comes with it.
    pub fn keep(&self, extension: &Extension, token: &Token) -> Result<()> {
        // Its options may have been changed while the grant was requested, and the refresh token that was
        // used may be worth nothing by now.
        let Some(current) = self.lock(extension)? else { return Ok(()) };
        durable::flush_at_commit();
        let expires = token.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let values = [
            (ACCESS_TOKEN, Some(&token.access_token)),
            (ACCESS_TOKEN_EXPIRES, Some(&expires)),
            ("refresh_token", token.refresh_token.as_ref()),
        ];
        let options: Vec<_> = values
            .into_iter()
            .filter_map(|(name, value)| {
                let is_there = current.secrets.contains_key(name);
                Some(MappingOption { name, value: value?, is_there })
            })
            .collect();
        extension.as_owner(|| {
            user_mapping::set_options(&self.server_name, current.user.as_deref(), &options)
        })
    }

    /// Counts a request that is about to be made. It counts as made at any time until it has ended, or
    /// until its time limit. The inner error: it must wait so long, as the platform permits only so many.
    pub fn count_request(
        &self,
        extension: &Extension,
        limits: &Limits,
        time_limit: Duration,
    ) -> Result<std::result::Result<Counted, Duration>> {
        let windows = limits.windows();
        let longest = windows.last().map_or(Duration::ZERO, |(longest, _)| *longest);
        lock::lock_mapping(self.id);
        let _fresh = Active::fresh();
        let seconds: Vec<f64> = windows.iter().map(|(window, _)| window.as_secs_f64()).collect();
        let most: Vec<i32> =
            windows.iter().map(|(_, most)| i32::try_from(*most).unwrap_or(i32::MAX)).collect();
        let args = [self.id.into(), seconds.into(), most.into()];
        let sql = &queries::catalog::connectors::COUNT_REQUESTS;
        let wait = extension.read::<f64>(sql, &args)?.filter(|seconds| *seconds > 0.0);
        if let Some(wait) = wait.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            return Ok(Err(wait));
        }
        let args = [self.id.into(), longest.as_secs_f64().into(), interval(time_limit).into()];
        durable::flush_at_commit();
        let until = extension.as_owner(|| {
            let sql = extension.sql(&queries::catalog::connectors::RECORD_REQUEST, &[]);
            Spi::connect_mut(|client| {
                Ok::<_, Error>(client.update(&sql, None, &args)?.first().get_one()?)
            })
        })?;
        until.map(|until| Ok(Counted { until })).ok_or(Error::MissingValue("requested_at"))
    }

    /// Records that a counted request has ended: the platform has got it by now.
    pub fn end_request(&self, extension: &Extension, counted: Counted) -> Result<()> {
        let args = [self.id.into(), counted.until.into()];
        extension.as_owner(|| {
            let sql = extension.sql(&queries::catalog::connectors::END_REQUEST, &[]);
            Ok(Spi::run_with_args(&sql, &args)?)
        })
    }
}

/// A request that was counted and has not ended.
pub struct Counted {
    until: TimestampWithTimeZone,
}

/// The names of all secrets of connectors.
pub fn secrets(extension: &Extension) -> Result<Vec<String>> {
    let names = extension.read(&queries::catalog::connectors::LIST_SECRETS, &[])?;
    Ok(names.unwrap_or_default())
}

/// The foreign servers that use a connector.
pub fn servers_of(extension: &Extension, connector: &str) -> Result<Vec<String>> {
    let sql = &queries::catalog::connectors::LIST_SERVERS;
    Ok(extension.read(sql, &[connector.into()])?.unwrap_or_default())
}

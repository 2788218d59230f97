//! Options of servers, and secrets, which are options of user mappings.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;

use super::spec::{CONNECTOR, TIMEOUT, check_name};

/// An option of a server.
#[derive(Debug, Clone)]
pub struct OptionSpec {
    pub is_required: bool,
    pub default: Option<String>,
    pub values: Vec<String>,
    pub pattern: Option<Regex>,
    pub description: String,
}

/// An option of a user mapping.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSpec {
    #[serde(rename = "required", default)]
    pub is_required: bool,
    #[serde(default)]
    pub description: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOption {
    #[serde(default)]
    required: bool,
    default: Option<String>,
    #[serde(default)]
    values: Vec<String>,
    pattern: Option<String>,
    #[serde(default)]
    description: String,
}

pub(super) fn parse_options(
    raw: BTreeMap<String, RawOption>,
) -> Result<BTreeMap<String, OptionSpec>, String> {
    let parse = |(name, raw): (String, RawOption)| {
        check_name("option", &name)?;
        let is_own = [CONNECTOR, TIMEOUT, "url"].contains(&name.as_str()) || name.ends_with("_url");
        if is_own {
            return Err(format!("options.{name}: every server has this option"));
        }
        let pattern = raw.pattern.map(|text| Regex::new(&format!("^(?:{text})$"))).transpose();
        let pattern = pattern.map_err(|error| format!("options.{name}.pattern: {error}"))?;
        let option = OptionSpec {
            is_required: raw.required,
            default: raw.default,
            values: raw.values,
            pattern,
            description: raw.description,
        };
        if let Some(default) = &option.default {
            option
                .check(default)
                .map_err(|problem| format!("options.{name}.default: {problem}"))?;
        }
        Ok((name, option))
    };
    raw.into_iter().map(parse).collect()
}

impl OptionSpec {
    /// Checks a value. The error says which values there are.
    pub fn check(&self, value: &str) -> Result<(), String> {
        if !self.values.is_empty() && !self.values.iter().any(|known| known == value) {
            return Err(format!("\"{value}\" is none of {}", self.values.join(", ")));
        }
        match &self.pattern {
            Some(pattern) if !pattern.is_match(value) => {
                let pattern = pattern.as_str();
                let pattern = pattern.trim_start_matches("^(?:").trim_end_matches(")$");
                Err(format!("\"{value}\" does not have the form {pattern}"))
            }
            _ => Ok(()),
        }
    }
}

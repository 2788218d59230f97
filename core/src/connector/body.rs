//! Bodies of requests.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::Value;

use super::spec::templates;
use super::template::{Place, Scope, Shared, Template};

/// The body of a request.
#[derive(Debug, Clone, Default)]
pub enum Body {
    #[default]
    Nothing,
    Json(Template),
    Form(Vec<(String, Template)>),
    Multipart(Vec<Part>),
    File(File),
}

/// A part of a multipart body.
#[derive(Debug, Clone)]
pub struct Part {
    name: String,
    filename: Option<String>,
    content_type: Option<String>,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Text(Template),
    File(File),
}

/// A file with a line for each member.
#[derive(Debug, Clone)]
pub enum File {
    /// CSV as RFC 4180 says: a column for each field that members have, under the platform's name.
    Csv { has_header: bool },
    /// One value a line: members must have exactly one field.
    Lines,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawBody {
    #[default]
    #[serde(skip)]
    Nothing,
    Json(Value),
    Form(BTreeMap<String, Value>),
    Multipart(Vec<RawPart>),
    Csv(RawCsv),
    Lines(Empty),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPart {
    name: String,
    filename: Option<String>,
    #[serde(rename = "type")]
    content_type: Option<String>,
    text: Option<Value>,
    csv: Option<RawCsv>,
    lines: Option<Empty>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCsv {
    #[serde(default)]
    header: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

impl Body {
    pub(super) fn parse(raw: RawBody, shared: &Shared) -> Result<Self, String> {
        Ok(match raw {
            RawBody::Nothing => Self::Nothing,
            RawBody::Json(json) => Self::Json(Template::parse(&json, shared, Place::body())?),
            RawBody::Form(entries) => Self::Form(templates(entries, shared, Place::body())?),
            RawBody::Multipart(parts) => {
                let parts = parts.into_iter().map(|part| Part::parse(part, shared));
                Self::Multipart(parts.collect::<Result<_, _>>()?)
            }
            RawBody::Csv(csv) => Self::File(File::Csv { has_header: csv.header }),
            RawBody::Lines(Empty {}) => Self::File(File::Lines),
        })
    }

    pub(super) fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Nothing | Self::File(_) => Vec::new(),
            Self::Json(template) => vec![template],
            Self::Form(entries) => entries.iter().map(|(_, template)| template).collect(),
            Self::Multipart(parts) => {
                let texts = parts.iter().filter_map(|part| match &part.content {
                    Content::Text(template) => Some(template),
                    Content::File(_) => None,
                });
                texts.collect()
            }
        }
    }

    /// Whether it has a value for each member.
    pub fn has_members(&self) -> bool {
        let is_file = |part: &Part| matches!(part.content, Content::File(_));
        match self {
            Self::File(_) => true,
            Self::Multipart(parts) if parts.iter().any(is_file) => true,
            other => other.templates().into_iter().any(Template::uses_members),
        }
    }

    /// The digest of the file in it, if there is one: `{file_md5}`.
    pub(super) fn digest(&self, scope: &Scope<'_>) -> Result<Option<String>, String> {
        let Self::Multipart(parts) = self else { return Ok(None) };
        let file = parts.iter().find_map(|part| match &part.content {
            Content::File(file) => Some(file),
            Content::Text(_) => None,
        });
        let digest = |file: &File| {
            let digest = Md5::digest(file.content(scope)?);
            Ok::<_, String>(data_encoding::HEXLOWER.encode(&digest))
        };
        file.map(digest).transpose()
    }

    /// The content type and the bytes.
    pub(super) fn render(
        &self,
        scope: &Scope<'_>,
        message: i64,
    ) -> Result<Option<(String, Vec<u8>)>, String> {
        Ok(Some(match self {
            Self::Nothing => return Ok(None),
            Self::Json(template) => {
                let json = template.value(scope).unwrap_or_default();
                ("application/json".into(), json.to_string().into_bytes())
            }
            Self::Form(entries) => {
                let entries = entries
                    .iter()
                    .filter_map(|(name, template)| Some((name, template.text(scope)?)));
                let form =
                    form_urlencoded::Serializer::new(String::new()).extend_pairs(entries).finish();
                ("application/x-www-form-urlencoded".into(), form.into_bytes())
            }
            Self::Multipart(parts) => multipart(parts, scope, message)?,
            Self::File(file) => (file.content_type().into(), file.content(scope)?),
        }))
    }
}

impl Part {
    fn parse(raw: RawPart, shared: &Shared) -> Result<Self, String> {
        let is_plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
        };
        let texts = [Some(&raw.name), raw.filename.as_ref(), raw.content_type.as_ref()];
        if let Some(text) = texts.into_iter().flatten().find(|text| !is_plain(text)) {
            return Err(format!("\"{text}\" has characters that a part's name cannot have"));
        }
        let content = match (raw.text, raw.csv, raw.lines) {
            (Some(text), None, None) => {
                Content::Text(Template::parse(&text, shared, Place::header())?)
            }
            (None, Some(csv), None) => Content::File(File::Csv { has_header: csv.header }),
            (None, None, Some(Empty {})) => Content::File(File::Lines),
            _ => return Err(format!("part \"{}\" needs one of text, csv and lines", raw.name)),
        };
        Ok(Self { name: raw.name, filename: raw.filename, content_type: raw.content_type, content })
    }
}

impl File {
    fn content_type(&self) -> &'static str {
        match self {
            Self::Csv { .. } => "text/csv; charset=utf-8",
            Self::Lines => "text/plain; charset=utf-8",
        }
    }

    fn content(&self, scope: &Scope<'_>) -> Result<Vec<u8>, String> {
        let (members, fields) = (scope.data.members(), scope.data.fields());
        let value = |member: &serde_json::Map<String, Value>, name: &str| {
            member.get(name).and_then(super::template::as_text).unwrap_or_default()
        };
        match self {
            Self::Csv { has_header } => {
                let mut csv = csv::Writer::from_writer(Vec::new());
                let written = |result: Result<(), csv::Error>| {
                    result.map_err(|error| format!("CSV cannot be written: {error}"))
                };
                if *has_header {
                    written(csv.write_record(fields.iter().map(|(_, name)| name)))?;
                }
                for member in members {
                    let row = fields.iter().map(|(name, _)| value(member, name));
                    written(csv.write_record(row))?;
                }
                csv.into_inner().map_err(|error| format!("CSV cannot be written: {error}"))
            }
            Self::Lines => {
                let [(field, _)] = fields else {
                    return Err("a file of lines needs members of one field".into());
                };
                let mut lines = String::new();
                for member in members {
                    let line = value(member, field);
                    if line.contains(['\n', '\r']) {
                        return Err(format!("a value of \"{field}\" has more than one line"));
                    }
                    lines.push_str(&line);
                    lines.push('\n');
                }
                Ok(lines.into_bytes())
            }
        }
    }
}

/// A multipart body. Its boundary is the same at each attempt, and occurs in none of the parts.
fn multipart(parts: &[Part], scope: &Scope<'_>, message: i64) -> Result<(String, Vec<u8>), String> {
    let contents = parts.iter().map(|part| match &part.content {
        Content::Text(template) => Ok(template.text(scope).map(String::into_bytes)),
        Content::File(file) => file.content(scope).map(Some),
    });
    let contents: Vec<Option<Vec<u8>>> = contents.collect::<Result<_, String>>()?;
    let occurs = |boundary: &str| {
        let boundary = boundary.as_bytes();
        contents
            .iter()
            .flatten()
            .any(|content| content.windows(boundary.len()).any(|window| window == boundary))
    };
    let boundaries = (0..).map(|number: u32| format!("segmenter-{message}-{number}"));
    let boundary = { boundaries }.find(|boundary| !occurs(boundary)).unwrap_or_default();
    let mut body = Vec::new();
    for (part, content) in parts.iter().zip(&contents) {
        // A part without a value is left out.
        let Some(content) = content else { continue };
        let mut head =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", part.name);
        if let Some(filename) = &part.filename {
            head.push_str(&format!("; filename=\"{filename}\""));
        }
        head.push_str("\r\n");
        if let Some(content_type) = &part.content_type {
            head.push_str(&format!("Content-Type: {content_type}\r\n"));
        }
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Ok((format!("multipart/form-data; boundary={boundary}"), body))
}

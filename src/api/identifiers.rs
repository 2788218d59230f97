//! Identifiers of people in the form that ad platforms compare, and their hashes.

#![allow(clippy::result_large_err, reason = "pgrx raises an ErrorReport with its SQLSTATE, no box")]

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::require_arg;
use crate::error::{self, Error};
use segmenter_core::identifier::{self, ALGORITHMS, KINDS, PLATFORMS, Platform, by_name};

/// An e-mail address in the form that a platform hashes.
///
/// - `value`: the address.
/// - `platform`: `meta`, `google`, `yandex`, `vk`, `tiktok`, `linkedin`, `snapchat`, `pinterest` or
///   `criteo`; null: the form that most of them take.
///
/// Returns the address without blanks of any kind, in small letters, composed (NFC). Null: it cannot be
/// one.
///
/// ```sql
/// select segmenter_email(' Anna.K+shop@Gmail.com', 'google');
/// ```
#[pg_extern(immutable, parallel_safe)]
fn segmenter_email(
    value: Option<&str>,
    platform: default!(Option<&str>, "NULL"),
) -> Result<Option<String>, ErrorReport> {
    let platform = platform_of(platform)?;
    Ok(value.and_then(|value| identifier::email(value, platform)))
}

/// A phone number in the form that a platform hashes.
///
/// - `value`: the number.
/// - `country`: the two letters of the country (ISO 3166) of a number that is written as it is dialled
///   there; null: the number has its country code.
/// - `platform`: as for `segmenter_email`.
///
/// Returns the number with its country code and `+` (E.164), for some platforms without the `+`. Null: it
/// cannot be one.
///
/// ```sql
/// select segmenter_phone('8 (912) 345-67-89', 'RU', 'yandex');
/// ```
#[pg_extern(immutable, parallel_safe)]
fn segmenter_phone(
    value: Option<&str>,
    country: default!(Option<&str>, "NULL"),
    platform: default!(Option<&str>, "NULL"),
) -> Result<Option<String>, ErrorReport> {
    let platform = platform_of(platform)?;
    Ok(value.and_then(|value| identifier::phone(value, country, platform)))
}

/// Another identifier in the form that a platform compares.
///
/// - `kind`: `first_name`, `last_name`, `city`, `state`, `zip`, `country`, `birth_date`, `mobile_ad_id`
///   or `external_id`.
/// - `value`: the identifier.
/// - `platform`: as for `segmenter_email`.
///
/// Returns null for what cannot be one.
///
/// ```sql
/// select segmenter_identifier('last_name', ' O''Brien ', 'meta');
/// ```
#[pg_extern(immutable, parallel_safe)]
fn segmenter_identifier(
    kind: Option<&str>,
    value: Option<&str>,
    platform: default!(Option<&str>, "NULL"),
) -> Result<Option<String>, ErrorReport> {
    let kind = named(("kind", KIND_NAMES), &KINDS, require_arg("kind", kind)?)?;
    let platform = platform_of(platform)?;
    Ok(value.and_then(|value| identifier::plain(kind, value, platform)))
}

/// The hash of an identifier.
///
/// - `value`: the text, as it is: nothing of it is changed before.
/// - `algorithm`: `sha256`, `sha512`, `sha1` or `md5`, in small hexadecimal digits; or `sha256_base64`.
///
/// Returns null for null and for an empty text.
///
/// ```sql
/// select segmenter_hash(segmenter_email('Anna@Example.com'));
/// ```
#[pg_extern(immutable, parallel_safe)]
fn segmenter_hash(
    value: Option<&str>,
    algorithm: default!(Option<&str>, "'sha256'"),
) -> Result<Option<String>, ErrorReport> {
    let name = require_arg("algorithm", algorithm)?;
    let algorithm = named(("algorithm", ALGORITHM_NAMES), &ALGORITHMS, name)?;
    Ok(value.and_then(|value| algorithm.hash(value)))
}

const PLATFORM_NAMES: &str = "Platforms are meta, google, yandex, vk, tiktok, linkedin, snapchat, pinterest and criteo; null: the form that most of them take.";
const KIND_NAMES: &str = "Kinds are first_name, last_name, city, state, zip, country, birth_date, mobile_ad_id and external_id. For others there are segmenter_email() and segmenter_phone().";
const ALGORITHM_NAMES: &str = "Algorithms are sha256, sha256_base64, sha512, sha1 and md5.";

fn platform_of(name: Option<&str>) -> error::Result<Option<Platform>> {
    name.map(|name| named(("platform", PLATFORM_NAMES), &PLATFORMS, name)).transpose()
}

/// The value of a name in a table; the error says which names there are.
fn named<T: Copy>(
    (argument, hint): (&'static str, &'static str),
    table: &[(&'static str, T)],
    name: &str,
) -> error::Result<T> {
    by_name(table, name).ok_or_else(|| {
        let problem = format!("there is no {argument} \"{name}\"");
        Error::Argument { name: argument, problem, hint }
    })
}

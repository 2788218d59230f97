//! The destination of messages: an absolute http or https URL that can be read in one way only.
//!
//! An address is compared with the allowed prefixes before a request is sent to it. Everything that
//! another parser could take for a different place is therefore refused: a user before the host,
//! dot segments, encoded slashes, backslashes.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;
use ureq::http::Uri;

/// The longest host name, in bytes.
const NAME_LIMIT: usize = 253;

/// A valid address.
///
/// [`FromStr`] makes it from text, and refuses an invalid text with an [`AddressError`]. `Display`
/// writes the original text.
///
/// # Examples
///
/// ```
/// # use segmenter_core::http::address::Address;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let address: Address = "https://api.example.com/v1/audiences?list=7".parse()?;
/// assert!(address.is_under(&"https://api.example.com/v1".parse()?));
/// assert!("https://user@api.example.com/".parse::<Address>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    text: String,
    uri: Uri,
    host: Host,
    port: u16,
}

/// A host in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// A name or an IPv4 address: in lower case, without a dot at its end.
    Name(String),
    V6(Ipv6Addr),
}

impl Address {
    /// The address in the HTTP client's type.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether this address is equal to `prefix` or below it.
    ///
    /// Scheme, host and port must be the same. The path of `prefix` must be the whole path, or end
    /// where one of the path's segments ends: `/a` covers `/a`, `/a/b` and `/a?x`, but not `/ab`;
    /// `/a/` does not cover `/a`. A prefix with a query covers only the same path with the same
    /// query.
    pub fn is_under(&self, prefix: &Self) -> bool {
        let same_place = self.uri.scheme() == prefix.uri.scheme()
            && self.host == prefix.host
            && self.port == prefix.port;
        let (path, base) = (self.uri.path(), prefix.uri.path());
        let covered = if prefix.uri.query().is_some() {
            path == base && self.uri.query() == prefix.uri.query()
        } else {
            path.strip_prefix(base)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || base.ends_with('/'))
        };
        same_place && covered
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(found) = text.chars().find(|&c| !c.is_ascii_graphic() || c == '\\') {
            return Err(AddressError::Character(found));
        }
        if text.contains('#') {
            return Err(AddressError::Fragment);
        }
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Relative)?;
        let default_port = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(AddressError::Scheme(scheme.to_owned())),
        };

        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(AddressError::User);
        }
        // An IPv6 address contains colons itself.
        let host_end = if authority.starts_with('[') {
            authority.find(']').map(|end| end + 1)
        } else {
            authority.find(':')
        };
        let (host, port) = authority.split_at(host_end.unwrap_or(authority.len()));
        let host = host.parse()?;
        let port = if port.is_empty() { default_port } else { parse_port(port)? };

        let uri: Uri = text.parse().map_err(|_| AddressError::Malformed)?;
        // The client uses the URI as it parsed it, which must agree with what is checked here.
        if uri.authority().is_none_or(|read| read.as_str() != authority) {
            return Err(AddressError::Malformed);
        }
        if let Some(segment) = uri.path().split('/').find(|segment| is_ambiguous(segment)) {
            return Err(AddressError::Segment(segment.to_owned()));
        }
        Ok(Self { text: text.to_owned(), uri, host, port })
    }
}

impl FromStr for Host {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::NoHost);
        }
        let wrong = || AddressError::Host(text.to_owned());
        if let Some(address) = text.strip_prefix('[') {
            let address = address.strip_suffix(']').ok_or_else(wrong)?;
            return address.parse().map(Self::V6).map_err(|_| wrong());
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            !label.is_empty() && label.bytes().all(is_part)
        };
        if name.len() > NAME_LIMIT || !name.split('.').all(is_label) {
            return Err(wrong());
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

/// Parses what follows a host: a colon and a number.
fn parse_port(text: &str) -> Result<u16, AddressError> {
    let wrong = || AddressError::Port(text.trim_start_matches(':').to_owned());
    let digits = text.strip_prefix(':').ok_or_else(wrong)?;
    // The standard parser would accept a plus sign.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    digits.parse().ok().filter(|&port| port != 0).ok_or_else(wrong)
}

/// Whether a server could read a path segment as more than a name: as the same or the parent
/// directory, or as several segments. Some servers first remove what follows a semicolon.
fn is_ambiguous(segment: &str) -> bool {
    let segment = segment.to_ascii_lowercase();
    let name = segment.split(';').next().unwrap_or_default().replace("%2e", ".");
    matches!(name.as_str(), "." | "..") || segment.contains("%2f") || segment.contains("%5c")
}

/// Why a text is not an address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// It contains a blank, a control character, a backslash or a character outside ASCII.
    #[error("character \"{}\" is not allowed", .0.escape_default())]
    Character(char),
    /// It ends with a fragment, which is never sent.
    #[error("a fragment (\"#\") is not allowed")]
    Fragment,
    /// It does not begin with a scheme and two slashes.
    #[error("it does not begin with http:// or https://")]
    Relative,
    /// It has another scheme.
    #[error("\"{0}\" is not http or https")]
    Scheme(String),
    /// It contains a user or a password. The message does not repeat it.
    #[error("a user or password before the host is not allowed")]
    User,
    /// The host is missing.
    #[error("it has no host")]
    NoHost,
    /// The host is neither a name nor an IP address.
    #[error("\"{0}\" is not a host")]
    Host(String),
    /// The port is not a number from 1 to 65535.
    #[error("\"{0}\" is not a port")]
    Port(String),
    /// A segment of the path is `.` or `..`, or contains an encoded slash.
    #[error("path segment \"{0}\" is not allowed")]
    Segment(String),
    /// It is not a URL for another reason.
    #[error("it is not a URL")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refusal(text: &str) -> String {
        match text.parse::<Address>() {
            Ok(address) => panic!("{text} passed as {address:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[track_caller]
    fn covers(prefix: &str, texts: &[&str]) {
        for text in texts {
            assert!(address(text).is_under(&address(prefix)), "{prefix} does not cover {text}");
        }
    }

    #[track_caller]
    fn spares(prefix: &str, texts: &[&str]) {
        for text in texts {
            assert!(!address(text).is_under(&address(prefix)), "{prefix} covers {text}");
        }
    }

    #[test]
    fn addresses_keep_their_text() {
        for text in [
            "https://api.example.com",
            "https://api.example.com/",
            "HTTPS://API.Example.COM./a/b?c=d&e=%2F",
            "http://localhost:8080/hook",
            "http://127.0.0.1:1/",
            "http://[::1]:8080/a",
            "https://[2001:DB8::1]",
            "https://a_b.example.com:65535/@user/a:b/..a/a../.../%2e%2ea",
            "https://example.com?x=../y",
            "https://example.com//a",
        ] {
            let address = address(text);
            assert_eq!(address.to_string(), text);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn the_client_reads_the_same_host_and_port() {
        for (text, host, port) in [
            ("http://Example.com", "Example.com", None),
            ("https://example.com:8443/x", "example.com", Some(8443)),
            ("https://example.com:0443?x", "example.com", Some(443)),
            ("https://[::1]:99/x", "[::1]", Some(99)),
        ] {
            let address = address(text);
            assert_eq!(address.uri().host(), Some(host));
            assert_eq!(address.uri().port_u16(), port);
        }
    }

    #[test]
    fn schemes_other_than_http_and_https() {
        assert_eq!(refusal("ftp://example.com/"), r#""ftp" is not http or https"#);
        assert_eq!(refusal("file:///etc/passwd"), r#""file" is not http or https"#);
        assert_eq!(refusal("://example.com/"), r#""" is not http or https"#);
        for text in
            ["", "example.com", "//example.com/", "/a", "*", "mailto:a", "https:/a", "http:"]
        {
            assert_eq!(refusal(text), "it does not begin with http:// or https://", "{text}");
        }
    }

    #[test]
    fn characters() {
        assert_eq!(refusal("https://example.com/a b"), r#"character " " is not allowed"#);
        assert_eq!(refusal(" https://example.com/"), r#"character " " is not allowed"#);
        assert_eq!(refusal("https://example.com/\n"), r#"character "\n" is not allowed"#);
        assert_eq!(refusal("https://example.com/\0"), r#"character "\u{0}" is not allowed"#);
        assert_eq!(refusal("https://example.com/\x7f"), r#"character "\u{7f}" is not allowed"#);
        assert_eq!(refusal("https://example.com\\a"), r#"character "\\" is not allowed"#);
        assert_eq!(refusal("https://exämple.com/"), r#"character "\u{e4}" is not allowed"#);
        assert_eq!(refusal("https://example.com/?ü"), r#"character "\u{fc}" is not allowed"#);
        assert_eq!(refusal("https://example.com/<a>"), "it is not a URL");
    }

    #[test]
    fn fragments_and_users() {
        assert_eq!(refusal("https://example.com/a#b"), r##"a fragment ("#") is not allowed"##);
        assert_eq!(refusal("https://example.com#"), r##"a fragment ("#") is not allowed"##);
        for text in [
            "https://user@example.com/",
            "https://user:secret@example.com/",
            "https://@example.com/",
            "https://api.example.com@evil.org/",
            "https://api.example.com:443@evil.org",
            "https://a@[::1]/",
        ] {
            assert_eq!(refusal(text), "a user or password before the host is not allowed");
        }
    }

    #[test]
    fn hosts() {
        for text in ["https://", "https:///a", "http://?x", "http://:80/"] {
            assert_eq!(refusal(text), "it has no host", "{text}");
        }
        for (text, host) in [
            ("http://a..b/", "a..b"),
            ("http://.a/", ".a"),
            ("http://./", "."),
            ("http://a../", "a.."),
            ("http://a%2eb/", "a%2eb"),
            ("http://a,b/", "a,b"),
            ("http://[::1/", "[::1"),
            ("http://[]/", "[]"),
            ("http://[::g]/", "[::g]"),
            ("http://[fe80::1%25eth0]/", "[fe80::1%25eth0]"),
            ("http://[127.0.0.1]/", "[127.0.0.1]"),
            ("http://a]/", "a]"),
        ] {
            assert_eq!(refusal(text), format!("\"{host}\" is not a host"));
        }
        let long = "a.".repeat(127);
        address(&format!("http://{long}"));
        assert_eq!(refusal(&format!("http://{long}b/")), format!("\"{long}b\" is not a host"));
    }

    #[test]
    fn ports() {
        for (text, port) in [
            ("http://a:0/", "0"),
            ("http://a:/", ""),
            ("http://a:65536/", "65536"),
            ("http://a:+80/", "+80"),
            ("http://a:80:80/", "80:80"),
            ("http://a:b/", "b"),
            ("http://[::1]80/", "80"),
            ("http://[::1]:00/", "00"),
            ("http://[::1]a/", "a"),
            ("http://[::1]:1]/", "1]"),
        ] {
            assert_eq!(refusal(text), format!("\"{port}\" is not a port"));
        }
        assert_eq!(refusal("http://::1/"), "it has no host");
    }

    #[test]
    fn segments() {
        for segment in [
            ".", "..", "%2e", "%2E", ".%2e", "%2E.", "%2e%2E", "..;", "..;a=b", "%2e;", "a%2fb",
            "a%2Fb", "%5c", "..%5C",
        ] {
            for text in [
                format!("https://example.com/{segment}"),
                format!("https://example.com/a/{segment}/b"),
                format!("https://example.com/a/{segment}?x"),
            ] {
                assert_eq!(refusal(&text), format!("path segment \"{segment}\" is not allowed"));
            }
        }
    }

    #[test]
    fn scheme_host_and_port_must_be_equal() {
        covers(
            "https://api.example.com",
            &[
                "https://api.example.com",
                "https://api.example.com/",
                "https://api.example.com/a/b?c",
                "https://api.example.com?c",
                "https://api.example.com:443/",
                "HTTPS://API.example.com./a",
            ],
        );
        spares(
            "https://api.example.com",
            &[
                "http://api.example.com/",
                "http://api.example.com:443/",
                "https://api.example.com:8443/",
                "https://api.example.com.evil.org/",
                "https://evil.org/api.example.com",
                "https://a.api.example.com/",
                "https://example.com/",
                "https://evil.org?https://api.example.com/",
            ],
        );
        covers("https://API.example.com.:443/", &["https://api.example.com"]);
        covers("http://example.com:80", &["http://example.com/a"]);
        covers("http://127.0.0.1:8080", &["http://127.0.0.1:8080/a"]);
        spares("http://127.0.0.1:8080", &["http://127.0.0.1/a", "http://127.1:8080/a"]);
        assert!("https://api.example.com@evil.org/".parse::<Address>().is_err());
    }

    #[test]
    fn ipv6_hosts_are_compared_as_addresses() {
        covers("http://[::1]:80", &["http://[::1]/a", "http://[0:0:0:0:0:0:0:1]/a"]);
        covers("https://[2001:db8::a]/a", &["https://[2001:DB8:0::A]:443/a/b"]);
        spares("http://[::1]", &["http://[::2]/", "http://[::1]:81/", "https://[::1]/"]);
        spares("http://[::127.0.0.1]", &["http://127.0.0.1/"]);
    }

    #[test]
    fn a_path_covers_what_is_below_it() {
        let at = |paths: &[&str]| paths.iter().map(|p| format!("https://e.com{p}")).collect();
        let check = |prefix: &str, under: &[&str], beside: &[&str]| {
            let (under, beside): (Vec<String>, Vec<String>) = (at(under), at(beside));
            let prefix = format!("https://e.com{prefix}");
            covers(&prefix, &under.iter().map(String::as_str).collect::<Vec<_>>());
            spares(&prefix, &beside.iter().map(String::as_str).collect::<Vec<_>>());
        };
        check("", &["", "/", "/a", "?x", "//a"], &[]);
        check("/", &["", "/", "/a/b", "?x", "/?x"], &[]);
        check("/a", &["/a", "/a/", "/a/b", "/a?x", "/a?", "/a//b"], &["", "/ab", "/A", "/b/a"]);
        check("/a/", &["/a/", "/a/b", "/a/?x"], &["/a", "/a?x", "/ab/"]);
        check("/a/b", &["/a/b", "/a/b/c?x"], &["/a", "/a/", "/a/bc", "/a/b;c", "/a/%62"]);
        check("/a?x", &["/a?x"], &["/a", "/a?", "/a?xy", "/a?x&y", "/a/?x", "/a/b?x"]);
        check("/a?", &["/a?"], &["/a", "/a?x", "/a/b"]);
        check("?x", &["?x", "/?x"], &["", "/", "/a?x", "?y"]);
    }
}

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use chrono::{TimeDelta, TimeZone};

use super::*;

fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/hook?list=7", listener.local_addr().unwrap());
    (listener, address.parse().unwrap())
}

/// Reads a request: its head and its body.
fn read(stream: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "request ended in its head: {head}");
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Answers one request with these pieces, and pauses after each.
fn serve(pieces: Vec<Vec<u8>>, pause: Duration) -> (Address, JoinHandle<(String, String)>) {
    let (listener, address) = listen();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read(&stream);
        for piece in pieces {
            // The client may have disconnected.
            let _ = stream.write_all(&piece);
            thread::sleep(pause);
        }
        request
    });
    (address, server)
}

fn request(address: Address) -> HttpRequest {
    HttpRequest {
        address,
        headers: BTreeMap::new(),
        timeout: Duration::from_secs(10),
        key: None,
        message_id: 42,
        body: r#"{"a":"ä"}"#.to_owned(),
    }
}

fn answer_to(bytes: impl Into<Vec<u8>>) -> Answer {
    let (address, server) = serve(vec![bytes.into()], Duration::ZERO);
    let answer = Sender::default().send(&request(address));
    server.join().unwrap();
    answer
}

fn accepted(body: Option<&str>) -> Answer {
    Answer::Accepted { body: Ok(body.map(str::to_owned)) }
}

fn unread(problem: &'static str) -> Answer {
    Answer::Accepted { body: Err(problem) }
}

fn headers(headers: &[(&str, &str)]) -> BTreeMap<String, String> {
    headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn success_with_and_without_a_body() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"id\": 7}";
    assert_eq!(answer_to(ok), accepted(Some("{\"id\": 7}")));
    assert_eq!(answer_to("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), accepted(None));
    assert_eq!(answer_to("HTTP/1.1 204 No Content\r\n\r\n"), accepted(None));
    let chunked = "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n\
                   2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    assert_eq!(answer_to(chunked), accepted(Some("abc")));
    assert_eq!(answer_to("HTTP/1.1 201 Created\r\n\r\nto the end"), accepted(Some("to the end")));
}

#[test]
fn bodies_that_cannot_be_read() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(answer_to(format!("{head}ab")), unread("it broke off"));
    assert_eq!(answer_to([head.as_bytes(), b"ab\xffcd"].concat()), unread("it is not UTF-8"));
    assert_eq!(
        answer_to([head.as_bytes(), b"ab\0cd"].concat()),
        unread("it holds a null character")
    );
}

#[test]
fn a_receipt_has_its_limit() {
    let limit = RECEIPT_LIMIT as usize;
    for (length, read) in [(limit, true), (limit + 1, false), (limit * 100, false)] {
        let body = "x".repeat(length);
        let expected = match read {
            true => accepted(Some(&body)),
            false => unread("it is longer than 64 KiB"),
        };
        assert!(answer_to(format!("HTTP/1.1 200 OK\r\n\r\n{body}")) == expected, "{length}");
        let known = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        assert!(answer_to(known) == expected, "{length}");
    }
}

#[test]
fn redirects_are_not_followed() {
    for status in ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect"]
    {
        let (elsewhere, address) = listen();
        elsewhere.set_nonblocking(true).unwrap();
        let head = format!("HTTP/1.1 {status}\r\nlocation: {address}\r\n");
        let problem = format!("{status} (redirects are not followed)");
        let bare = format!("{head}content-length: 0\r\n\r\n");
        assert_eq!(answer_to(bare), Answer::refused(&problem));
        let with_body = format!("{head}content-length: 4\r\n\r\ngone");
        assert_eq!(answer_to(with_body), Answer::refused(format!("{problem}: gone")));
        assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(
        answer_to("HTTP/1.1 304 Not Modified\r\n\r\n"),
        Answer::refused("304 Not Modified (redirects are not followed)"),
    );
}

#[test]
fn busy_receivers_can_ask_for_a_delay() {
    let busy = |status: &str, retry: &str| {
        let head = format!("HTTP/1.1 {status}\r\nretry-after: {retry}\r\n");
        match answer_to(format!("{head}content-length: 4\r\n\r\nbusy")) {
            Answer::Refused { problem, retry_after } => {
                assert_eq!(problem, format!("{status}: busy"));
                retry_after
            }
            answer => panic!("{answer:?}"),
        }
    };
    assert_eq!(busy("429 Too Many Requests", "120"), Some(Duration::from_secs(120)));
    assert_eq!(busy("503 Service Unavailable", "1"), Some(Duration::from_secs(1)));
    assert_eq!(busy("503 Service Unavailable", "soon"), None);
    assert_eq!(busy("500 Internal Server Error", "120"), None);
    let date = (Utc::now() + TimeDelta::minutes(10)).format("%a, %d %b %Y %H:%M:%S GMT");
    let wait = busy("429 Too Many Requests", &date.to_string()).unwrap();
    assert!((500..=600).contains(&wait.as_secs()), "{wait:?}");
}

#[test]
fn retry_after() {
    let now = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
    let seconds = |text| parse_retry(text, now).map(|wait| wait.as_secs());
    assert_eq!(seconds("0"), Some(0));
    assert_eq!(seconds(" 30 "), Some(30));
    assert_eq!(seconds("86400"), Some(86_400));
    assert_eq!(seconds("86401"), Some(86_400));
    assert_eq!(seconds("99999999999999999999999"), Some(86_400));
    assert_eq!(seconds("Sun, 01 Mar 2026 12:00:30 GMT"), Some(30));
    assert_eq!(seconds("Sun, 01 Mar 2026 11:00:00 GMT"), Some(0));
    assert_eq!(seconds("Wed, 01 Apr 2026 12:00:00 GMT"), Some(86_400));
    for text in ["", "-1", "+1", "1.5", "1s", "tomorrow", "2026-03-01T12:00:00Z"] {
        assert_eq!(seconds(text), None, "{text}");
    }
}

#[test]
fn a_refusal_reports_the_beginning_of_the_body() {
    let body = [b"\r\n\xff\0\x1b[31m oh\nno\t".as_slice(), &[b'x'; 2000]].concat();
    let head = format!("HTTP/1.1 500 Boom\r\ncontent-length: {}\r\n\r\n", body.len());
    let Answer::Refused { problem, retry_after } = answer_to([head.as_bytes(), &body].concat())
    else {
        panic!("accepted");
    };
    assert_eq!(retry_after, None);
    assert!(problem.starts_with("500 Internal Server Error: \u{fffd}  [31m oh no x"), "{problem}");
    assert_eq!(problem.bytes().filter(|&byte| byte == b'x').count(), 500 - 16);
    assert!(!problem.contains(char::is_control));

    let broken = "HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\nno such list";
    assert_eq!(answer_to(broken), Answer::refused("404 Not Found: no such list"));
    assert_eq!(answer_to("HTTP/1.1 599 Odd\r\n\r\n"), Answer::refused("599"));
}

#[test]
fn no_answer() {
    let closed = Answer::refused("connection closed without an answer");
    assert_eq!(answer_to(""), closed);
    assert_eq!(answer_to("HTTP/1.1 200 O"), closed);
    assert!(matches!(answer_to("SSH-2.0-OpenSSH_9.2\r\n"), Answer::Refused { .. }));

    let (listener, address) = listen();
    drop(listener);
    let Answer::Refused { problem, .. } = Sender::default().send(&request(address)) else {
        panic!("accepted");
    };
    assert!(problem.starts_with("Connection refused"), "{problem}");
}

#[test]
fn the_time_limit_covers_the_whole_request() {
    let check = |pieces: &[&str], expected: Answer| {
        let pieces = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        let (address, server) = serve(pieces, Duration::from_millis(300));
        let mut request = request(address);
        request.timeout = Duration::from_secs(1);
        // The server goes on sending for longer than that: what comes late is not in the answer.
        assert_eq!(Sender::default().send(&request), expected);
        server.join().unwrap();
    };
    let late = || Answer::refused("no answer within 1s");
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
    let bad = "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\nab";
    thread::scope(|scope| {
        scope.spawn(|| check(&[""; 8], late()));
        scope.spawn(|| check(&["H", "T", "T", "P", "/", "1", ".", "1"], late()));
        scope.spawn(|| check(&[ok, "a", "b", "c", "d", "e", "f", "g"], unread("it broke off")));
        scope.spawn(|| check(&[ok, "abcdefghi"], accepted(Some("abcdefghi"))));
        scope.spawn(|| {
            check(&[bad, "", "", "", "", "", "", ""], Answer::refused("400 Bad Request: ab"))
        });
    });
}

#[test]
fn tls_fails_if_the_receiver_does_not_use_it() {
    let (listener, address) = listen();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read(&mut [0; 4096]);
    });
    let address = address.to_string().replace("http:", "https:").parse().unwrap();
    let Answer::Refused { problem, .. } = Sender::default().send(&request(address)) else {
        panic!("accepted");
    };
    assert!(!problem.contains("400"), "{problem}");
    server.join().unwrap();
}

#[test]
fn request_line_headers_and_body() {
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    let (address, server) = serve(vec![answer], Duration::ZERO);
    let port = address.uri().port_u16().unwrap();
    let mut request = request(address);
    request.headers = headers(&[("Authorization", "Bearer test"), ("X-List", "a  b")]);
    let key = signature::Key::try_from("Jefe".to_owned()).unwrap();
    request.key = Some(key.clone());
    request.body = "what do ya want for nothing?".to_owned();
    assert_eq!(Sender::default().send(&request), accepted(None));

    let (head, body) = server.join().unwrap();
    assert_eq!(body, request.body);
    let mut lines: Vec<&str> = head.trim_end().lines().collect();
    let sent = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.expect("header").trim_start_matches(": ").to_owned()
    };
    let sent_at: i64 = sent(TIMESTAMP).parse().expect("seconds");
    assert!((0..60).contains(&(Utc::now().timestamp() - sent_at)), "{sent_at}");
    assert_eq!(lines.remove(0), "POST /hook?list=7 HTTP/1.1");
    lines.sort();
    let host = format!("host: 127.0.0.1:{port}");
    let agent = format!("user-agent: segmenter/{}", env!("CARGO_PKG_VERSION"));
    let signature = key.sign(("42", sent_at), &body);
    let signature = format!("webhook-signature: {signature}");
    let expected = [
        "accept: */*",
        "authorization: Bearer test",
        "content-length: 28",
        "content-type: application/json",
        &host,
        "idempotency-key: 42",
        &agent,
        "webhook-id: 42",
        &signature,
        &format!("webhook-timestamp: {sent_at}"),
        "x-list: a  b",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn nothing_is_signed_without_a_secret() {
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    let (address, server) = serve(vec![answer], Duration::ZERO);
    assert_eq!(Sender::default().send(&request(address)), accepted(None));
    let (head, body) = server.join().unwrap();
    assert!(!head.contains(SIGNATURE), "{head}");
    assert_eq!(body, r#"{"a":"ä"}"#);
}

#[test]
fn connections_are_kept() {
    let (listener, address) = listen();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for _ in 0..3 {
            read(&stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        }
    });
    let sender = Sender::default();
    let request = request(address);
    for _ in 0..3 {
        assert_eq!(sender.clone().send(&request), accepted(Some("ok")));
    }
    server.join().unwrap();
}

#[test]
fn ipv6() {
    // Not every machine has IPv6.
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read(&stream);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    });
    assert_eq!(Sender::default().send(&request(address.parse().unwrap())), accepted(None));
    server.join().unwrap();
}

#[test]
fn headers_that_may_be_set() {
    let set = [("Authorization", "Bearer x"), ("X-Y", ""), ("accept", "a\tb"), ("a!#$", "~")];
    assert_eq!(check_headers(&headers(&set)), Ok(()));
    assert_eq!(check_headers(&BTreeMap::new()), Ok(()));
}

#[test]
fn headers_that_may_not_be_set() {
    let problem = |name: &str, value: &str| check_headers(&headers(&[(name, value)])).unwrap_err();
    for name in RESERVED {
        assert_eq!(problem(name, "x"), format!("header \"{name}\": it cannot be set"));
        let name = name.to_uppercase();
        assert_eq!(problem(&name, "x"), format!("header \"{name}\": it cannot be set"));
    }
    for name in ["", "a b", "a:", "ä", "a(b)", "a\tb"] {
        let shown = name.replace('\t', " ");
        assert_eq!(problem(name, "x"), format!("header \"{shown}\": its name is not valid"));
    }
    for value in ["a\r\nb", "\n", "a\0", "\x7f", "\x1b"] {
        let expected = "header \"X-Y\": its value holds a control character";
        assert_eq!(problem("X-Y", value), expected);
    }
    assert_eq!(problem("X-Y", "ü"), "header \"X-Y\": its value is not ASCII");
}

#[test]
fn nothing_is_sent_with_invalid_headers() {
    let (listener, address) = listen();
    listener.set_nonblocking(true).unwrap();
    let mut request = request(address);
    request.headers = headers(&[("Content-Length", "0")]);
    let problem = "header \"Content-Length\": it cannot be set";
    assert_eq!(Sender::default().send(&request), Answer::refused(problem));
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

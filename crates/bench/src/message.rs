//! Just enough of HTTP/1.1 to tell where a message ends, what it is about, and what it answers.
//!
//! Both ends of what is measured here speak to it: what this costs is taken from the same cores. So it reads the few
//! headers that matter and trusts the peer with the rest; a chunked body it does not know.

use memchr::memchr;

/// What the head of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The request line or status line, without its end.
    pub first_line: &'a [u8],
    /// How many bytes the head has, the empty line included.
    pub length: usize,
    /// How many bytes the body has.
    pub body_length: usize,
    /// The number in `webhook-id: evt_41`.
    pub event: Option<u64>,
    /// Whether the peer closes the connection after this message.
    pub closes: bool,
}

impl<'a> Head<'a> {
    /// Reads the head at the beginning of these bytes; `None` while it is not complete.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let end = memchr(b'\n', bytes)?;
        let mut head = Self {
            first_line: trimmed(&bytes[..end]),
            length: end + 1,
            body_length: 0,
            event: None,
            closes: false,
        };
        loop {
            let rest = &bytes[head.length..];
            let end = memchr(b'\n', rest)?;
            let line = trimmed(&rest[..end]);
            head.length += end + 1;
            if line.is_empty() {
                return Some(head);
            }
            head.take_in(line);
        }
    }

    fn take_in(&mut self, line: &[u8]) {
        // Nearly all lines are told apart by their length up to the colon, before their text is looked at.
        let Some(colon) = memchr(b':', line) else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.body_length = usize::try_from(number(value)).unwrap_or(usize::MAX);
            }
            10 if name.eq_ignore_ascii_case(b"webhook-id") => {
                self.event = value.strip_prefix(b"evt_").map(number);
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.closes = value.eq_ignore_ascii_case(b"close");
            }
            _ => {}
        }
    }

    /// The status of a response, 0 where the line is none.
    pub fn status(&self) -> u16 {
        let code = self.first_line.get(9..12).unwrap_or_default();
        u16::try_from(number(code)).unwrap_or(0)
    }

    /// The path of a request.
    pub fn path(&self) -> &'a [u8] {
        self.first_line.split(|&byte| byte == b' ').nth(1).unwrap_or_default()
    }

    /// The whole message, body included.
    pub fn message_length(&self) -> usize {
        self.length + self.body_length
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The number that these bytes begin with.
pub fn number(digits: &[u8]) -> u64 {
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, &digit| number * 10 + u64::from(digit - b'0'))
}

/// The event's number in the answer to a publish, `{"event_id":41,…`.
pub fn published_event(body: &[u8]) -> Option<u64> {
    let rest = body.strip_prefix(br#"{"event_id":"#)?;
    rest.first()?.is_ascii_digit().then(|| number(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVERY: &[u8] =
        b"POST /ok/3 HTTP/1.1\r\nhost: 127.0.0.1:9000\r\nWebhook-Id: evt_4711\r\n\
        postrider-signature: t=1,v1=00\r\ncontent-length: 12\r\n\r\n{\"data\":{}}\r\n";

    #[test]
    fn a_delivery_is_read() {
        let head = Head::read(DELIVERY).unwrap();
        assert_eq!(head.first_line, b"POST /ok/3 HTTP/1.1");
        assert_eq!(head.path(), b"/ok/3");
        assert_eq!((head.body_length, head.event), (12, Some(4711)));
        assert_eq!(&DELIVERY[head.length..][..11], b"{\"data\":{}}");
        assert_eq!(head.message_length(), head.length + 12);
    }

    #[test]
    fn a_head_is_complete_or_not_there() {
        let complete = Head::read(DELIVERY).unwrap().length;
        for cut in 0..complete {
            assert_eq!(Head::read(&DELIVERY[..cut]), None, "{cut}");
        }
        assert!(Head::read(&DELIVERY[..complete]).is_some());
    }

    #[test]
    fn an_answer_is_read() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length:  28 \r\nconnection: close\r\n\r\n";
        let head = Head::read(answer).unwrap();
        assert_eq!((head.status(), head.body_length, head.closes), (201, 28, true));
        assert_eq!(Head::read(b"HTTP/1.1\n\n").unwrap().status(), 0);
    }

    #[test]
    fn the_published_event_is_found() {
        let check = |body: &str, expected| assert_eq!(published_event(body.as_bytes()), expected);
        check(r#"{"event_id":41,"type":"a","created":1.5,"endpoint_count":2}"#, Some(41));
        check(r#"{"event_id":null}"#, None);
        check(r#"{"detail":"no"}"#, None);
        check("", None);
    }
}

//! Pages of lists: `limit`, `offset`, `ordering`, and the links to the pages before and after, character for character
//! as Django REST Framework's `LimitOffsetPagination` writes them.

use std::{borrow::Cow, cmp::Ordering, fmt::Write};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use postrider_store::OrderBy;
use serde::Serialize;

/// The page length of who doesn't ask for one.
const LIMIT_DEFAULT: u32 = 20;

/// The longest page.
const LIMIT_MAX: u32 = 100;

/// What Python's `quote_plus` leaves as it is, besides letters and digits.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~');

/// A query string's parameters, decoded, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string as Python's `parse_qsl(keep_blank_values=True)` does.
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unquote_plus(name), unquote_plus(value))
        });
        Self(pairs.collect())
    }

    /// A parameter's value; of a repeated one the last counts.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads `ordering`: a comma list of names, each with `-` for descending. Unknown names and repetitions are dropped.
    pub fn ordering<F: Copy + PartialEq>(
        &self,
        field: impl Fn(&str) -> Option<F>,
        default: OrderBy<F>,
    ) -> Vec<OrderBy<F>> {
        let mut ordering: Vec<OrderBy<F>> = Vec::new();
        for term in self.last("ordering").unwrap_or_default().split(',') {
            let term = term.trim();
            let (name, descending) = match term.strip_prefix('-') {
                Some(name) => (name, true),
                None => (term, false),
            };
            if let Some(field) = field(name)
                && !ordering.iter().any(|earlier| earlier.field == field)
            {
                ordering.push(OrderBy { field, descending });
            }
        }
        if ordering.is_empty() { vec![default] } else { ordering }
    }

    /// The query string with `limit` and `offset` set, or without an offset; names sorted, as Python's `urlencode` writes.
    fn with_page(&self, limit: u32, offset: Option<u128>) -> String {
        let others = self.0.iter().filter(|(name, _)| name != "limit" && name != "offset");
        let mut pairs: Vec<(&str, Cow<'_, str>)> =
            others.map(|(name, value)| (name.as_str(), Cow::Borrowed(value.as_str()))).collect();
        pairs.push(("limit", limit.to_string().into()));
        pairs.extend(offset.map(|offset| ("offset", offset.to_string().into())));
        // Sorting by name alone is stable, which keeps the values of a repeated parameter in their order.
        pairs.sort_by_key(|(name, _)| *name);
        let mut query = String::new();
        for (name, value) in pairs {
            let separator = if query.is_empty() { "" } else { "&" };
            // Writing to a string never fails.
            let _ = write!(query, "{separator}{}={}", quote_plus(name), quote_plus(&value));
        }
        query
    }
}

/// Which page was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    limit: u32,
    // An offset that no list reaches is still shown in links as it was asked for.
    offset: u128,
    query: Query,
}

impl PageRequest {
    /// Reads `limit` and `offset`; what makes no sense counts as not given.
    pub fn new(query: Query) -> Self {
        let number = |name| query.last(name).and_then(positive_number);
        let limit = number("limit").filter(|limit| *limit > 0).map_or(LIMIT_DEFAULT, |limit| {
            u32::try_from(limit).unwrap_or(LIMIT_MAX).min(LIMIT_MAX)
        });
        let offset = number("offset").unwrap_or(0);
        Self { limit, offset, query }
    }

    /// The longest that the page may be.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// How many items come before the page.
    pub fn offset(&self) -> u64 {
        // A store counts in signed 64 bits, and no list is that long.
        u64::try_from(self.offset).unwrap_or(u64::MAX).min(i64::MAX as u64)
    }

    /// The page of a list that is there as a whole, sorted by what was asked for: one of these fields, by default
    /// `created_at`, the newest first. Ties stay as they came.
    pub fn of_all<T, U>(
        &self,
        url: &str,
        mut all: Vec<T>,
        fields: &[&'static str],
        compare: impl Fn(&str, &T, &T) -> Ordering,
        show: impl Fn(T) -> U,
    ) -> Page<U> {
        let newest_first = OrderBy { field: "created_at", descending: true };
        let known = |name: &str| fields.iter().copied().find(|known| *known == name);
        let ordering = self.query.ordering(known, newest_first);
        let by_field = |one: &T, other: &T| {
            let by = |by: &OrderBy<&str>| match compare(by.field, one, other) {
                ordering if by.descending => ordering.reverse(),
                ordering => ordering,
            };
            ordering.iter().map(by).find(|found| found.is_ne()).unwrap_or(Ordering::Equal)
        };
        all.sort_by(by_field);
        let count = all.len() as u64;
        let skipped = usize::try_from(self.offset()).unwrap_or(usize::MAX);
        let part = all.into_iter().skip(skipped).take(self.limit as usize);
        self.page(url, count, part.map(show).collect())
    }

    /// The page that this part of a list of `count` items makes. `url` is where it was asked for, without the query.
    pub fn page<T>(&self, url: &str, count: u64, results: Vec<T>) -> Page<T> {
        let after = self.offset.saturating_add(self.limit.into());
        let link = |offset| format!("{url}?{}", self.query.with_page(self.limit, offset));
        let next = (after < count.into()).then(|| link(Some(after)));
        let before = self.offset.saturating_sub(self.limit.into());
        let previous = (self.offset > 0).then(|| link((before > 0).then_some(before)));
        Page { count, next, previous, results }
    }
}

/// A part of a list, as the API shows it.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    count: u64,
    next: Option<String>,
    previous: Option<String>,
    results: Vec<T>,
}

impl<T> Page<T> {
    /// The next page's link and the previous one's.
    pub fn links(self) -> [Option<String>; 2] {
        [self.next, self.previous]
    }
}

/// A number that is not negative, as Python's `int` reads one; the largest when it is larger than that.
fn positive_number(text: &str) -> Option<u128> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().unwrap_or(u128::MAX);
    (number == 0 || !text.starts_with('-')).then_some(number)
}

fn unquote_plus(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

fn quote_plus(text: &str) -> String {
    utf8_percent_encode(text, QUOTED).to_string().replace("%20", "+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const URL: &str = "https://host/api/v2/webhook/endpoint/";

    /// `next` and `previous` without the URL that they share.
    fn check(query: &str, count: u64, next: Option<&str>, previous: Option<&str>) {
        let page = PageRequest::new(Query::parse(query)).page(URL, count, Vec::<()>::new());
        let cut = |link: &Option<String>| {
            link.as_ref().map(|link| link.strip_prefix(URL).unwrap().to_owned())
        };
        assert_eq!(cut(&page.next).as_deref(), next, "next of {query:?}");
        assert_eq!(cut(&page.previous).as_deref(), previous, "previous of {query:?}");
    }

    #[test]
    fn links_lead_to_the_pages_around() {
        check("", 20, None, None);
        check("", 21, Some("?limit=20&offset=20"), None);
        check("limit=5", 12, Some("?limit=5&offset=5"), None);
        check("limit=5&offset=5", 12, Some("?limit=5&offset=10"), Some("?limit=5"));
        check("limit=5&offset=10", 12, None, Some("?limit=5&offset=5"));
        check("limit=5&offset=3", 12, Some("?limit=5&offset=8"), Some("?limit=5"));
        check("offset=40", 12, None, Some("?limit=20&offset=20"));
        check(
            "offset=99999999999999999999",
            12,
            None,
            Some("?limit=20&offset=99999999999999999979"),
        );
    }

    #[test]
    fn other_parameters_are_kept_and_sorted() {
        check(
            "zeta=1&limit=5&alpha=a+b%2Fc&ordering=-created_at&zeta=0",
            12,
            Some("?alpha=a+b%2Fc&limit=5&offset=5&ordering=-created_at&zeta=1&zeta=0"),
            None,
        );
        check(
            "limit=5&blank=&bare&x=%FF~é",
            12,
            Some("?bare=&blank=&limit=5&offset=5&x=%EF%BF%BD~%C3%A9"),
            None,
        );
        check(
            "offset=4&offset=5&limit=9&limit=5",
            12,
            Some("?limit=5&offset=10"),
            Some("?limit=5"),
        );
    }

    #[test]
    fn what_makes_no_sense_counts_as_not_given() {
        let check = |query: &str, expected: (u32, u64)| {
            let asked = PageRequest::new(Query::parse(query));
            assert_eq!((asked.limit(), asked.offset()), expected, "{query}");
        };
        for senseless in [
            "limit=0",
            "limit=-1",
            "limit=x",
            "limit=",
            "limit=1.5",
            "limit=-0",
            "offset=-1",
            "offset=x",
        ] {
            check(senseless, (20, 0));
        }
        check("limit=100", (100, 0));
        check("limit=101", (100, 0));
        check("limit=99999999999999999999999999999999999999999999", (100, 0));
        check("limit=%205%20&offset=%2B7", (5, 7));
        check("offset=99999999999999999999999999999999999999999999", (20, i64::MAX as u64));
    }

    #[test]
    fn orderings_drop_what_they_do_not_know() {
        let check = |query: &str, expected: &str| {
            let field = |name: &str| ["a", "b"].into_iter().find(|known| *known == name);
            let default = OrderBy { field: "default", descending: true };
            let shown: Vec<_> = Query::parse(query)
                .ordering(field, default)
                .iter()
                .map(|by| format!("{}{}", if by.descending { "-" } else { "" }, by.field))
                .collect();
            assert_eq!(shown.join(","), expected, "{query}");
        };
        check("", "-default");
        check("ordering=", "-default");
        check("ordering=c,--a,-", "-default");
        check("ordering=a", "a");
        check("ordering=+-b+,+a+", "-b,a");
        check("ordering=a,-a,c,b", "a,b");
    }

    proptest! {
        #[test]
        fn no_query_panics_and_links_read_back(query in "[a-z&=%+0-9,_-]{0,40}|.{0,20}", count: u64) {
            let asked = PageRequest::new(Query::parse(&query));
            let page = asked.page(URL, count, Vec::<()>::new());
            if let Some(next) = page.next {
                let next = PageRequest::new(Query::parse(next.split_once('?').unwrap().1));
                prop_assert_eq!(next.limit, asked.limit);
                prop_assert_eq!(next.offset, asked.offset + u128::from(asked.limit));
            }
            asked.query.ordering(|name| (name == "a").then_some(()), OrderBy { field: (), descending: false });
        }
    }
}

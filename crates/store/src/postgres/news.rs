//! What nodes tell each other, by LISTEN and NOTIFY. News are a hint, never the truth: they save waiting, and whoever
//! misses some finds the same in the tables a little later.
//!
//! Notifying makes a commit wait for every other commit that notifies. So a change of the directory does it in its own
//! transaction, where it is rare; what publishers have no room for is gathered and told after their commits, not once for
//! each.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use deadpool_postgres::{GenericClient, Pool};
use postrider_kernel::{EndpointId, TenantId};
use tokio::{sync::Notify, task::JoinHandle, time::sleep};
use tokio_postgres::{AsyncMessage, Client, Connection, Socket};

use super::{
    connect::Address,
    query::{cannot_connect, execute, sql},
    tls::Encrypted,
};
use crate::{News, Result};

/// Postgres takes fewer than 8000 bytes.
const NEWS_MAX: usize = 7900;

/// How long what is due gathers before it is told again.
const GATHERING: Duration = Duration::from_millis(10);

/// How long to wait before the next try to reach Postgres, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What is told, in as many words as fit.
pub(super) enum Told {
    Directory,
    Due(BTreeSet<(TenantId, EndpointId)>),
}

impl Told {
    fn in_words(&self, sender: &str) -> String {
        let words = match self {
            Self::Directory => format!("{sender} directory"),
            Self::Due(endpoints) => {
                endpoints.iter().fold(format!("{sender} due"), |words, (tenant, endpoint)| {
                    format!("{words} {tenant}.{endpoint}")
                })
            }
        };
        if words.len() > NEWS_MAX { format!("{sender} look-again") } else { words }
    }
}

/// Reads what was told; what can't be read is worth a look.
fn read(words: &str) -> News {
    let mut words = words.split(' ').skip(1);
    match words.next() {
        Some("directory") => News::Directory,
        Some("due") => {
            words.map(read_endpoint).collect::<Option<_>>().map_or(News::LookAgain, News::Due)
        }
        _ => News::LookAgain,
    }
}

fn read_endpoint(word: &str) -> Option<(TenantId, EndpointId)> {
    let (tenant, endpoint) = word.split_once('.')?;
    Some((TenantId::new(tenant.parse().ok()?), EndpointId::new(endpoint.parse().ok()?)))
}

/// Tells the others, when the transaction commits.
pub(super) async fn tell(client: &impl GenericClient, sender: &str, told: &Told) -> Result<()> {
    execute(client, "SELECT pg_notify('postrider', $1)", &[&told.in_words(sender)]).await?;
    Ok(())
}

/// News that came and weren't asked for yet: at most one for each endpoint, however long nobody asks.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    look_again: bool,
    directory: bool,
    due: BTreeSet<(TenantId, EndpointId)>,
}

impl Inbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, news: News) {
        match news {
            News::Directory => self.waiting().directory = true,
            News::Due(endpoints) => self.waiting().due.extend(endpoints),
            News::LookAgain => self.waiting().look_again = true,
        }
        self.arrived.notify_one();
    }

    /// The next news. A call that is dropped while it waits has taken none.
    pub(super) async fn next(&self) -> News {
        loop {
            if let Some(news) = self.waiting().take() {
                return news;
            }
            self.arrived.notified().await;
        }
    }
}

impl Waiting {
    fn take(&mut self) -> Option<News> {
        if std::mem::take(&mut self.look_again) {
            return Some(News::LookAgain);
        }
        if std::mem::take(&mut self.directory) {
            return Some(News::Directory);
        }
        let due = std::mem::take(&mut self.due);
        (!due.is_empty()).then(|| News::Due(due.into_iter().collect()))
    }
}

/// A connection on which the others are heard.
struct Ear {
    /// Kept, since the connection ends with it.
    _client: Client,
    connection: Connection<Socket, Encrypted<Socket>>,
}

/// Hears the others from now on, for as long as the answer, a task, runs. Without a connection it is an error at first,
/// and later a reason to try again.
pub(super) async fn listen(
    address: Address,
    sender: String,
    inbox: Arc<Inbox>,
) -> Result<JoinHandle<()>> {
    let mut ear = Ear::open(&address).await?;
    Ok(tokio::spawn(async move {
        loop {
            ear.hear(&sender, &inbox).await;
            ear = Ear::open_again(&address).await;
            inbox.put(News::LookAgain);
        }
    }))
}

impl Ear {
    async fn open(address: &Address) -> Result<Self> {
        let connecting = address.config.connect(address.tls.clone());
        let (client, mut connection) = connecting.await.map_err(|error| cannot_connect(&error))?;
        {
            // The connection does its work only while it is polled.
            let mut listen = std::pin::pin!(client.batch_execute("LISTEN postrider"));
            poll_fn(|context| {
                // Notices are of no interest; of an error or the end, the answer tells too.
                while let Poll::Ready(Some(Ok(_))) = connection.poll_message(context) {}
                listen.as_mut().poll(context)
            })
            .await
            .map_err(|error| cannot_connect(&error))?;
        }
        Ok(Self { _client: client, connection })
    }

    async fn open_again(address: &Address) -> Self {
        let (mut backoff, backoff_max) = BACKOFF;
        loop {
            match Self::open(address).await {
                Ok(ear) => return ear,
                Err(error) => tracing::warn!("other nodes can't be heard: {error}"),
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(backoff_max);
        }
    }

    /// Hears until the connection ends.
    async fn hear(&mut self, sender: &str, inbox: &Inbox) {
        while let Some(Ok(message)) = poll_fn(|context| self.connection.poll_message(context)).await
        {
            if let AsyncMessage::Notification(heard) = message
                && !heard.payload().starts_with(sender)
            {
                inbox.put(read(heard.payload()));
            }
        }
    }
}

/// What publishers left pending, gathered until it is told.
pub(super) struct Outbox {
    due: Mutex<BTreeSet<(TenantId, EndpointId)>>,
    arrived: Notify,
}

impl Outbox {
    /// An outbox, and the task that tells what is put into it.
    pub(super) fn open(pool: Pool, sender: String) -> (Arc<Self>, JoinHandle<()>) {
        let outbox = Arc::new(Self { due: Mutex::default(), arrived: Notify::new() });
        let teller = tokio::spawn(outbox.clone().tell_all(pool, sender));
        (outbox, teller)
    }

    /// Deliveries of these endpoints are pending and due.
    pub(super) fn put(&self, endpoints: impl IntoIterator<Item = (TenantId, EndpointId)>) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.extend(endpoints);
        if !due.is_empty() {
            self.arrived.notify_one();
        }
    }

    async fn tell_all(self: Arc<Self>, pool: Pool, sender: String) {
        loop {
            self.arrived.notified().await;
            let due = std::mem::take(&mut *self.due.lock().unwrap_or_else(PoisonError::into_inner));
            // Whoever isn't told looks by itself before long.
            if let Err(error) = Self::tell(&pool, &sender, Told::Due(due)).await {
                tracing::debug!("what is due could not be told to other nodes: {error}");
            }
            sleep(GATHERING).await;
        }
    }

    /// Nothing is lost with this transaction, so that nobody waits for the disk on its account.
    async fn tell(pool: &Pool, sender: &str, told: Told) -> Result<()> {
        let client = pool.get().await?;
        execute(&client, sql!("tell_due"), &[&told.in_words(sender)]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let endpoint = |id| (TenantId::new(7), EndpointId::new(id));
        let due = |ids: std::ops::Range<i64>| Told::Due(ids.map(endpoint).collect());
        assert_eq!(read(&Told::Directory.in_words("me")), News::Directory);
        let both = News::Due(vec![endpoint(1), endpoint(2)]);
        assert_eq!(read(&due(1..3).in_words("me")), both);
        assert_eq!(read(&due(1..100_000).in_words("me")), News::LookAgain);
        for words in ["", "me", "me due 1", "me due 1.x", "a later version's words"] {
            assert_eq!(read(words), News::LookAgain, "{words}");
        }
    }

    #[tokio::test]
    async fn news_that_nobody_asked_for_yet_are_told_once() {
        let inbox = Inbox::default();
        let due = |id| News::Due(vec![(TenantId::new(1), EndpointId::new(id))]);
        for news in [due(2), News::Directory, due(1), due(2), News::Directory] {
            inbox.put(news);
        }
        assert_eq!(inbox.next().await, News::Directory);
        let (one, two) =
            ((TenantId::new(1), EndpointId::new(1)), (TenantId::new(1), EndpointId::new(2)));
        assert_eq!(inbox.next().await, News::Due(vec![one, two]));
    }
}

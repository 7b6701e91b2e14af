//! The receivers, and the way to them. Each target leads to one receiver, `http://e2-g1.example/` to the second place that
//! endpoint 2 had; what it does with a request is drawn when it arrives.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    ledger::{Place, Signed, Written},
    plan::Nature,
    world::{Sleep, World},
};
use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use postrider::{
    gate::Pass,
    life::Life,
    transport::{Connection, Destination, NotConnected, Transport, Unsent},
};
use postrider_kernel::{
    Failure, Target,
    attempt::{Answer, Cause},
};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The network as one process sees it.
#[derive(Clone)]
pub struct SimNetwork {
    /// What it is part of.
    pub world: Arc<World>,
    /// The node that it is seen from.
    pub node: usize,
    /// The life whose deliveries are sent.
    pub life: Arc<Life>,
}

/// The URL of a place.
pub fn target(place: Place) -> Target {
    let url = format!("http://e{}-g{}.example/hook", place.endpoint, place.generation);
    Target::parse(&url).expect("it is a URL")
}

/// The place of a host.
fn place_of(host: &str) -> Place {
    let (endpoint, generation) = host
        .strip_prefix('e')
        .and_then(|rest| rest.strip_suffix(".example"))
        .and_then(|rest| rest.split_once("-g"))
        .expect("the simulation's own host");
    let (endpoint, generation) = (endpoint.parse(), generation.parse());
    Place {
        endpoint: endpoint.expect("the simulation's own host"),
        generation: generation.expect("the simulation's own host"),
    }
}

/// What a try to connect meets.
enum Reception {
    Connected(Duration),
    Refused(Duration),
    Nobody,
    Shortage,
}

/// What a request meets.
#[derive(Clone, Debug)]
enum Conduct {
    /// An answer, after so long; with a `Retry-After` where there is one.
    Answers { status: u16, retry_after: Option<String>, after: Duration },
    /// The connection had been closed before the request came.
    WasClosed,
    /// Nothing is ever read.
    TakesNothing,
    /// It is read, and never answered.
    Hangs,
    /// The connection breaks before or after the request was read.
    Breaks { after: Duration, has_read: bool },
}

impl SimNetwork {
    fn sleep(&self, duration: Duration) -> Sleep {
        self.world.sleep(self.node, duration)
    }

    fn nature(&self, place: Place) -> Nature {
        let nature = self.world.plan.endpoints[place.endpoint].nature;
        if self.world.is_healed() && !nature.is_dead() { Nature::Healthy } else { nature }
    }

    fn reception(&self, place: Place) -> Reception {
        let nature = self.nature(place);
        let mut chance = self.world.network_chance();
        let soon = chance.millis(0, 20);
        match nature {
            Nature::Absent => Reception::Refused(soon),
            Nature::Healthy | Nature::Hanging | Nature::Broken => Reception::Connected(soon),
            Nature::Moody | Nature::Leaving => match chance.between(0, 99) {
                0..5 => Reception::Refused(soon),
                5..8 => Reception::Nobody,
                8..11 => Reception::Shortage,
                11..20 => Reception::Connected(chance.millis(20, 900)),
                _ => Reception::Connected(soon),
            },
        }
    }

    fn conduct(&self, place: Place, is_reused: bool) -> Conduct {
        let nature = self.nature(place);
        let mut chance = self.world.network_chance();
        let soon = chance.millis(0, 15);
        let answers = |status, after| Conduct::Answers { status, retry_after: None, after };
        match nature {
            Nature::Healthy => answers(200, soon),
            Nature::Broken => answers(500, soon),
            Nature::Hanging | Nature::Absent => Conduct::Hangs,
            Nature::Moody | Nature::Leaving => match chance.between(0, 99) {
                0..6 if is_reused => Conduct::WasClosed,
                6..10 => Conduct::TakesNothing,
                10..17 => Conduct::Hangs,
                17..24 => Conduct::Breaks { after: soon, has_read: true },
                24..29 => Conduct::Breaks { after: soon, has_read: false },
                29..39 => answers(*chance.pick(&[500, 503, 404, 302]), soon),
                39..45 => {
                    let retry_after = self.retry_after(chance.between(0, 20), chance.percent(30));
                    let status = *chance.pick(&[429, 503]);
                    Conduct::Answers { status, retry_after: Some(retry_after), after: soon }
                }
                45..49 if nature == Nature::Leaving => answers(410, soon),
                49..60 => answers(200, chance.millis(500, 8_000)),
                _ => answers(*chance.pick(&[200, 202, 204]), soon),
            },
        }
    }

    /// So many seconds from now, as a number or as a date.
    fn retry_after(&self, seconds: u64, as_date: bool) -> String {
        if !as_date {
            return seconds.to_string();
        }
        let then = self.world.receivers_clock().plus(Duration::from_secs(seconds)).as_seconds();
        let since_epoch = Duration::from_secs(u64::try_from(then).unwrap_or(0));
        httpdate::fmt_http_date(std::time::UNIX_EPOCH + since_epoch)
    }
}

#[async_trait]
impl Transport for SimNetwork {
    async fn connect(
        &self,
        destination: Destination<'_>,
        limit: Duration,
    ) -> Result<Box<dyn Connection>, NotConnected> {
        let place = place_of(&destination.target.host_header());
        let limit = limit.min(CONNECT_TIMEOUT);
        let reached = async {
            match self.reception(place) {
                Reception::Connected(after) => self.sleep(after).await,
                Reception::Refused(after) => {
                    self.sleep(after).await;
                    return Err(failed(Cause::Connect, "connection refused"));
                }
                Reception::Nobody => std::future::pending().await,
                Reception::Shortage => {
                    return Err(NotConnected::Shortage(io::Error::other("no more sockets")));
                }
            }
            Ok(())
        };
        let timed_out = Err(failed(Cause::Connect, "no connection in time"));
        let reached = self.world.timeout(self.node, limit, reached).await.unwrap_or(timed_out);
        self.world.note(|| format!("connect {place:?}: {}", reached.is_ok()));
        reached?;
        let network = self.clone();
        Ok(Box::new(SimConnection { network, place, is_open: true, is_fresh: true }))
    }
}

fn failed(cause: Cause, detail: &str) -> NotConnected {
    NotConnected::Failed { failure: Failure::new(cause, detail), peer: None }
}

/// A connection to a receiver.
struct SimConnection {
    network: SimNetwork,
    place: Place,
    is_open: bool,
    is_fresh: bool,
}

#[async_trait]
impl Connection for SimConnection {
    fn peer(&self) -> Option<SocketAddr> {
        Some(SocketAddr::from(([192, 0, 2, 1], 80)))
    }

    fn is_reusable(&mut self) -> bool {
        self.is_open
    }

    async fn send(
        &mut self,
        request: Request<Bytes>,
        pass: Pass,
        limit: Duration,
    ) -> Result<Answer, Unsent> {
        let world = self.network.world.clone();
        let flight = Flight::begin(&self.network, self.place, &request);
        let conduct = self.network.conduct(self.place, !self.is_fresh);
        world.note(|| format!("send {:?}: {conduct:?}", flight.signed));
        (self.is_open, self.is_fresh) = (false, false);
        let mut written = Written::No;
        let conversation = converse(&flight, &request, conduct, pass, &mut written);
        let sent = match world.timeout(self.network.node, limit, conversation).await {
            Some(sent) => sent,
            None => Err(Unsent::Failed {
                failure: Failure::new(Cause::Timeout, "no answer in time"),
                written: written == Written::Yes,
            }),
        };
        self.is_open = sent.is_ok();
        flight.end(&sent);
        sent
    }
}

/// Writes a request, and waits for what the receiver makes of it.
async fn converse(
    flight: &Flight,
    request: &Request<Bytes>,
    conduct: Conduct,
    pass: Pass,
    written: &mut Written,
) -> Result<Answer, Unsent> {
    let (network, world) = (&flight.network, &flight.network.world);
    let closed = |written| Unsent::Failed {
        failure: Failure::new(Cause::Closed, "the receiver closed the connection"),
        written,
    };
    let write_takes = match conduct {
        Conduct::WasClosed => return Err(closed(false)),
        Conduct::TakesNothing => Duration::MAX,
        // To take a request slowly is a fault, too, and ends with the others.
        _ if !world.is_healed() && world.network_chance().percent(10) => {
            world.network_chance().millis(1, 1_500)
        }
        _ => Duration::ZERO,
    };
    tokio::select! {
        biased;
        () = pass.gives_up() => return Err(Unsent::GaveUp),
        () = network.sleep(write_takes), if !write_takes.is_zero() => {}
        () = std::future::ready(()), if write_takes.is_zero() => {}
    }
    // The receiver has the first bytes.
    *written = Written::Yes;
    world.ledger().written(world, &flight.signed, request);
    drop(pass);
    match conduct {
        Conduct::Answers { status, retry_after, after } => {
            network.sleep(after).await;
            // What was asked for is found again in the record.
            let body = retry_after.clone().unwrap_or_default().into_bytes();
            Ok(Answer { status, retry_after, body })
        }
        Conduct::Breaks { after, has_read } => {
            network.sleep(after).await;
            world.note(|| format!("{:?} broke off, read: {has_read}", flight.signed));
            Err(closed(true))
        }
        Conduct::Hangs | Conduct::TakesNothing | Conduct::WasClosed => std::future::pending().await,
    }
}

/// A request that was signed and has no answer yet.
struct Flight {
    network: SimNetwork,
    signed: Signed,
}

impl Flight {
    fn begin(network: &SimNetwork, place: Place, request: &Request<Bytes>) -> Self {
        let (world, lease) = (&network.world, network.life.lease());
        let signed = world.ledger().signed(world, network.node, lease, place, request);
        Self { network: network.clone(), signed }
    }

    fn end(&self, sent: &Result<Answer, Unsent>) {
        let world = &self.network.world;
        world.note(|| format!("{:?} came to {sent:?}", self.signed));
        world.ledger().answered(&self.signed, sent);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.network.world.ledger().landed(&self.signed);
    }
}

//! Postrider's decisions, and nothing else.
//!
//! # The life of an event
//!
//! A publisher hands in an [`EventType`] and its [`EventData`]. The [`event`] module builds the *payload* once: the exact
//! bytes that every attempt will sign and send. The event is owed to each active [`endpoint`] that enabled its type; each
//! such debt is a *delivery*.
//!
//! A delivery is tried: its [`request`] is composed and signed, in both dialects of [`signature`], by the [`secret`]s
//! which are live at that very moment, and sent to an address that the [`egress`] policy allows. What came of the try is
//! an [`Outcome`], and [`delivery::settle`] turns it into a [`Settlement`]: delivered, to be tried again when the
//! [`retry`] schedule says so, or failed for good. [`health`] says when a failure concerns the endpoint as a whole.
//!
//! # What is deliberately not here
//!
//! No IO, no clock, no randomness, no async. Whoever calls passes in the time and the random bytes, so that each decision
//! can be asked again and answers the same.
#![forbid(unsafe_code)]

pub mod attempt;
pub mod delivery;
pub mod egress;
pub mod endpoint;
pub mod event;
pub mod event_type;
pub mod health;
pub mod id;
pub mod request;
pub mod retry;
pub mod secret;
pub mod signature;
pub mod signing_key;
pub mod tenant;
pub mod time;

pub use attempt::{Failure, Outcome, Trigger};
pub use delivery::{Next, Settlement};
pub use endpoint::Target;
pub use event::{Created, EventData};
pub use event_type::EventType;
pub use id::{
    AttemptId, AuditId, DeliveryId, EndpointId, EventId, SecretId, TenantId, TokenId, UserId,
};
pub use retry::RetrySchedule;
pub use secret::SigningSecret;
pub use signing_key::{PublicKey, SigningKey};
pub use tenant::Role;
pub use time::Timestamp;

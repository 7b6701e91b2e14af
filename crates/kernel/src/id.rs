//! Identifiers. Integers from 1, unique in the instance, never reused, never above 2^53-1 because JavaScript reads them.

use std::fmt;

/// The largest identifier that JavaScript reads exactly: 2^53-1.
pub const ID_MAX: i64 = (1 << 53) - 1;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// Takes a number that the store handed out.
            pub const fn new(id: i64) -> Self {
                Self(id)
            }

            /// The number as it is stored and shown.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}

ids! {
    /// A tenant: a community or customer.
    TenantId
    /// A person or program that signs in.
    UserId
    /// An API token.
    TokenId
    /// A receiver's URL with its subscription.
    EndpointId
    /// One generation of an endpoint's signing secret.
    SecretId
    /// One published fact.
    EventId
    /// One event owed to one endpoint.
    DeliveryId
    /// One HTTP try.
    AttemptId
    /// One line of the audit log.
    AuditId
}

//! Tenants, and what a role may do in one.

use std::fmt;

use thiserror::Error;

/// The tenant that exists from the first start.
pub const DEFAULT_TENANT: &str = "default";

/// A tenant's or a user's name: 1 to 100 letters, digits, `.`, `_`, `-`, `@` or `+`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a name has 1 to 100 letters, digits or any of . _ - @ +")]
pub struct InvalidName;

impl Name {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_alphanumeric() || ".-_@+".contains(c);
        let length = text.chars().count();
        if (1..=100).contains(&length) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName)
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a credential may do (`webhook-api-v2.md`, Credentials).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything, in every tenant.
    Operator,
    /// Everything in its tenant.
    Admin,
    /// Publishes events and reads event types.
    Publisher,
    /// Reads everything of its tenant except secrets.
    Viewer,
}

impl Role {
    /// All roles, the mightiest first.
    pub const ALL: [Self; 4] = [Self::Operator, Self::Admin, Self::Publisher, Self::Viewer];

    /// The role's name in the API, the command line and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
        }
    }

    /// Whether it may make, change or end credentials of that role: no admin makes an operator.
    pub fn manages(self, other: Self) -> bool {
        match self {
            Self::Operator => true,
            Self::Admin => other != Self::Operator,
            Self::Publisher | Self::Viewer => false,
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["default", "a", "jane.doe+x@example.com", "Zoë", &"x".repeat(100)] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\n", "a/b", &"x".repeat(101)] {
            assert_eq!(Name::parse(bad), Err(InvalidName), "{bad}");
        }
    }

    #[test]
    fn nobody_manages_a_role_above_its_own() {
        let managed = |role: Role| Role::ALL.map(|other| role.manages(other));
        assert_eq!(managed(Role::Operator), [true; 4]);
        assert_eq!(managed(Role::Admin), [false, true, true, true]);
        assert_eq!(managed(Role::Publisher), [false; 4]);
        assert_eq!(managed(Role::Viewer), [false; 4]);
    }

    #[test]
    fn roles_are_found_by_their_names() {
        assert!(Role::ALL.into_iter().all(|role| Role::parse(role.as_str()) == Some(role)));
        assert_eq!(Role::parse("root"), None);
    }
}

//! Which role may do what (`webhook-api-v2.md`, Credentials).

use http::Method;
use postrider_kernel::Role;

/// Whom a path lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load balancers and supervisors: no credential, and no talk about representations.
    Probe,
    /// Everyone; a credential is ignored.
    Open,
    /// Admins, and viewers who only read.
    Resource,
    /// Admins alone, whatever the method.
    Secret,
    /// Operators alone: what is above all tenants.
    Instance,
    /// Admins; viewers and publishers who only read.
    Catalogue,
    /// Admins, and publishers who publish.
    Publishing,
}

impl Access {
    /// Whether a credential is asked for.
    pub fn needs_credential(self) -> bool {
        !matches!(self, Self::Probe | Self::Open)
    }

    /// Whether credentials or secrets are made or shown there.
    pub fn guards_credentials(self) -> bool {
        matches!(self, Self::Secret | Self::Instance)
    }

    /// Whether a role is large enough. What is allowed is only answered where the path has the method.
    pub fn allows(self, role: Role, method: &Method) -> bool {
        let reads = method == Method::GET || method == Method::HEAD;
        let asks_what_is_possible = method == Method::OPTIONS;
        match (role, self) {
            _ if asks_what_is_possible || !self.needs_credential() => true,
            (Role::Operator, _) => true,
            (_, Self::Instance) => false,
            (Role::Admin, _) => true,
            (Role::Viewer, Self::Secret) => false,
            (Role::Viewer, _) => reads,
            (Role::Publisher, Self::Catalogue) => reads,
            (Role::Publisher, Self::Publishing) => method == Method::POST,
            (Role::Publisher, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_the_contract_says() {
        let mut table = String::new();
        for access in [
            Access::Resource,
            Access::Secret,
            Access::Instance,
            Access::Catalogue,
            Access::Publishing,
        ] {
            for role in Role::ALL {
                let may = [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS]
                    .iter()
                    .filter(|method| access.allows(role, method))
                    .map(Method::as_str)
                    .collect::<Vec<_>>();
                table += &format!("{access:?} {role}: {}\n", may.join(" "));
            }
        }
        insta::assert_snapshot!(table, @r"
        Resource operator: GET POST DELETE OPTIONS
        Resource admin: GET POST DELETE OPTIONS
        Resource publisher: OPTIONS
        Resource viewer: GET OPTIONS
        Secret operator: GET POST DELETE OPTIONS
        Secret admin: GET POST DELETE OPTIONS
        Secret publisher: OPTIONS
        Secret viewer: OPTIONS
        Instance operator: GET POST DELETE OPTIONS
        Instance admin: OPTIONS
        Instance publisher: OPTIONS
        Instance viewer: OPTIONS
        Catalogue operator: GET POST DELETE OPTIONS
        Catalogue admin: GET POST DELETE OPTIONS
        Catalogue publisher: GET OPTIONS
        Catalogue viewer: GET OPTIONS
        Publishing operator: GET POST DELETE OPTIONS
        Publishing admin: GET POST DELETE OPTIONS
        Publishing publisher: POST OPTIONS
        Publishing viewer: GET OPTIONS
        ");
    }
}

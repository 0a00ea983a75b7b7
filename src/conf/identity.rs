//! Who this node is: the names that `on <node>` may call it by (spec/03).

use std::fmt;

mod host;

/// The names of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The name given on the command line, which replaces all others: needed to run two nodes on
    /// one host.
    Explicit(String),
    /// What the system says.
    Host {
        /// The full host name.
        hostname: String,
        /// The host's UUID in each form that is accepted. Empty where the system has none.
        uuids: Vec<String>,
        /// The host id, if the system has one.
        hostid: Option<u64>,
    },
}

impl Identity {
    /// The node that this process runs on, or `node` if given.
    ///
    /// # Errors
    /// If the system does not tell its host name.
    pub fn detect(node: Option<&str>) -> Result<Identity, IdentityError> {
        match node {
            Some(name) => Ok(Identity::Explicit(name.to_owned())),
            None => host::identity(),
        }
    }

    /// Whether `on <name>` means this node.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Identity::Explicit(own) => own == name,
            Identity::Host {
                hostname,
                uuids,
                hostid,
            } => {
                name == hostname
                    || name == first_label(hostname)
                    || uuids.iter().any(|uuid| uuid.eq_ignore_ascii_case(name))
                    || hostid.is_some_and(|id| format!("hostid{id}") == name)
            }
        }
    }

    /// Every name that matches, in the original's order: short and full host name, UUID, host id.
    pub fn acceptable_names(&self) -> Vec<String> {
        match self {
            Identity::Explicit(own) => vec![own.clone()],
            Identity::Host {
                hostname,
                uuids,
                hostid,
            } => {
                let mut names = vec![first_label(hostname).to_owned()];
                if names[0] != *hostname {
                    names.push(hostname.clone());
                }
                names.extend(uuids.iter().cloned());
                names.extend(hostid.map(|id| format!("hostid{id}")));
                names
            }
        }
    }

    /// The name that stands for this node where the configuration is printed.
    pub fn name(&self) -> &str {
        match self {
            Identity::Explicit(own) => own,
            Identity::Host { hostname, .. } => first_label(hostname),
        }
    }
}

fn first_label(hostname: &str) -> &str {
    hostname
        .split_once('.')
        .map_or(hostname, |(label, _)| label)
}

/// The system does not say who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityError {
    /// What was asked for, and the system's reason.
    reason: String,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Unable to find out this node's name: {}. Give it with -N.",
            self.reason
        )
    }
}

impl std::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(hostname: &str) -> Identity {
        Identity::Host {
            hostname: hostname.to_owned(),
            uuids: vec!["0A0b0c0d-0000-0000-0000-000000000001".to_owned()],
            hostid: Some(3_000_000_000),
        }
    }

    #[test]
    fn a_name_that_is_only_similar_does_not_match() {
        let node = host("nodea.example.org");
        for name in [
            "node",
            "nodea.",
            "nodea.example",
            "example.org",
            "NODEA",
            "",
            "hostid",
            "3000000000",
            "hostid03000000000",
            "0a0b0c0d",
        ] {
            assert!(!node.matches(name), "{name:?}");
        }
    }

    #[test]
    fn host_name_first_label_uuid_and_hostid_match() {
        let node = host("nodea.example.org");
        for name in [
            "nodea",
            "nodea.example.org",
            "0a0B0c0d-0000-0000-0000-000000000001",
            "hostid3000000000",
        ] {
            assert!(node.matches(name), "{name:?}");
        }
        assert!(host("nodea").matches("nodea"));
    }

    #[test]
    fn an_explicit_name_replaces_all_others() {
        let node = Identity::detect(Some("a.b")).unwrap();
        assert!(node.matches("a.b"));
        assert!(!node.matches("a"));
        assert_eq!(node.acceptable_names(), ["a.b"]);
    }

    #[test]
    fn acceptable_names_are_those_of_the_original_in_its_order() {
        let uuid = "0A0b0c0d-0000-0000-0000-000000000001";
        assert_eq!(
            host("nodea.example.org").acceptable_names(),
            ["nodea", "nodea.example.org", uuid, "hostid3000000000"]
        );
        assert_eq!(
            host("nodea").acceptable_names(),
            ["nodea", uuid, "hostid3000000000"]
        );
    }

    #[test]
    fn this_host_matches_every_name_it_states() {
        let node = Identity::detect(None).unwrap();
        assert!(
            node.acceptable_names()
                .iter()
                .all(|name| node.matches(name))
        );
    }
}

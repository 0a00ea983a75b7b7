//! Becoming an unprivileged user for good.

use std::fmt;
use std::io;

use nix::unistd::{
    Gid, Uid, geteuid, getgroups, getresgid, getresuid, seteuid, setgroups, setresgid, setresuid,
    setuid,
};

/// An unprivileged user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Number; never 0.
    pub uid: Uid,
    /// Number of the primary group; never 0.
    pub gid: Gid,
}

/// Why a process cannot become an unprivileged user.
#[derive(Debug)]
pub enum UserError {
    /// There is no such user.
    Missing {
        /// The name.
        name: String,
    },
    /// The user database cannot be read.
    Lookup {
        /// The name.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// User or group 0 is not unprivileged.
    Privileged {
        /// The name.
        name: String,
    },
    /// A system call failed.
    Step {
        /// Which one.
        step: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// All system calls succeeded, and yet the process is not what it should be.
    NotInForce(String),
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserError::Missing { name } => {
                write!(
                    f,
                    "user \"{name}\" does not exist: create it with `{}`",
                    creation(name)
                )
            }
            UserError::Lookup { name, source } => {
                write!(f, "unable to look up user \"{name}\": {source}")
            }
            UserError::Privileged { name } => {
                write!(
                    f,
                    "user \"{name}\" has user or group number 0: name an unprivileged one"
                )
            }
            UserError::Step { step, source } => write!(f, "{step} failed: {source}"),
            UserError::NotInForce(what) => write!(f, "privileges were not dropped: {what}"),
        }
    }
}

impl std::error::Error for UserError {}

/// The command that creates an unprivileged user on this system.
fn creation(name: &str) -> String {
    if cfg!(target_os = "freebsd") {
        format!("pw useradd {name} -d /var/empty -s /usr/sbin/nologin")
    } else {
        format!(
            "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin {name}"
        )
    }
}

/// The user of that name; to be called before confinement, which hides the user database.
pub fn lookup(name: &str) -> Result<User, UserError> {
    let found = nix::unistd::User::from_name(name)
        .map_err(|error| UserError::Lookup {
            name: name.to_owned(),
            source: error.into(),
        })?
        .ok_or_else(|| UserError::Missing {
            name: name.to_owned(),
        })?;
    if found.uid.is_root() || found.gid.as_raw() == 0 {
        return Err(UserError::Privileged {
            name: name.to_owned(),
        });
    }
    Ok(User {
        name: found.name,
        uid: found.uid,
        gid: found.gid,
    })
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The process runs as the user and cannot go back.
    Dropped,
    /// The process was not started by root, and stays what it is.
    NotRoot,
}

/// Becomes the user: groups, group and user, real, effective and saved; verified afterwards.
///
/// Linux forgets the signal at the parent's death here: see [`crate::process::arm_parent_death`].
pub fn become_user(user: &User) -> Result<Outcome, UserError> {
    if !geteuid().is_root() {
        return Ok(Outcome::NotRoot);
    }
    let step = |step| {
        move |error: nix::Error| UserError::Step {
            step,
            source: error.into(),
        }
    };
    setgroups(&groups_of(user)).map_err(step("setgroups"))?;
    setresgid(user.gid, user.gid, user.gid).map_err(step("setresgid"))?;
    setresuid(user.uid, user.uid, user.uid).map_err(step("setresuid"))?;
    verify(user)?;
    Ok(Outcome::Dropped)
}

/// The supplementary groups: none. FreeBSD keeps the effective group in that list, at its head.
fn groups_of(user: &User) -> Vec<Gid> {
    if cfg!(target_os = "freebsd") {
        vec![user.gid]
    } else {
        Vec::new()
    }
}

/// Checks that the process is the user in every respect and cannot become root again.
pub fn verify(user: &User) -> Result<(), UserError> {
    let step = |step| {
        move |error: nix::Error| UserError::Step {
            step,
            source: error.into(),
        }
    };
    let users = getresuid().map_err(step("getresuid"))?;
    let groups = getresgid().map_err(step("getresgid"))?;
    if [users.real, users.effective, users.saved]
        .iter()
        .any(|uid| *uid != user.uid)
    {
        return Err(UserError::NotInForce(format!("user numbers are {users:?}")));
    }
    if [groups.real, groups.effective, groups.saved]
        .iter()
        .any(|gid| *gid != user.gid)
    {
        return Err(UserError::NotInForce(format!(
            "group numbers are {groups:?}"
        )));
    }
    let further = getgroups().map_err(step("getgroups"))?;
    if further.iter().any(|gid| *gid != user.gid) {
        return Err(UserError::NotInForce(format!(
            "supplementary groups are {further:?}"
        )));
    }
    if setuid(Uid::from_raw(0)).is_ok() || seteuid(Uid::from_raw(0)).is_ok() {
        return Err(UserError::NotInForce(
            "the process can become root again".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_user_comes_with_the_command_that_creates_it() {
        let error = lookup("no-such-user-here").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("\"no-such-user-here\" does not exist"),
            "{text}"
        );
        assert!(text.contains("useradd"), "{text}");
    }

    #[test]
    fn root_is_not_unprivileged() {
        assert!(matches!(lookup("root"), Err(UserError::Privileged { .. })));
    }

    #[test]
    fn known_user_is_found() {
        let user = lookup("nobody").unwrap();
        assert_ne!(user.uid.as_raw(), 0);
    }

    #[test]
    fn verification_notices_another_user() {
        let other = User {
            name: "other".into(),
            uid: Uid::from_raw(geteuid().as_raw() + 1),
            gid: Gid::from_raw(1),
        };
        assert!(matches!(verify(&other), Err(UserError::NotInForce(_))));
    }
}

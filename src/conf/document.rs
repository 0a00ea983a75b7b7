//! What a configuration file says, before inheritance: the same for both formats.

use std::ops::Range;
use std::path::PathBuf;

use super::address::{Address, AddressError};
use super::model::{FENCE_TIMEOUT_MAX_S, SandboxMode};
use crate::terms::{
    Checksum, Compression, DriverChoice, RESOURCE_NAME_MAX_BYTES, Replication, SyncRate,
};

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// Length of a path at most, in bytes (`PATH_MAX` of FreeBSD less its NUL).
pub(super) const PATH_MAX_BYTES: usize = 1023;

/// Length of an account's name at most, in bytes (FreeBSD's `MAXLOGNAME` less its NUL).
const USER_MAX_BYTES: usize = 32;

/// The words that begin a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Control,
    Pidfile,
    Listen,
    Devices,
    State,
    User,
    Sandbox,
    Driver,
    Replication,
    Checksum,
    Compression,
    Timeout,
    Exec,
    Fence,
    Fencetimeout,
    Metaflush,
    Syncrate,
    Name,
    Local,
    Remote,
    Source,
    On,
    Resource,
}

impl Keyword {
    pub(super) const ALL: [Keyword; 23] = [
        Keyword::Control,
        Keyword::Pidfile,
        Keyword::Listen,
        Keyword::Devices,
        Keyword::State,
        Keyword::User,
        Keyword::Sandbox,
        Keyword::Driver,
        Keyword::Replication,
        Keyword::Checksum,
        Keyword::Compression,
        Keyword::Timeout,
        Keyword::Exec,
        Keyword::Fence,
        Keyword::Fencetimeout,
        Keyword::Metaflush,
        Keyword::Syncrate,
        Keyword::Name,
        Keyword::Local,
        Keyword::Remote,
        Keyword::Source,
        Keyword::On,
        Keyword::Resource,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Keyword::Control => "control",
            Keyword::Pidfile => "pidfile",
            Keyword::Listen => "listen",
            Keyword::Devices => "devices",
            Keyword::State => "state",
            Keyword::User => "user",
            Keyword::Sandbox => "sandbox",
            Keyword::Driver => "driver",
            Keyword::Replication => "replication",
            Keyword::Checksum => "checksum",
            Keyword::Compression => "compression",
            Keyword::Timeout => "timeout",
            Keyword::Exec => "exec",
            Keyword::Fence => "fence",
            Keyword::Fencetimeout => "fencetimeout",
            Keyword::Metaflush => "metaflush",
            Keyword::Syncrate => "syncrate",
            Keyword::Name => "name",
            Keyword::Local => "local",
            Keyword::Remote => "remote",
            Keyword::Source => "source",
            Keyword::On => "on",
            Keyword::Resource => "resource",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Keyword> {
        Keyword::ALL
            .into_iter()
            .find(|keyword| keyword.as_str() == name)
    }

    /// What follows the keyword.
    pub(super) const fn argument(self) -> &'static str {
        match self {
            Keyword::Control | Keyword::Listen | Keyword::Source => "an address",
            Keyword::Remote => "an address or none",
            Keyword::Pidfile | Keyword::Exec | Keyword::Local => "a path",
            Keyword::Devices | Keyword::State => "the path of a directory",
            Keyword::User => "the name of an account",
            Keyword::Sandbox => "require or best-effort",
            Keyword::Driver => "auto, threads or uring",
            Keyword::Replication => "memsync, fullsync or async",
            Keyword::Checksum => "none, crc32 or sha256",
            Keyword::Compression => "none, hole or lzf",
            Keyword::Fence => "a path or none",
            Keyword::Timeout | Keyword::Fencetimeout => "a number of seconds",
            Keyword::Metaflush => "on or off",
            Keyword::Syncrate => {
                "bytes per second with a suffix k, M or G, or unlimited or adaptive"
            }
            Keyword::Name => "the name of a provider",
            Keyword::On => "the name of a node",
            Keyword::Resource => "the name of a resource",
        }
    }
}

/// Where in the file a statement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Global,
    GlobalNode,
    Resource,
    ResourceNode,
}

impl Level {
    pub(super) fn allows(self, keyword: Keyword) -> bool {
        use Keyword as K;
        match self {
            Level::Global => !matches!(keyword, K::Name | K::Local | K::Remote | K::Source),
            Level::GlobalNode => {
                matches!(
                    keyword,
                    K::Control | K::Pidfile | K::Listen | K::Devices | K::State
                )
            }
            Level::Resource => matches!(
                keyword,
                K::Replication
                    | K::Checksum
                    | K::Compression
                    | K::Timeout
                    | K::Exec
                    | K::Fence
                    | K::Fencetimeout
                    | K::Metaflush
                    | K::Syncrate
                    | K::Name
                    | K::Local
                    | K::On
            ),
            Level::ResourceNode => matches!(
                keyword,
                K::Name | K::Local | K::Metaflush | K::Remote | K::Source
            ),
        }
    }

    /// The statements of this level, in words that follow "expected".
    pub(super) fn statements(self) -> String {
        let words: Vec<_> = Keyword::ALL
            .into_iter()
            .filter(|&keyword| self.allows(keyword))
            .map(Keyword::as_str)
            .collect();
        let place = match self {
            Level::Global => "outside of sections",
            Level::GlobalNode => "in a node section",
            Level::Resource => "in a resource",
            Level::ResourceNode => "in a node section of a resource",
        };
        format!("one of {} ({place})", words.join(", "))
    }
}

/// The statements of one section; what it does not say is absent.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) control: Option<Address>,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) listen: Vec<Address>,
    pub(super) devices: Option<PathBuf>,
    pub(super) state: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) sandbox: Option<SandboxMode>,
    pub(super) driver: Option<DriverChoice>,
    pub(super) replication: Option<Replication>,
    pub(super) checksum: Option<Checksum>,
    pub(super) compression: Option<Compression>,
    pub(super) timeout_s: Option<u32>,
    pub(super) exec: Option<PathBuf>,
    /// `Some(None)` is `none`.
    pub(super) fence: Option<Option<PathBuf>>,
    pub(super) fence_timeout_s: Option<u32>,
    pub(super) metaflush: Option<bool>,
    pub(super) syncrate: Option<SyncRate>,
    pub(super) provname: Option<String>,
    pub(super) local: Option<PathBuf>,
    /// `Some(None)` is `none`.
    pub(super) remote: Option<Option<Address>>,
    pub(super) source: Option<Address>,
}

/// A section for a node.
#[derive(Debug)]
pub(super) struct NodeSection {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) settings: Settings,
}

/// A section for a resource.
#[derive(Debug)]
pub(super) struct ResourceSection {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) settings: Settings,
    pub(super) nodes: Vec<NodeSection>,
    /// Errors inside were reported: what seems to be missing may only be wrong.
    pub(super) damaged: bool,
}

/// A whole file.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) settings: Settings,
    pub(super) nodes: Vec<NodeSection>,
    pub(super) resources: Vec<ResourceSection>,
}

/// Why an argument does not do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not in the grammar; in words that follow "near '...':".
    Syntax(&'static str, &'static str),
    /// Something that the original has a sentence for.
    Said(String, &'static str),
}

impl Settings {
    /// Takes in one statement. A later one of the same keyword replaces the former, as in the
    /// original, but `listen` adds up.
    pub(super) fn set(&mut self, keyword: Keyword, text: &str) -> Result<(), Fault> {
        match keyword {
            Keyword::Control => self.control = Some(address(keyword, text)?),
            Keyword::Pidfile => self.pidfile = Some(path(keyword, text)?),
            Keyword::Listen => self.listen.push(address(keyword, text)?),
            Keyword::Devices => self.devices = Some(path(keyword, text)?),
            Keyword::State => self.state = Some(path(keyword, text)?),
            Keyword::User => self.user = Some(user(text)?),
            Keyword::Sandbox => {
                let all = [SandboxMode::Require, SandboxMode::BestEffort];
                self.sandbox = Some(word(keyword, text, all, SandboxMode::as_str)?);
            }
            Keyword::Driver => {
                use DriverChoice as D;
                let all = [D::Auto, D::Threads, D::Uring];
                self.driver = Some(word(keyword, text, all, D::as_str)?);
            }
            Keyword::Replication => {
                use Replication as R;
                let all = [R::Memsync, R::Fullsync, R::Async];
                self.replication = Some(word(keyword, text, all, R::as_str)?);
            }
            Keyword::Checksum => {
                let all = [Checksum::None, Checksum::Crc32, Checksum::Sha256];
                self.checksum = Some(word(keyword, text, all, Checksum::as_str)?);
            }
            Keyword::Compression => {
                let all = [Compression::None, Compression::Hole, Compression::Lzf];
                self.compression = Some(word(keyword, text, all, Compression::as_str)?);
            }
            Keyword::Timeout => self.timeout_s = Some(timeout(text)?),
            Keyword::Exec => self.exec = Some(path(keyword, text)?),
            Keyword::Fence if text == "none" => self.fence = Some(None),
            Keyword::Fence => self.fence = Some(Some(path(keyword, text)?)),
            Keyword::Fencetimeout => self.fence_timeout_s = Some(fence_timeout(text)?),
            Keyword::Metaflush => {
                let name = |on| if on { "on" } else { "off" };
                self.metaflush = Some(word(keyword, text, [true, false], name)?);
            }
            Keyword::Syncrate => self.syncrate = Some(syncrate(text)?),
            Keyword::Name => self.provname = Some(component_name("name argument", text)?),
            Keyword::Local => self.local = Some(path(keyword, text)?),
            Keyword::Remote if text == "none" => self.remote = Some(None),
            Keyword::Remote => self.remote = Some(Some(address(keyword, text)?)),
            Keyword::Source => self.source = Some(address(keyword, text)?),
            Keyword::On | Keyword::Resource => {
                return Err(Fault::Syntax("not a statement", "a section in braces"));
            }
        }
        Ok(())
    }
}

fn too_long(what: &str, expected: &'static str) -> Fault {
    Fault::Said(format!("{what} is too long."), expected)
}

fn address(keyword: Keyword, text: &str) -> Result<Address, Fault> {
    printable(text)?;
    text.parse().map_err(|error: AddressError| match error {
        AddressError::TooLong => {
            too_long(&format!("{} argument", keyword.as_str()), error.expected())
        }
        AddressError::Empty => Fault::Syntax("empty address", error.expected()),
        AddressError::Protocol => Fault::Syntax("unknown protocol", error.expected()),
        AddressError::Host => Fault::Syntax("not a host name or IP address", error.expected()),
        AddressError::Family => Fault::Syntax("address of the other family", error.expected()),
        AddressError::Port => Fault::Syntax("not a port", error.expected()),
        AddressError::Bracket => Fault::Syntax("brackets do not match", error.expected()),
        AddressError::Character => Fault::Syntax("control character", error.expected()),
    })
}

fn path(keyword: Keyword, text: &str) -> Result<PathBuf, Fault> {
    if text.is_empty() {
        return Err(Fault::Syntax("empty path", "a path"));
    }
    if text.len() > PATH_MAX_BYTES {
        let what = format!("{} argument", keyword.as_str());
        return Err(too_long(&what, "at most 1023 bytes"));
    }
    printable(text)?;
    Ok(PathBuf::from(text))
}

/// Refuses what no name or path of people holds, and the mark of what was not UTF-8.
fn printable(text: &str) -> Result<(), Fault> {
    let wrong =
        |character: char| character.is_control() || character == char::REPLACEMENT_CHARACTER;
    if text.chars().any(wrong) {
        let expected = "printable characters in UTF-8";
        return Err(Fault::Syntax("control character or not UTF-8", expected));
    }
    Ok(())
}

/// A resource's or provider's name: part of a path below /dev/hast/, so nothing that leads out.
pub(super) fn component_name(what: &str, text: &str) -> Result<String, Fault> {
    if text.len() > RESOURCE_NAME_MAX_BYTES {
        return Err(too_long(what, "at most 254 bytes"));
    }
    printable(text)?;
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Fault::Syntax(
            "not a name",
            "a name, in which no part between slashes is empty, . or ..",
        ));
    }
    Ok(text.to_owned())
}

/// A node's name.
pub(super) fn node_name(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(Fault::Syntax("empty name", "the name of a node"));
    }
    if text.len() > RESOURCE_NAME_MAX_BYTES {
        return Err(too_long("Node name", "at most 254 bytes"));
    }
    printable(text)?;
    Ok(text.to_owned())
}

fn user(text: &str) -> Result<String, Fault> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.len() > USER_MAX_BYTES {
        return Err(too_long("user argument", "at most 32 bytes"));
    }
    if text.is_empty() || text.starts_with('-') || !text.bytes().all(fits) {
        return Err(Fault::Syntax(
            "not the name of an account",
            "letters, digits and . _ -",
        ));
    }
    Ok(text.to_owned())
}

fn word<T: Copy, const N: usize>(
    keyword: Keyword,
    text: &str,
    all: [T; N],
    name: impl Fn(T) -> &'static str,
) -> Result<T, Fault> {
    all.into_iter()
        .find(|&value| name(value) == text)
        .ok_or(Fault::Syntax("unknown word", keyword.argument()))
}

fn timeout(text: &str) -> Result<u32, Fault> {
    const RANGE: &str = "a number of seconds, from 1 to 2147483647";
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::Syntax("not a number", RANGE));
    }
    if digits.len() < text.len() || digits.bytes().all(|byte| byte == b'0') {
        return Err(Fault::Said("Negative or zero timeout.".to_owned(), RANGE));
    }
    digits
        .parse()
        .ok()
        .filter(|seconds| i32::try_from(*seconds).is_ok())
        .ok_or_else(|| Fault::Said("Timeout is too large.".to_owned(), RANGE))
}

/// Bounded by the patience of hastctl, which waits for the answer.
fn fence_timeout(text: &str) -> Result<u32, Fault> {
    let seconds = timeout(text)?;
    if seconds > FENCE_TIMEOUT_MAX_S {
        let expected = "a number of seconds, from 1 to 300";
        return Err(Fault::Said("Timeout is too large.".to_owned(), expected));
    }
    Ok(seconds)
}

fn syncrate(text: &str) -> Result<SyncRate, Fault> {
    const FORM: &str =
        "bytes per second, at least 1, with a suffix k, M or G, or unlimited or adaptive";
    SyncRate::parse(text).ok_or(Fault::Syntax("not a rate", FORM))
}

//! What is between the nodes: cut, slowed down, measured.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::unistd::geteuid;

use super::Side;
use super::namespace::Namespace;
use super::proxy::Proxy;

/// Where daemons listen.
pub const PORT: u16 = 8457;

/// The interface of each namespace.
const INTERFACE: &str = "veth";

/// What is wrong with a test that wants to cut a direct link.
const UNCUTTABLE: &str = "nothing is between these nodes that could be cut";

/// An address that no peer has.
const WRONG_ETHERNET: &str = "02:00:00:00:00:fe";

/// Sends to [`WRONG_ETHERNET`] get lost without a word.
const FOREIGN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);

/// The link between two nodes.
#[derive(Debug)]
pub enum Link {
    /// A veth pair between two network namespaces.
    Namespaces([Namespace; 2]),
    /// Loopback addresses with a proxy in front of each node.
    Proxies {
        /// The nodes' own addresses, then those that their peers connect to.
        addresses: [[Ipv4Addr; 2]; 2],
        /// In front of each node.
        proxies: [Proxy; 2],
    },
    /// The nodes' own loopback addresses, and nothing in between: for measurements.
    Direct([Ipv4Addr; 2]),
}

impl Link {
    /// Namespaces where the system allows them, otherwise proxies; `HAST_NET=loopback` asks for
    /// these.
    pub fn new() -> Link {
        let wanted = std::env::var("HAST_NET").is_ok_and(|net| net == "loopback");
        if geteuid().is_root() && !wanted {
            match Link::namespaces() {
                Ok(link) => return link,
                Err(error) => println!("no network namespaces here, so loopback: {error}"),
            }
        }
        Link::proxies(Duration::ZERO)
    }

    /// Loopback addresses that reach each other without any detour, whoever asks.
    pub fn direct() -> Link {
        Link::Direct(loopback_addresses().map(|[own, _]| own))
    }

    /// Loopback addresses with proxies that add a round trip of `rtt`, half of it each way.
    ///
    /// # Panics
    /// If this host has no loopback addresses.
    pub fn delayed(rtt: Duration) -> Link {
        Link::proxies(rtt / 2)
    }

    fn namespaces() -> io::Result<Link> {
        let nodes = [Namespace::new()?, Namespace::new()?];
        let peer = nodes[1].path();
        nodes[0].ip(&format!(
            "link add {INTERFACE} type veth peer name {INTERFACE} netns {peer}"
        ))?;
        let link = Link::Namespaces(nodes);
        if let Link::Namespaces(nodes) = &link {
            for side in Side::BOTH {
                let address = link.address(side);
                nodes[side.index()].ip(&format!("addr add {address}/24 dev {INTERFACE}"))?;
                nodes[side.index()].ip(&format!("link set {INTERFACE} up"))?;
            }
            nodes[1].ip(&format!("addr add {FOREIGN}/24 dev {INTERFACE}"))?;
        }
        Ok(link)
    }

    /// # Panics
    /// If this host has no loopback addresses.
    fn proxies(delay: Duration) -> Link {
        let addresses = loopback_addresses();
        let proxies = Side::BOTH.map(|side| {
            let [own, front] = addresses[side.index()];
            let [_, source] = addresses[side.other().index()];
            Proxy::start(front, PORT, source, own, delay)
                .unwrap_or_else(|error| panic!("proxy on {front}:{PORT}: {error}"))
        });
        Link::Proxies { addresses, proxies }
    }

    /// Whether the nodes have networks of their own.
    pub fn is_real(&self) -> bool {
        matches!(self, Link::Namespaces(_))
    }

    /// The node's own address: where it listens.
    pub fn address(&self, side: Side) -> Ipv4Addr {
        match self {
            Link::Namespaces(_) => match side {
                Side::Alpha => Ipv4Addr::new(10, 77, 0, 1),
                Side::Beta => Ipv4Addr::new(10, 77, 0, 2),
            },
            Link::Proxies { addresses, .. } => addresses[side.index()][0],
            Link::Direct(addresses) => addresses[side.index()],
        }
    }

    /// Where its peer finds it.
    pub fn reached_at(&self, side: Side) -> Ipv4Addr {
        match self {
            Link::Namespaces(_) | Link::Direct(_) => self.address(side),
            Link::Proxies { addresses, .. } => addresses[side.index()][1],
        }
    }

    /// The address that the node has to connect from, where the system would choose another.
    pub fn source(&self, side: Side) -> Option<Ipv4Addr> {
        match self {
            Link::Namespaces(_) | Link::Proxies { .. } => None,
            Link::Direct(_) => Some(self.address(side)),
        }
    }

    /// Does something in the network of a node.
    ///
    /// # Panics
    /// If that cannot be entered.
    pub fn at<T: Send>(&self, side: Side, act: impl FnOnce() -> T + Send) -> T {
        match self {
            Link::Namespaces(nodes) => nodes[side.index()]
                .inside(act)
                .unwrap_or_else(|error| panic!("network of {side}: {error}")),
            Link::Proxies { .. } | Link::Direct(_) => act(),
        }
    }

    /// Nothing gets through any more, in silence.
    ///
    /// # Panics
    /// If there is nothing in between that could be cut, here and in [`Link::restore`].
    pub fn cut(&self) {
        match self {
            Link::Namespaces(nodes) => must(nodes[0].ip(&format!("link set {INTERFACE} down"))),
            Link::Proxies { proxies, .. } => proxies.iter().for_each(|proxy| proxy.hold(true)),
            Link::Direct(_) => panic!("{UNCUTTABLE}"),
        }
    }

    /// Everything gets through again, also after [`Link::cut_one_way`].
    pub fn restore(&self) {
        match self {
            Link::Namespaces(nodes) => {
                must(nodes[0].ip(&format!("link set {INTERFACE} up")));
                for side in Side::BOTH {
                    let peer = self.address(side.other());
                    // There is none if the link was cut in both directions.
                    let _ = nodes[side.index()].ip(&format!("neigh del {peer} dev {INTERFACE}"));
                }
            }
            Link::Proxies { proxies, .. } => proxies.iter().for_each(|proxy| proxy.hold(false)),
            Link::Direct(_) => panic!("{UNCUTTABLE}"),
        }
    }

    /// What that node sends is lost, what it is sent arrives. False: not possible here.
    pub fn cut_one_way(&self, from: Side) -> bool {
        match self {
            Link::Namespaces(nodes) => {
                let peer = self.address(from.other());
                must(nodes[from.index()].ip(&format!(
                    "neigh replace {peer} lladdr {WRONG_ETHERNET} dev {INTERFACE} nud permanent"
                )));
                true
            }
            Link::Proxies { .. } | Link::Direct(_) => false,
        }
    }

    /// Breaks connections as a peer that resets them does. False: not possible here.
    pub fn reset(&self) -> bool {
        match self {
            Link::Namespaces(_) | Link::Direct(_) => false,
            Link::Proxies { proxies, .. } => {
                proxies.iter().for_each(Proxy::reset);
                true
            }
        }
    }

    /// Limits what each node sends, in bits per second; `None`: no limit. False: not possible
    /// here.
    pub fn limit(&self, rate: Option<u64>) -> bool {
        let Link::Namespaces(nodes) = self else {
            return false;
        };
        nodes.iter().all(|node| {
            let done = match rate {
                Some(rate) => node.run(
                    "tc",
                    &format!(
                        "qdisc replace dev {INTERFACE} root tbf rate {rate} burst 64kb latency 400ms"
                    ),
                ),
                None => node.run("tc", &format!("qdisc del dev {INTERFACE} root")),
            };
            done.inspect_err(|error| println!("{error}")).is_ok()
        })
    }

    /// Bytes that travelled so far, in both directions; 0 where nobody counts.
    pub fn bytes(&self) -> u64 {
        match self {
            Link::Namespaces(_) => self.at(Side::Alpha, interface_bytes),
            Link::Proxies { proxies, .. } => proxies.iter().map(Proxy::bytes).sum(),
            Link::Direct(_) => 0,
        }
    }

    /// A connection to a node from an address that is no peer's.
    ///
    /// # Errors
    /// The node cannot be reached.
    pub fn connect_as_stranger(&self, to: Side) -> io::Result<TcpStream> {
        let address = self.address(to);
        match self {
            Link::Namespaces(_) => self.at(Side::Beta, || connect_from(FOREIGN, address)),
            Link::Proxies { .. } | Link::Direct(_) => connect_from(Ipv4Addr::LOCALHOST, address),
        }
    }

    /// A connection to a node from its peer's address.
    ///
    /// # Errors
    /// The node cannot be reached.
    pub fn connect_as_peer(&self, to: Side) -> io::Result<TcpStream> {
        let address = self.address(to);
        match self {
            Link::Namespaces(_) => self.at(to.other(), || {
                connect_from(self.address(to.other()), address)
            }),
            Link::Proxies { .. } | Link::Direct(_) => {
                connect_from(self.reached_at(to.other()), address)
            }
        }
    }
}

impl Default for Link {
    fn default() -> Link {
        Link::new()
    }
}

/// Of each node: its own address, and another one for what is in front of it. They are of
/// 127.0.0.0/8, and hardly ever anybody else's.
pub fn loopback_addresses() -> [[Ipv4Addr; 2]; 2] {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id()
        .wrapping_mul(64)
        .wrapping_add(CLUSTERS.fetch_add(1, Ordering::Relaxed));
    let base = 0x7f01_0000 + (number.wrapping_mul(4) % 0x00fe_0000);
    let address = |at: u32| Ipv4Addr::from(base + at);
    [[address(0), address(2)], [address(1), address(3)]]
}

fn must(done: io::Result<()>) {
    done.unwrap_or_else(|error| panic!("{error}"));
}

/// Connects from a certain address of this host.
pub(super) fn connect_from(source: Ipv4Addr, to: Ipv4Addr) -> io::Result<TcpStream> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let at = |address: Ipv4Addr, port| SockaddrIn::from(std::net::SocketAddrV4::new(address, port));
    bind(socket.as_raw_fd(), &at(source, 0))?;
    connect(socket.as_raw_fd(), &at(to, PORT))?;
    let stream = TcpStream::from(socket);
    debug_assert_eq!(stream.local_addr()?.ip(), IpAddr::V4(source));
    Ok(stream)
}

/// Bytes received and sent by the interface of this thread's network.
fn interface_bytes() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev")
        .unwrap_or_else(|error| panic!("/proc/thread-self/net/dev: {error}"));
    let counters = table.lines().find_map(|line| {
        let (name, counters) = line.split_once(':')?;
        (name.trim() == INTERFACE).then_some(counters)
    });
    let counters: Vec<u64> = counters
        .unwrap_or_else(|| panic!("there is no interface {INTERFACE}"))
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    // Received bytes come first, sent ones ninth.
    counters.first().unwrap_or(&0) + counters.get(8).unwrap_or(&0)
}

//! Front ends: how applications reach a resource's data.
//!
//! A front end turns what its clients ask into [`AppRequest`]s and what the engine answers into
//! replies. The worker drives it: it passes on the completions of the front end's operations,
//! takes requests for as long as the engine has room for them, and lets it send once per round of
//! its loop. A front end whose requests are not taken stops reading from its clients.

use crate::engine::event::{AppRequest, BufId, ReqId};
use crate::io::proactor::{Completion, Proactor};
use crate::terms::Errno;

pub mod ggate;
pub mod nbd;
mod slab;

/// A device that applications use.
pub trait FrontEnd {
    /// One of its operations is done; the worker knows them by their tokens.
    fn done(&mut self, io: &mut dyn Proactor, completion: Completion);

    /// The next request for the engine; its buffer is the engine's from now on. To be called only
    /// while the engine has room, and after whatever may have made room: completions, releases.
    fn next_request(&mut self) -> Option<AppRequest>;

    /// The engine has completed a request. A successful read's data are in `buf`; the front end
    /// holds it for as long as it needs it.
    fn complete(&mut self, id: ReqId, result: Result<(), Errno>, buf: Option<BufId>);

    /// Starts sending and receiving what there is. To be called once before each wait.
    fn flush(&mut self, io: &mut dyn Proactor);

    /// Takes no more clients and no more requests; what the engine has is finished and answered.
    fn stop(&mut self, io: &mut dyn Proactor);

    /// Whether the local copy holds all that was acknowledged: a front end whose kernel can read it
    /// without this process may have it do so, and ends that before it returns from this call with
    /// `false`. Returns what the log should tell of it.
    fn local_copy(&mut self, _good: bool) -> Option<String> {
        None
    }

    /// The end will not be that of the role: the device is left for the next worker, with what is
    /// not answered.
    fn hand_over(&mut self) {}

    /// Why the device cannot be served any more, once it cannot; the process should end.
    fn failure(&self) -> Option<&str> {
        None
    }

    /// After [`FrontEnd::stop`]: whether everything is answered and closed.
    fn is_stopped(&self) -> bool;
}

//! A model of the kernel's GEOM gate, for tests: queues, CANCEL, READPROV, the end.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::gate::Gate;
use super::layout::{
    Cancel, Create, Destroy, Io, MODIFY_READOFFSET, MODIFY_READPROV, Modify, UNIT_NAME_GIVEN,
    VERSION,
};

/// How long a test waits for what should happen at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request of an application.
#[derive(Clone, Debug)]
pub(super) struct Bio {
    pub(super) cmd: u32,
    pub(super) offset: i64,
    pub(super) length: i64,
    pub(super) data: Vec<u8>,
}

/// How a request ended: the error, and a read's data.
pub(super) type Outcome = (i32, Vec<u8>);

#[derive(Default)]
struct Unit {
    name: String,
    seq: usize,
    waiting: VecDeque<(usize, Bio)>,
    taken: VecDeque<(usize, Bio)>,
    outcomes: BTreeMap<usize, Outcome>,
    readprov: Option<(String, i64)>,
    starters: usize,
    destroyed: bool,
}

#[derive(Default)]
struct State {
    units: Vec<Unit>,
    /// What the next MODIFY fails with.
    modify_error: Option<i32>,
    /// Calls, by name.
    calls: Vec<&'static str>,
}

/// The kernel.
#[derive(Default)]
pub(super) struct Kernel {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether a delete wants a buffer, as up to FreeBSD 12.
    delete_wants_buffer: bool,
}

fn error<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

fn string(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap();
    String::from_utf8(field[..end].to_vec()).unwrap()
}

impl State {
    fn find(&mut self, unit: i32, name: &[u8]) -> Option<(i32, &mut Unit)> {
        let index = if unit == UNIT_NAME_GIVEN {
            let name = string(name);
            self.units
                .iter()
                .position(|unit| unit.name == name && !unit.destroyed)?
        } else {
            usize::try_from(unit).ok()?
        };
        let found = self.units.get_mut(index).filter(|unit| !unit.destroyed)?;
        Some((i32::try_from(index).unwrap(), found))
    }
}

impl Kernel {
    pub(super) fn new() -> Arc<Kernel> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// An application asks for something of the first provider.
    pub(super) fn submit(&self, cmd: u32, offset: i64, length: i64, data: &[u8]) -> usize {
        let mut state = self.state();
        let unit = &mut state.units[0];
        unit.seq += 1;
        let seq = unit.seq;
        let data = data.to_vec();
        let bio = Bio {
            cmd,
            offset,
            length,
            data,
        };
        unit.waiting.push_back((seq, bio));
        self.changed.notify_all();
        seq
    }

    /// How a request ended, if it has.
    pub(super) fn outcome(&self, seq: usize) -> Option<Outcome> {
        self.state().units[0].outcomes.get(&seq).cloned()
    }

    /// Requests that are queued, and those that were handed out.
    pub(super) fn queues(&self) -> (usize, usize) {
        let state = self.state();
        (state.units[0].waiting.len(), state.units[0].taken.len())
    }

    /// What reads are served from.
    pub(super) fn readprov(&self) -> Option<(String, i64)> {
        self.state().units[0].readprov.clone()
    }

    pub(super) fn is_destroyed(&self) -> bool {
        self.state().units[0].destroyed
    }

    /// A kernel that wants a buffer for a delete.
    pub(super) fn old() -> Arc<Kernel> {
        Arc::new(Kernel {
            delete_wants_buffer: true,
            ..Kernel::default()
        })
    }

    /// What the next MODIFY fails with.
    pub(super) fn refuse_modify(&self, number: i32) {
        self.state().modify_error = Some(number);
    }

    /// The calls since the last time.
    pub(super) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state().calls)
    }

    /// A worker dies: nobody waits in START any more, all else stays. The model's threads take
    /// what they wait for, and it is lost, as it is with a process.
    pub(super) fn take(&self) -> usize {
        let mut state = self.state();
        let unit = &mut state.units[0];
        let (seq, bio) = unit.waiting.pop_front().unwrap();
        unit.taken.push_back((seq, bio));
        seq
    }
}

impl Gate for Kernel {
    fn create(&self, request: &mut Create) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push("create");
        if request.version != VERSION || request.mediasize <= 0 {
            return error(libc::EINVAL);
        }
        if state.find(UNIT_NAME_GIVEN, &request.name).is_some() {
            return error(libc::EEXIST);
        }
        request.unit = i32::try_from(state.units.len()).unwrap();
        state.units.push(Unit {
            name: string(&request.name),
            ..Unit::default()
        });
        Ok(())
    }

    fn cancel(&self, request: &mut Cancel) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push("cancel");
        let Some((number, unit)) = state.find(request.unit, &request.name) else {
            return error(libc::ENXIO);
        };
        request.unit = number;
        while let Some(taken) = unit.taken.pop_back() {
            unit.waiting.push_front(taken);
        }
        self.changed.notify_all();
        Ok(())
    }

    fn modify(&self, request: &mut Modify) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push("modify");
        if let Some(number) = state.modify_error.take() {
            return error(number);
        }
        let Some((_, unit)) = state.find(request.unit, &[0]) else {
            return error(libc::ENXIO);
        };
        if request.modify & MODIFY_READPROV != 0 {
            let name = string(&request.readprov);
            let before = unit.readprov.take();
            if name.ends_with('/') {
                return error(libc::EINVAL);
            }
            // As FreeBSD 13.2 does, at the next request or the next MODIFY.
            assert!(before.is_none() || !name.is_empty(), "the kernel crashes");
            unit.readprov = (!name.is_empty()).then_some((name, 0));
        }
        if request.modify & MODIFY_READOFFSET != 0 {
            match &mut unit.readprov {
                Some((_, offset)) => *offset = request.readoffset,
                None => return error(libc::EINVAL),
            }
        }
        Ok(())
    }

    fn destroy(&self, request: &mut Destroy) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push("destroy");
        let Some((number, unit)) = state.find(request.unit, &request.name) else {
            return error(libc::ENXIO);
        };
        assert_ne!(request.force, 0);
        unit.destroyed = true;
        let left: Vec<usize> = unit
            .waiting
            .drain(..)
            .chain(unit.taken.drain(..))
            .map(|(seq, _)| seq)
            .collect();
        for seq in left {
            unit.outcomes.insert(seq, (libc::ENXIO, Vec::new()));
        }
        self.changed.notify_all();
        let number = usize::try_from(number).unwrap();
        let (_state, waited) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.units[number].starters > 0)
            .unwrap();
        assert!(!waited.timed_out(), "somebody still waits in START");
        Ok(())
    }

    fn start(&self, request: &mut Io, data: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        let Some((number, unit)) = state.find(request.unit, &[0]) else {
            return error(libc::ENXIO);
        };
        unit.starters += 1;
        let number = usize::try_from(number).unwrap();
        let mut state = self
            .changed
            .wait_while(state, |state| {
                let unit = &state.units[number];
                unit.waiting.is_empty() && !unit.destroyed
            })
            .unwrap();
        let unit = &mut state.units[number];
        unit.starters -= 1;
        self.changed.notify_all();
        if unit.destroyed {
            request.error = 85;
            return Ok(());
        }
        let (seq, bio) = unit.waiting.front().unwrap().clone();
        let wants_buffer = bio.cmd == 2 || bio.cmd == 3 && self.delete_wants_buffer;
        request.cmd = bio.cmd;
        request.length = bio.length;
        if wants_buffer && bio.length > i64::try_from(data.len()).unwrap() {
            request.error = 12;
            return Ok(());
        }
        unit.waiting.pop_front();
        request.seq = seq;
        request.offset = bio.offset;
        if bio.cmd == 2 {
            data[..bio.data.len()].copy_from_slice(&bio.data);
        }
        unit.taken.push_back((seq, bio));
        Ok(())
    }

    fn done(&self, request: &mut Io, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let Some((_, unit)) = state.find(request.unit, &[0]) else {
            return error(libc::ENOENT);
        };
        let Some(at) = unit.taken.iter().position(|(seq, _)| *seq == request.seq) else {
            return Ok(());
        };
        let (seq, bio) = unit.taken.remove(at).unwrap();
        if bio.cmd == 1 && request.error == 0 {
            assert_eq!(
                i64::try_from(data.len()).unwrap(),
                bio.length,
                "a read's data are whole"
            );
        } else {
            assert!(data.is_empty());
        }
        assert_ne!(request.error, 35, "EAGAIN is no answer");
        unit.outcomes.insert(seq, (request.error, data.to_vec()));
        self.changed.notify_all();
        Ok(())
    }
}

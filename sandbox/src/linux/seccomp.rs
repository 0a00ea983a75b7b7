//! The system call filter, made from the policy.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::numbers::{LACKING, number};
use super::sys;
use crate::policy::{Check, Features, Kind, Test, Width, rules};
use crate::step::{Outcome, Result};

/// Mode of a thread with a filter (linux/seccomp.h).
const SECCOMP_MODE_FILTER: i32 = 2;

/// Installs the filter of that kind on all threads.
pub(super) fn install(kind: Kind, features: Features) -> Result {
    let program = program(kind, features)?;
    apply_filter_all_threads(&program).map_err(|error| error.to_string())?;
    match sys::seccomp_mode() {
        Ok(SECCOMP_MODE_FILTER) => {
            let count = rules(kind, features).count();
            Ok(Outcome::InForce(Some(format!(
                "{count} rules, anything else kills"
            ))))
        }
        other => Err(format!("prctl says {other:?}")),
    }
}

/// Installs the filter alone, for tests that try it call by call.
#[cfg(feature = "fault-injection")]
pub fn install_filter(kind: Kind, features: Features) -> std::result::Result<(), String> {
    install(kind, features).map(|_| ())
}

/// The filter of a kind.
pub(super) fn program(kind: Kind, features: Features) -> std::result::Result<BpfProgram, String> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules(kind, features) {
        let Some(number) = number(rule.call) else {
            if LACKING.contains(&rule.call) {
                continue;
            }
            return Err(format!("no number is known for the call {}", rule.call));
        };
        let alternatives = alternatives(rule.checks).map_err(|error| error.to_string())?;
        // No alternative means whatever the arguments are: two rules for one call would contradict
        // each other.
        if calls.insert(number, alternatives).is_some() {
            return Err(format!("two rules for the call {}", rule.call));
        }
    }
    let architecture = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|error| format!("no filter for this architecture: {error}"))?;
    let filter = SeccompFilter::new(
        calls,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        architecture,
    )
    .map_err(|error| error.to_string())?;
    BpfProgram::try_from(filter).map_err(|error| error.to_string())
}

/// The rules that together say the same: one for each combination of allowed values.
fn alternatives(
    checks: &[Check],
) -> std::result::Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let mut combinations: Vec<Vec<SeccompCondition>> = if checks.is_empty() {
        Vec::new()
    } else {
        vec![Vec::new()]
    };
    for check in checks {
        let conditions = conditions(check)?;
        combinations = combinations
            .iter()
            .flat_map(|before| {
                conditions.iter().map(move |condition| {
                    let mut longer = before.clone();
                    longer.push(condition.clone());
                    longer
                })
            })
            .collect();
    }
    combinations.into_iter().map(SeccompRule::new).collect()
}

/// The conditions of which one must hold.
fn conditions(
    check: &Check,
) -> std::result::Result<Vec<SeccompCondition>, seccompiler::BackendError> {
    let width = match check.width {
        Width::Word => SeccompCmpArgLen::Dword,
        Width::Long => SeccompCmpArgLen::Qword,
    };
    let condition =
        |operator, value| SeccompCondition::new(check.argument, width.clone(), operator, value);
    match check.test {
        Test::OneOf(values) => values
            .iter()
            .map(|value| condition(SeccompCmpOp::Eq, value.number))
            .collect(),
        Test::Without(bits) => Ok(vec![condition(SeccompCmpOp::MaskedEq(bits.number), 0)?]),
        Test::With(bits) => Ok(vec![condition(
            SeccompCmpOp::MaskedEq(bits.number),
            bits.number,
        )?]),
        Test::OwnProcess => Ok(vec![condition(
            SeccompCmpOp::Eq,
            u64::from(std::process::id()),
        )?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::CALLS;

    #[test]
    fn every_call_of_the_policy_has_a_number() {
        for rule in CALLS {
            assert!(
                number(rule.call).is_some() || LACKING.contains(&rule.call),
                "{}",
                rule.call
            );
        }
    }

    #[test]
    fn every_kind_has_a_filter_that_the_kernel_takes() {
        for kind in Kind::ALL {
            for io_uring in [false, true] {
                let program = program(*kind, Features { io_uring }).unwrap();
                // BPF_MAXINSNS of the kernel.
                assert!(program.len() <= 4096, "{} instructions", program.len());
            }
        }
    }

    #[test]
    fn checks_are_multiplied_out() {
        let rule = CALLS.iter().find(|rule| rule.call == "tgkill").unwrap();
        assert_eq!(alternatives(rule.checks).unwrap().len(), 1);
        let rule = CALLS.iter().find(|rule| rule.call == "fallocate").unwrap();
        assert_eq!(alternatives(rule.checks).unwrap().len(), 3);
        assert!(alternatives(&[]).unwrap().is_empty());
    }
}

use super::super::model::Kernel;
use super::*;

fn config() -> ProviderConfig {
    ProviderConfig {
        name: "hast/data".to_owned(),
        resource: "data".to_owned(),
        bytes: 1 << 30,
        sector_bytes: 512,
        direct: DirectReads::of_path("/dev/da0p3".as_ref(), 12288),
    }
}

fn open(kernel: &Arc<Kernel>) -> Result<(Provider, Origin), GateError> {
    Provider::open(Arc::clone(kernel) as Arc<dyn Gate>, config())
}

fn refused(config: ProviderConfig) -> String {
    match Provider::open(Kernel::new(), config) {
        Ok(_) => panic!("the kernel would refuse"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_the_kernel_cannot_hold_is_refused_by_name() {
    let mut long = config();
    long.name = format!("hast/{}", "x".repeat(250));
    assert!(refused(long).ends_with("too long for a GEOM gate provider (at most 254 bytes)."));
    let mut large = config();
    large.bytes = u64::MAX;
    assert!(refused(large).contains("bytes are too many"));
    let mut empty = config();
    empty.bytes = 0;
    assert_eq!(
        refused(empty),
        "Unable to create device hast/data: Invalid argument."
    );
}

#[test]
fn a_provider_left_behind_is_taken_over_and_reads_come_to_us_at_first() {
    let kernel = Kernel::new();
    let (mut dead, origin) = open(&kernel).unwrap();
    assert_eq!(origin, Origin::Created);
    dead.set_direct_reads(true).unwrap();
    assert_eq!(kernel.readprov(), Some(("da0p3".to_owned(), 12288)));
    kernel.submit(2, 0, 512, &[1; 512]);
    kernel.submit(2, 512, 512, &[2; 512]);
    let first = kernel.take();
    assert_eq!(kernel.queues(), (1, 1));
    kernel.calls();

    let (provider, origin) = open(&kernel).unwrap();
    assert_eq!(origin, Origin::TakenOver);
    assert_eq!(kernel.calls(), ["create", "cancel", "modify", "modify"]);
    assert_eq!((provider.unit, kernel.readprov()), (0, None));
    assert!(!provider.has_direct_reads());
    assert_eq!(kernel.queues(), (2, 0));
    assert_eq!(kernel.take(), first, "in their order");
}

#[test]
fn a_provider_whose_reads_cannot_be_had_is_not_taken_over() {
    let kernel = Kernel::new();
    let (_dead, _) = open(&kernel).unwrap();
    kernel.refuse_modify(libc::EIO);
    let error = open(&kernel).err().unwrap().to_string();
    assert_eq!(
        error,
        "Unable to disable direct reads of hast/data: Input/output error."
    );
}

#[test]
fn the_kernel_is_asked_only_for_changes() {
    let kernel = Kernel::new();
    let (mut provider, _) = open(&kernel).unwrap();
    kernel.calls();
    provider.set_direct_reads(false).unwrap();
    provider.set_direct_reads(true).unwrap();
    provider.set_direct_reads(true).unwrap();
    provider.set_direct_reads(false).unwrap();
    // One that enables, two that disable.
    assert_eq!(kernel.calls(), ["modify", "modify", "modify"]);
}

#[test]
fn a_file_serves_no_direct_reads() {
    assert_eq!(DirectReads::of_path("/var/data".as_ref(), 0), None);
    assert_eq!(DirectReads::of_path("/dev".as_ref(), 0), None);
    let kernel = Kernel::new();
    let config = ProviderConfig {
        direct: None,
        ..config()
    };
    let (mut provider, _) = Provider::open(Arc::clone(&kernel) as Arc<dyn Gate>, config).unwrap();
    provider.set_direct_reads(true).unwrap();
    assert!(!provider.has_direct_reads());
    assert_eq!(kernel.readprov(), None);
}

#[test]
fn the_kernel_is_never_asked_to_read_from_within_a_sector() {
    let kernel = Kernel::new();
    let config = ProviderConfig {
        sector_bytes: 4096,
        direct: DirectReads::of_path("/dev/da0".as_ref(), 4608),
        ..config()
    };
    let (mut provider, _) = Provider::open(Arc::clone(&kernel) as Arc<dyn Gate>, config).unwrap();
    kernel.calls();
    provider.set_direct_reads(true).unwrap();
    assert!(kernel.calls().is_empty());
}

#[test]
fn a_leftover_is_destroyed_if_there_is_one() {
    let kernel = Kernel::new();
    assert!(!destroy_leftover(&*kernel, "hast/data").unwrap());
    let (provider, _) = open(&kernel).unwrap();
    let seq = kernel.submit(1, 0, 512, &[]);
    assert!(destroy_leftover(&*kernel, "hast/data").unwrap());
    assert_eq!(kernel.outcome(seq), Some((libc::ENXIO, Vec::new())));
    provider.destroy().unwrap();
}

#[test]
fn a_provider_that_nobody_has_served_goes_with_its_process() {
    let kernel = Kernel::new();
    drop(open(&kernel).unwrap());
    assert_eq!(kernel.calls(), ["create", "destroy"]);
    let (mut provider, origin) = open(&kernel).unwrap();
    assert_eq!(origin, Origin::Created);
    provider.serve();
    drop(provider);
    assert_eq!(open(&kernel).unwrap().1, Origin::TakenOver);
    assert_eq!(open(&kernel).unwrap().1, Origin::TakenOver);
}

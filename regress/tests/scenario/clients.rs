//! Programs of others use the device.

use std::fs;

use hast_regress::scenario::blockdev::{has, run};
use hast_regress::scenario::rng::Rng;
use hast_regress::scenario::{Cluster, ResourceConf, Side, rounds};

/// The program's output; `None` if it is not installed.
fn tool(program: &str, arguments: &[&str]) -> Option<String> {
    if !has(program) {
        println!("skipped: there is no {program}");
        return None;
    }
    Some(run(program, arguments).unwrap_or_else(|error| panic!("{error}")))
}

fn uri(cluster: &Cluster) -> String {
    format!(
        "nbd+unix:///?socket={}",
        cluster.device(Side::Alpha).display()
    )
}

#[test]
fn nbdinfo_and_nbdcopy_find_what_they_need() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    let uri = uri(&cluster);
    let datasize = cluster.copy(Side::Alpha).metadata.datasize;
    if let Some(said) = tool("nbdinfo", &["--size", &uri]) {
        assert_eq!(said, datasize.to_string());
    }
    let image = cluster.dir().join("image");
    let back = cluster.dir().join("back");
    let mut rng = Rng::new(3);
    let mut bytes = vec![0; usize::try_from(datasize).unwrap()];
    // Noise and holes in turn.
    for piece in bytes.chunks_mut(65536).step_by(2) {
        piece.fill_with(|| rng.number().to_le_bytes()[0]);
    }
    fs::write(&image, &bytes).unwrap();
    let (image, back) = (image.display().to_string(), back.display().to_string());
    if tool("nbdcopy", &[&image, &uri]).is_some() {
        tool("nbdcopy", &[&uri, &back]);
        assert!(fs::read(&back).unwrap() == bytes, "what was copied differs");
        cluster.must_be_equal();
    }
}

#[test]
fn qemu_reads_what_qemu_wrote() {
    let cluster = Cluster::with(ResourceConf::new("data").mode("memsync"));
    let uri = uri(&cluster);
    let commands = [
        "write -P 0xa5 0 1M",
        "write -f -P 0x5a 3M 64k",
        "write -z 512k 64k",
        "discard 4M 1M",
        "flush",
        "read -P 0xa5 0 512k",
        "read -P 0 512k 64k",
        "read -P 0x5a 3M 64k",
    ];
    let arguments: Vec<&str> = ["-f", "raw"]
        .into_iter()
        .chain(commands.iter().flat_map(|command| ["-c", command]))
        .chain([uri.as_str()])
        .collect();
    if let Some(said) = tool("qemu-io", &arguments) {
        assert!(!said.contains("verification failed"), "{said}");
        assert!(!said.contains("error"), "{said}");
        cluster.must_be_equal();
    }
    let image = cluster.dir().join("image").display().to_string();
    if tool("qemu-img", &["convert", "-O", "raw", &uri, &image]).is_some() {
        let said = tool(
            "qemu-img",
            &["compare", "-f", "raw", "-F", "raw", &uri, &image],
        );
        assert_eq!(said.as_deref(), Some("Images are identical."));
    }
}

#[test]
fn fio_verifies_what_it_wrote() {
    let cluster = Cluster::with(ResourceConf::new("data"));
    let uri = format!("--uri={}", uri(&cluster));
    let loops = format!("--loops={}", rounds(1, 10));
    let arguments = [
        "--name=verify",
        "--ioengine=nbd",
        &uri,
        "--rw=randwrite",
        "--bs=4k",
        "--size=16m",
        "--iodepth=16",
        "--verify=crc32c",
        "--verify_state_save=0",
        &loops,
        "--output-format=terse",
    ];
    if tool("fio", &arguments).is_some() {
        cluster.must_be_equal();
    }
}

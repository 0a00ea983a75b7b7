//! Metadata areas that the original wrote: ours reads and writes the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hast::disk::layout::{Geometry, METADATA_LEN, Metadata};
use hast::disk::metadata::{decode, encode};
use hast::wire::nv::Block;
use hast_regress::programs::program;

/// One of the original's images and what the text beside it says.
struct Image {
    name: String,
    /// Metadata and bitmap, or their first 8192 bytes.
    bytes: Vec<u8>,
    mediasize: u64,
    /// The command line, or what was done to the nodes.
    how: String,
    fields: BTreeMap<String, String>,
    dirty: Vec<u64>,
    mapsize: u64,
    dump: String,
}

impl Image {
    fn read(text_path: &Path) -> Image {
        let text = fs::read_to_string(text_path).unwrap();
        let bytes = fs::read(text_path.with_extension("bin"))
            .or_else(|_| fs::read(text_path.with_extension("head.bin")))
            .unwrap();
        let line = |start: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(start))
                .unwrap_or_else(|| panic!("{start} in {}", text_path.display()))
                .trim()
        };
        let map = line("localoff: ").split_once("bitmap bytes ").unwrap().1;
        let dirty = line("dirty extents in the on-disk bitmap: ");
        Image {
            name: text_path.file_stem().unwrap().to_str().unwrap().to_owned(),
            bytes,
            mediasize: line("provider size: ").parse().unwrap(),
            how: line("how: ").to_owned(),
            fields: text
                .lines()
                .filter_map(|line| {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    match words[..] {
                        [name, "string" | "uint32" | "uint64", value] => {
                            Some((name.to_owned(), value.to_owned()))
                        }
                        _ => None,
                    }
                })
                .collect(),
            dirty: dirty
                .trim_matches(['[', ']'])
                .split(", ")
                .filter(|number| !number.is_empty())
                .map(|number| number.parse().unwrap())
                .collect(),
            mapsize: map.trim_end_matches(')').parse().unwrap(),
            dump: text[text.find("\nresource: ").unwrap() + 1..].to_owned(),
        }
    }

    fn block(&self) -> &[u8; METADATA_LEN] {
        self.bytes.first_chunk().unwrap()
    }

    fn metadata(&self) -> Metadata {
        let geometry = Geometry {
            mediasize: self.mediasize,
            sectorsize: 512,
        };
        decode(self.block(), geometry).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn fresh(&self) -> bool {
        self.name.starts_with("fresh-")
    }
}

fn images() -> Vec<Image> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/metadata");
    let mut texts: Vec<PathBuf> = fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    texts.sort();
    let images: Vec<Image> = texts.iter().map(|path| Image::read(path)).collect();
    assert_eq!(images.len(), 26);
    images
}

/// A directory with a configuration of the resource `test` on a sparse provider of that length.
fn world(mediasize: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display();
    let conf = format!("resource test {{ on nodea {{ local {here}/a.img remote none }} }}\n");
    fs::write(dir.path().join("hast.conf"), conf).unwrap();
    let provider = fs::File::create(dir.path().join("a.img")).unwrap();
    provider.set_len(mediasize).unwrap();
    dir
}

fn hastctl(dir: &Path, command: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program("hastctl"))
        .args([command, "-N", "nodea", "-c"])
        .arg(dir.join("hast.conf"))
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {arguments:?}: {stderr}");
    output
}

#[test]
fn every_image_decodes_to_what_its_text_says() {
    for image in images() {
        let metadata = image.metadata();
        let ours = [
            ("resource", metadata.resource.clone()),
            ("datasize", metadata.datasize.to_string()),
            ("extentsize", metadata.extentsize.to_string()),
            ("keepdirty", metadata.keepdirty.to_string()),
            ("offset", metadata.offset.to_string()),
            ("resuid", metadata.resuid.to_string()),
            ("localcnt", metadata.localcnt.to_string()),
            ("remotecnt", metadata.remotecnt.to_string()),
            ("prevrole", metadata.prevrole.as_str().to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        assert_eq!(BTreeMap::from(ours), image.fields, "{}", image.name);
        assert_eq!(metadata.mapsize(), image.mapsize, "{}", image.name);
        assert!(!metadata.inconsistent);
    }
}

#[test]
fn every_bitmap_has_the_dirty_extents_that_its_text_says() {
    for image in images() {
        let dirty: Vec<u64> = (0..image.metadata().extents())
            .filter(|&extent| {
                let byte = usize::try_from(extent / 8).unwrap();
                // What was cut off is zeros.
                image
                    .bytes
                    .get(METADATA_LEN + byte)
                    .is_some_and(|byte| byte & (1 << (extent % 8)) != 0)
            })
            .collect();
        assert_eq!(dirty, image.dirty, "{}", image.name);
    }
}

#[test]
fn fresh_blocks_encode_to_the_same_bytes() {
    for image in images().iter().filter(|image| image.fresh()) {
        assert!(
            encode(&image.metadata()) == Box::new(*image.block()),
            "{}",
            image.name
        );
    }
}

#[test]
fn lived_in_blocks_encode_to_the_same_but_for_the_padding_of_names() {
    for image in images().iter().filter(|image| !image.fresh()) {
        let ours = encode(&image.metadata());
        let ours = Block::parse(ours.as_slice()).unwrap();
        let original = Block::parse(image.block()).unwrap();
        assert!(ours.entries().eq(original.entries()), "{}", image.name);
        assert_eq!(ours.as_bytes().len(), original.as_bytes().len());
    }
}

#[test]
fn create_writes_what_the_original_wrote() {
    let images = images();
    let fresh: Vec<&Image> = images.iter().filter(|image| image.fresh()).collect();
    assert_eq!(fresh.len(), 10);
    for image in fresh {
        let dir = world(image.mediasize);
        let arguments: Vec<&str> = image
            .how
            .strip_prefix("hastctl create")
            .unwrap()
            .split_whitespace()
            .collect();
        hastctl(dir.path(), "create", &arguments);
        let provider = fs::File::open(dir.path().join("a.img")).unwrap();
        let length = usize::try_from(METADATA_LEN as u64 + image.mapsize).unwrap();
        let mut ours = vec![0; length];
        provider.read_exact_at(&mut ours, 0).unwrap();
        let mut original = image.bytes.clone();
        original.resize(length, 0);
        assert!(ours == original, "{}", image.name);
        assert_eq!(provider.metadata().unwrap().len(), image.mediasize);
    }
}

#[test]
fn dump_prints_what_the_original_printed() {
    for image in images() {
        let dir = world(image.mediasize);
        let provider = fs::OpenOptions::new()
            .write(true)
            .open(dir.path().join("a.img"))
            .unwrap();
        provider.write_all_at(&image.bytes, 0).unwrap();
        let output = hastctl(dir.path(), "dump", &[]);
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            image.dump,
            "{}",
            image.name
        );
    }
}

#[test]
fn creating_again_with_dirty_extents_leaves_none() {
    let images = images();
    let lived = images
        .iter()
        .find(|image| image.name == "life-04-primary-stopped-a")
        .unwrap();
    let dir = world(lived.mediasize);
    let path = dir.path().join("a.img");
    let provider = fs::OpenOptions::new().write(true).open(&path).unwrap();
    provider.write_all_at(&lived.bytes, 0).unwrap();
    hastctl(dir.path(), "create", &["test"]);
    let fresh = images
        .iter()
        .find(|image| image.name == "fresh-64M")
        .unwrap();
    let ours = fs::read(&path).unwrap();
    assert!(ours[..fresh.bytes.len()] == fresh.bytes);
}

// SPDX-License-Identifier: Apache-2.0
//! The image, and that the binary asks for no more than it gives.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ringway_tests::gateway::{ADMIN_PORT, binary, repository};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::outside::Folder;
use ringway_tests::{Client, PATIENCE, address, python, wait_until};

#[test]
fn its_linter_has_nothing_to_say() {
    let file = repository().join("deploy/Dockerfile");
    let output = Command::new(python::program("hadolint").unwrap()).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
    // It builds with the toolchain of the repository.
    let toolchain = fs::read_to_string(repository().join("rust-toolchain.toml")).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let from = text.lines().find_map(|line| line.strip_prefix("FROM rust:")).unwrap();
    let version = from.split('-').next().unwrap();
    assert!(toolchain.contains(&format!("channel = \"{version}")), "{version}");
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As the image and the chart run it: user 8888, no capability, nothing to write to.
#[test]
fn it_serves_as_nobody_on_a_read_only_root() {
    let become_nobody = "mount -o remount,bind,ro / && exec setpriv --reuid=8888 --regid=8888 \
                         --clear-groups --bounding-set=-all --no-new-privs \"$@\"";
    serves_as_nobody(become_nobody, binary().unwrap());
}

/// The same with the image's own binary, in a root that holds nothing else. To be repeated with
/// `cargo test -p ringway-tests --test it -- --ignored alone_in_its_image`.
#[test]
#[ignore = "builds a release, minutes long"]
fn it_serves_alone_in_its_image() {
    let built = Command::new(repository().join("deploy/static")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let path = repository().join(String::from_utf8(built.stdout).unwrap().trim());
    let linked = Command::new("ldd").arg(&path).output().unwrap();
    let linked = [linked.stdout, linked.stderr].concat();
    let linked = String::from_utf8_lossy(&linked);
    assert!(linked.contains("statically linked") || linked.contains("not a dynamic"), "{linked}");
    // Manifests are in /tmp here, and the binary where it was built: both are shown inside.
    let enter = "root=$(mktemp -d) && mount -t tmpfs tmpfs $root && mkdir -p $root/proc $root/tmp \
                 $root/usr/local/bin && cp \"$1\" $root/usr/local/bin/ringway && mount --bind /proc \
                 $root/proc && mount --bind /tmp $root/tmp && mount -o remount,bind,ro $root/tmp && \
                 mount -o remount,ro $root && shift && exec setpriv --no-new-privs chroot \
                 --userspec=8888:8888 --groups= $root /usr/local/bin/ringway \"$@\"";
    serves_as_nobody(enter, &path);
}

/// Starts a binary by a script, which gets it and its arguments, and asks it.
fn serves_as_nobody(script: &str, binary: &Path) {
    let user = Command::new("id").arg("-u").output().unwrap();
    if user.stdout != b"0\n" {
        eprintln!("left out: serving as user 8888, because only root can become that user");
        return;
    }
    let folder = Folder::new().unwrap();
    let manifests = listener(8080) + &mapping("m", "prefix: /, service: \"192.0.2.20:1\"");
    let file = folder.file("gateway.yaml", &manifests).unwrap();
    let ip = address::fresh();
    let admin = SocketAddr::from((ip, ADMIN_PORT));
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(binary)
        .args([
            "run",
            "-f",
            &file,
            "--admin-addr",
            &admin.to_string(),
            "--workers=1",
            "--pin=false",
        ])
        .env("AMBASSADOR_ENVOY_BIND_ADDRESS", ip.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let process = Process(child);
    let ready = || {
        let mut client = Client::connect(admin, PATIENCE).ok()?;
        Some(client.get("/ambassador/v0/check_ready", "a").ok()?.status)
    };
    wait_until("it is ready", PATIENCE, || ready() == Some(200));
    let of = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", process.0.id())).unwrap();
    assert!(of("status").contains("\nUid:\t8888\t8888\t8888\t8888\n"), "{}", of("status"));
    assert!(of("status").contains("\nCapEff:\t0000000000000000\n"));
    let root = of("mountinfo");
    let root = root.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");
    // Nobody answers behind it; that it says so is enough.
    let mut client = Client::connect((ip, 8080).into(), PATIENCE).unwrap();
    assert_eq!(client.get("/", "a").unwrap().status, 503);
}

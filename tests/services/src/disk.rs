//! A small file system in memory for a server's data, which a test can fill to the last byte and empty again.
//! It must not know what is kept on it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What fills it.
const BALLAST: &str = "ballast";
/// Bytes written at a time.
const PIECE: usize = 64 * 1024;

/// A mounted file system. Whoever removes the directory unmounts it before.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB on an empty directory, which it makes.
    ///
    /// # Panics
    /// When it may not: this takes root, or a sudo that asks for no password.
    pub(crate) fn mount(path: &Path, mib: u32) -> Self {
        fs::create_dir_all(path).unwrap();
        let size = format!("size={mib}m,mode=0777");
        let mut mount = as_root("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path);
        let output = mount.output().expect("mount");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "a test of full disks mounts a tmpfs, which takes root or `sudo -n`: {said}"
        );
        Self {
            path: path.to_owned(),
        }
    }

    /// Writes until nothing more fits.
    ///
    /// # Panics
    /// When it fails for another reason.
    pub fn fill(&self) {
        let path = self.path.join(BALLAST);
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).create(true).open(path).unwrap();
        let mut piece = vec![1; PIECE];
        while !piece.is_empty() {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    piece.truncate(piece.len() / 2);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Removes what [`SmallDisk::fill`] wrote.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn empty(&self) {
        fs::remove_file(self.path.join(BALLAST)).unwrap();
    }
}

/// A command that only root may run.
fn as_root(program: &str) -> Command {
    let mut command = if is_root() {
        Command::new(program)
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", program]);
        command
    };
    command.stdin(Stdio::null());
    command
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

//! A child that does not outlive its parent, however the parent ends.
//! `PR_SET_PDEATHSIG` is not used: it follows the thread that spawned, which a runtime may end at
//! any time, and exists on Linux alone. A pipe breaks when its last holder dies, everywhere.

use std::io;
use std::path::Path;
use tokio::process::Command;

#[cfg(unix)]
pub use unix::Leash;

#[cfg(unix)]
mod unix {
    use super::{Command, Path, io};
    use std::io::{PipeWriter, Write as _, pipe};

    /// The shell becomes the program (so the process id is the program's own) after it left a guard
    /// behind. The guard reads our pipe: a line means that the program ended, the end of the pipe
    /// that we let go of it or died. A stopped program is woken, so that it can end. A file that may
    /// not grow any further is an error to the program that writes it, and does not kill it.
    const LEASHED: &str = r#"
        trap '' XFSZ
        exec 3<&0 </dev/null
        { read -r _ <&3 || { kill -TERM $$; kill -CONT $$; }; } &
        exec "$@" 3<&-"#;

    /// Dropping it asks the program to stop (SIGTERM).
    #[derive(Debug)]
    pub struct Leash(PipeWriter);

    impl Leash {
        /// A command that runs the program on a leash.
        ///
        /// # Errors
        /// When there is no pipe to be had.
        pub fn command(program: &Path) -> io::Result<(Command, Self)> {
            let (reader, writer) = pipe()?;
            let mut command = Command::new("/bin/sh");
            command.args(["-c", LEASHED, "sh"]).arg(program).stdin(reader);
            // A group of its own: Ctrl-C reaches us first, we drain, then the child stops.
            command.process_group(0);
            Ok((command, Self(writer)))
        }

        /// The program has ended: its process id may belong to another by now.
        pub fn release(mut self) {
            if let Err(err) = self.0.write_all(b"\n") {
                // The guard is gone too, which is what was wanted.
                tracing::debug!("the guard of a child ended before it was released: {err}");
            }
        }
    }
}

#[cfg(not(unix))]
pub use other::Leash;

#[cfg(not(unix))]
mod other {
    use super::{Command, Path, io};
    use std::process::Stdio;

    /// Nothing holds the child here: after a hard kill of this process it has to be ended by hand.
    #[derive(Debug)]
    pub struct Leash;

    impl Leash {
        /// A command that runs the program on a leash.
        ///
        /// # Errors
        /// When there is no pipe to be had.
        pub fn command(program: &Path) -> io::Result<(Command, Self)> {
            let mut command = Command::new(program);
            command.stdin(Stdio::null());
            Ok((command, Self))
        }

        /// Nothing to let go of.
        pub fn release(self) {}
    }
}

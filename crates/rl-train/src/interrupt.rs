//! Signals: the first SIGINT or SIGTERM asks a trainer to write a checkpoint and end; a second one ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{Error, Result};

/// Exit code of a run ended by a second signal.
const ENDED_AT_ONCE: i32 = 130;

/// Whether the process was asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Installs the handlers for the rest of the process.
    ///
    /// # Errors
    /// [`Error::Signal`] when the operating system refuses a handler.
    pub fn install() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Order matters: the first signal finds the flag down and only raises it, the second finds it up and exits.
            signal_hook::flag::register_conditional_shutdown(signal, ENDED_AT_ONCE, flag.clone())
                .map_err(Error::Signal)?;
            signal_hook::flag::register(signal, flag.clone()).map_err(Error::Signal)?;
        }
        Ok(Interrupt(flag))
    }

    /// A flag that only [`Interrupt::raise`] sets, for programs that handle signals themselves.
    pub fn manual() -> Self {
        Interrupt::default()
    }

    /// Asks for a clean end.
    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether a clean end was asked for.
    pub fn raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

//! Printing for somebody who may have left.
//!
//! The macros of the standard library panic when nobody reads the output (`cargo xtask test | head`), and what this
//! program has started would then keep running. These stand in for them in all modules.

/// Writes a line to standard output.
macro_rules! println {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        // Whoever closed our output still wants the work done.
        let _ = writeln!(std::io::stdout(), $($what)*);
    }};
}

/// Writes a line to standard error.
macro_rules! eprintln {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($what)*);
    }};
}

//! What must hold for the whole project, read from its files.

mod floors;

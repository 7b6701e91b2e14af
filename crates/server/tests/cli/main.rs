//! The real binary, as a shell sees it: arguments, standard input and output, exit codes, and files.

mod accounts;
mod backups;
mod configuration;
mod receiving;
mod serving;
mod support;

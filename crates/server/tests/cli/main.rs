//! The real binary, as a shell sees it: arguments, standard input and output, exit codes, and files.

mod accounts;
mod configuration;
mod receiving;
mod serving;
mod support;

//! `postrider openapi`: the document that the server also serves at `/api/openapi.json`.

use clap::Args;
use postrider::api::openapi::document;

use super::output::say;

/// Prints the API's OpenAPI document
#[derive(Args)]
pub struct Openapi {}

impl Openapi {
    /// Prints it.
    pub fn run(self) -> anyhow::Result<()> {
        say(&format!("{:#}", document()))
    }
}

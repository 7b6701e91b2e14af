//! stub
pub mod auth {
    #[derive(Default)]
    pub struct Credentials;
    impl Credentials {
        pub fn forget_all(&self) {}
    }
}
pub mod health {
    #[derive(Default)]
    pub struct Readiness;
    impl Readiness {
        pub fn drain(&self) {}
    }
}
pub fn router(_app: std::sync::Arc<crate::app::App>) -> axum::Router {
    axum::Router::new()
}

//! Opening an instance: its data directory, its database, its master key, its first tenant.
//!
//! The server and every command that acts on the data directory come in by this door, several at once if need be: the
//! door is held by a lock on the directory until what a first start makes is there, so that everyone finds the same key
//! and the same tenant. Who may *serve* is another lock, held for as long as the server lives.
//!
//! Where many nodes share a Postgres, each has a directory, for the key's file if for nothing else. The database sees to it
//! that there is one schema, one tenant and one key's check value, however many nodes start at once; and whoever made the
//! instance has its admin token.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use postrider_kernel::{Role, TenantId, TokenId, tenant::DEFAULT_TENANT};
use postrider_store::{
    Actor, By, IdKind, NewTenant, NewToken, Store, Tenant, postgres::PostgresStore,
    sqlite::SqliteStore,
};

use crate::{
    accounts,
    clock::Clock,
    config::{Catalogue, Config, DatabaseUrl},
    vault::{self, KeySource, Place, Vault},
};

/// The database in the data directory.
pub const DATABASE_FILE: &str = "postrider.db";

/// The file with the operator's token, and the token's name.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";

/// The file that the serving process has locked.
pub const SERVE_LOCK_FILE: &str = "serve.lock";

/// An open instance.
pub struct Instance {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Seals and opens secrets.
    pub vault: Arc<Vault>,
    /// Time and entropy.
    pub clock: Arc<dyn Clock>,
    /// Where the files are.
    pub data_dir: PathBuf,
    /// Whether the store is one that many nodes share.
    pub is_shared: bool,
    /// Whether this process made the instance just now.
    pub is_new: bool,
    /// Released when the process ends, however it ends.
    _serve_lock: Option<File>,
}

impl Instance {
    /// Opens an instance, and makes what is missing: directory, database, master key, and the tenant `default` with that
    /// catalogue where there is no tenant yet.
    ///
    /// # Errors
    /// What stands in the way, and what to do about it.
    pub async fn open(
        data_dir: &Path,
        database: Option<&DatabaseUrl>,
        catalogue: &Catalogue,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        make_directory(data_dir)?;
        Self::open_in(data_dir, database, catalogue, clock).await
    }

    /// Opens an instance in a directory that is there.
    async fn open_in(
        data_dir: &Path,
        database: Option<&DatabaseUrl>,
        catalogue: &Catalogue,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let door = hold_the_door(data_dir).await?;
        let store = match database {
            Some(url) => open_shared_store(url).await?,
            None => open_store(data_dir).await?,
        };
        let is_new = store.tenants().await?.is_empty();
        // A database without a tenant holds nothing that was sealed, so that a start which broke off between the
        // database and the key can be made up for.
        let keys = KeySource::find(data_dir);
        let vault = Vault::open(keys, &*store, is_new, clock.clone()).await?;
        let mut instance = Self {
            store,
            vault: Arc::new(vault),
            clock,
            data_dir: data_dir.to_owned(),
            is_shared: database.is_some(),
            is_new,
            _serve_lock: None,
        };
        if is_new {
            let made = instance.create_tenant(DEFAULT_TENANT, catalogue, Actor::Service).await?;
            instance.is_new = made.is_some();
        }
        if instance.is_new && instance.is_shared {
            // Nobody else makes one: the other nodes can't know whether this file is still there.
            instance.ensure_admin_token().await?;
        }
        drop(door);
        Ok(instance)
    }

    /// Opens an instance to serve it. Unless it is shared, nobody else serves this directory for as long as the value lives,
    /// and the admin token's file is there.
    ///
    /// # Errors
    /// As [`Instance::open`]; besides, another server on this directory.
    pub async fn open_to_serve(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        make_directory(&config.data_dir)?;
        let (data_dir, database) = (&config.data_dir, config.database_url.as_ref());
        let lock = match database {
            Some(_) => None,
            None => Some(lock_serving(data_dir)?),
        };
        let mut instance = Self::open_in(data_dir, database, &config.catalogue, clock).await?;
        instance._serve_lock = lock;
        if !instance.is_shared {
            instance.ensure_admin_token().await?;
        }
        Ok(instance)
    }

    /// Makes a tenant with a fresh JWT secret; `None` when the name is taken.
    ///
    /// # Errors
    /// An unusable catalogue, or the store's.
    pub async fn create_tenant(
        &self,
        name: &str,
        catalogue: &Catalogue,
        actor: Actor,
    ) -> anyhow::Result<Option<TenantId>> {
        let catalogue = catalogue.read()?;
        let id = TenantId::new(self.reserve_id(IdKind::Tenant).await?);
        let secret = accounts::new_jwt_secret(&*self.clock);
        let jwt_secret = self.vault.seal(Place::tenant(id), &secret);
        let tenant = NewTenant { id, name: name.to_owned(), jwt_secret, catalogue };
        let is_made = self.store.create_tenant(tenant, self.by(actor)).await?;
        Ok(is_made.then_some(id))
    }

    /// The tenant of that name.
    ///
    /// # Errors
    /// There is none; the error lists those that there are.
    pub async fn tenant(&self, name: &str) -> anyhow::Result<Tenant> {
        let tenants = self.store.tenants().await?;
        if let Some(tenant) = tenants.iter().find(|tenant| tenant.name == name) {
            return Ok(tenant.clone());
        }
        let names: Vec<&str> = tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        bail!(
            "there is no tenant {name}; there are: {}. `postrider tenant create {name}` makes it",
            names.join(", ")
        )
    }

    /// One identifier for a row to make.
    ///
    /// # Errors
    /// The store's.
    pub async fn reserve_id(&self, kind: IdKind) -> anyhow::Result<i64> {
        Ok(self.store.reserve_ids(kind, 1).await?.start)
    }

    /// A change by that actor, now, from this machine.
    pub fn by(&self, actor: Actor) -> By {
        By { actor, address: None, at: self.clock.now() }
    }

    /// Where the admin token is.
    pub fn admin_token_file(&self) -> PathBuf {
        self.data_dir.join(ADMIN_TOKEN_FILE)
    }

    /// Makes the admin token where its file is missing; one that was made earlier then counts no more, since whoever
    /// took the file away may have wanted just that.
    async fn ensure_admin_token(&self) -> anyhow::Result<()> {
        let file = self.admin_token_file();
        if file.exists() {
            return Ok(());
        }
        let tenant = self.tenant(DEFAULT_TENANT).await?.id;
        for old in self.store.tokens(tenant).await? {
            if old.name == ADMIN_TOKEN_FILE && old.revoked_at.is_none() {
                self.store.revoke_token(tenant, old.id, self.by(Actor::Service)).await?;
            }
        }
        let (text, hash) = accounts::new_token(&*self.clock);
        let token = NewToken {
            id: TokenId::new(self.reserve_id(IdKind::Token).await?),
            tenant,
            user: None,
            name: ADMIN_TOKEN_FILE.to_owned(),
            role: Role::Operator,
            hash,
            expires_at: None,
        };
        self.store.create_token(token, self.by(Actor::Service)).await?;
        vault::write_private(&file, text.as_bytes()).map_err(|error| unusable(&file, &error))
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// Makes the data directory, private. One that is there is left as it is, but for a warning when others can look in.
pub fn make_directory(data_dir: &Path) -> anyhow::Result<()> {
    let is_missing = |directory: &&Path| !directory.as_os_str().is_empty() && !directory.exists();
    let made: Vec<&Path> = data_dir.ancestors().take_while(is_missing).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .and_then(|()| made.into_iter().try_for_each(sync_name))
        .map_err(|error| unusable(data_dir, &error))?;
    let mode = std::fs::metadata(data_dir).map_err(|error| unusable(data_dir, &error))?;
    if mode.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            "others on this machine can look into {0}; `chmod 700 {0}` keeps them out",
            data_dir.display()
        );
    }
    Ok(())
}

/// Makes it outlast a power loss that this directory is there: its name is in its parent.
fn sync_name(directory: &Path) -> io::Result<()> {
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Waits until nobody else is opening this instance. The directory itself is locked, so that no file stays behind.
pub(crate) async fn hold_the_door(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.to_owned();
    let locked = tokio::task::spawn_blocking(move || {
        let directory = File::open(path)?;
        directory.lock()?;
        Ok(directory)
    });
    locked.await?.map_err(|error: io::Error| unusable(data_dir, &error))
}

fn lock_serving(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join(SERVE_LOCK_FILE);
    let opened =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = opened.map_err(|error| unusable(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another postrider already serves {0}; stop it first, or give this one a directory of its own with --data-dir",
            data_dir.display()
        ),
        Err(TryLockError::Error(error)) => Err(unusable(&path, &error)),
    }
}

/// Opens the database, off the runtime's threads: a migration may take its time.
async fn open_store(data_dir: &Path) -> anyhow::Result<Arc<dyn Store>> {
    let file = data_dir.join(DATABASE_FILE);
    let path = file.clone();
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await?;
    let store =
        opened.with_context(|| format!("the database {} can't be opened", file.display()))?;
    Ok(Arc::new(store))
}

/// Opens the Postgres that many nodes share.
async fn open_shared_store(url: &DatabaseUrl) -> anyhow::Result<Arc<dyn Store>> {
    let opened = PostgresStore::open(url.reveal()).await;
    Ok(Arc::new(opened.context("the database of --database-url can't be opened")?))
}

/// An IO error with what to do about it.
fn unusable(path: &Path, error: &io::Error) -> anyhow::Error {
    use io::ErrorKind::{
        AlreadyExists, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };
    let advice = match error.kind() {
        PermissionDenied => {
            "give it to the user that runs postrider (chown), or choose another directory with --data-dir"
        }
        ReadOnlyFilesystem => "mount it writable, or choose another directory with --data-dir",
        StorageFull | QuotaExceeded => "make room on that disk",
        AlreadyExists | NotADirectory => {
            "a file stands where the directory should be; choose another directory with --data-dir"
        }
        _ => "--data-dir chooses another directory",
    };
    anyhow::anyhow!("{} can't be used: {error}; {advice}", path.display())
}

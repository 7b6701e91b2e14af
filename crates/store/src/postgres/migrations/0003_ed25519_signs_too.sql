-- An endpoint may ask for Ed25519 signatures, instead of HMAC or beside it. Its private key stands beside each signing
-- secret, encrypted, and is wiped with it; a secret that was made before has none until its endpoint asks for one.
ALTER TABLE endpoint ADD COLUMN signature_algorithms TEXT NOT NULL DEFAULT 'hmac-sha256'
    CONSTRAINT algorithms_are_known
        CHECK (signature_algorithms IN ('hmac-sha256', 'ed25519', 'hmac-sha256 ed25519'));
ALTER TABLE secret ADD COLUMN sealed_key BYTEA;

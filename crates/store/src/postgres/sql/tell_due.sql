SELECT set_config('synchronous_commit', 'off', TRUE), pg_notify('postrider', $1)

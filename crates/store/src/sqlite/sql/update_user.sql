UPDATE user
SET role = :role,
    password_hash = :password_hash,
    is_active = :is_active
WHERE id = :id

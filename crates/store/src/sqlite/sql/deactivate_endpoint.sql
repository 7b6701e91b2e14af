UPDATE endpoint SET is_active = 0, updated_at = :at
WHERE id = :id AND is_active = 1

INSERT INTO id_block (kind, next)
VALUES (:kind, 1 + :count)
ON CONFLICT (kind) DO UPDATE SET next = next + :count
RETURNING next - :count

SELECT NOT EXISTS (
    SELECT FROM node
    WHERE id <> $1 AND signs_until > clock_timestamp() AND applied_version < $2
) AS is_applied
